import json
import os

import numpy as np
import pytest
from helpers import refused
from PIL import Image

import mixer_tf
from mixer_tf import cli
from mixer_tf.predict import predict
from mixer_tf.reading.pictures import read_pictures
from mixer_tf.recipe import Recipe
from mixer_tf.run_config import RunConfig
from mixer_tf.runs import Run

CONFIG = mixer_tf.MixerConfig(1, 8, 4, 16, (4, 4))
NAMES = ("cat", "dog", "frog")


@pytest.fixture
def folder(tmp_path):
    """Pictures of several kinds: grey, with transparency, turned by EXIF, and no picture."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    draws = np.random.default_rng(0)
    colours = draws.integers(0, 256, (12, 20, 4), "uint8")
    Image.fromarray(colours[..., 0]).save(folder / "a_grey.png")
    Image.fromarray(colours, "RGBA").save(folder / "b_clear.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colours[..., :3]).save(folder / "deep" / "turned.jpg", exif=exif)
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def run(tmp_path):
    """A run directory as training leaves it, of a Mixer that was not trained."""
    config = RunConfig(CONFIG, (8, 8, 3), NAMES, "digits", Recipe(), 0, "float32", "")
    run = Run.create(tmp_path / "run", config)
    config.build().save_weights(run.best_file)
    return run.folder


def test_pictures_are_decoded_as_in_training(folder):
    for file, image in read_pictures(folder, (8, 8, 3)):
        assert image.shape == (8, 8, 3)
        assert image.dtype == np.uint8
        if file.name == "turned.jpg":
            with Image.open(file) as picture:
                upright = picture.transpose(Image.Transpose.ROTATE_270)
            expected = np.asarray(upright.resize((8, 8), Image.Resampling.BILINEAR))
            assert np.array_equal(image, expected)
    assert len(list(read_pictures(folder, (8, 8, 3)))) == 3
    assert next(read_pictures(folder / "a_grey.png", (8, 8, 1)))[1].shape == (8, 8, 1)


def test_probabilities_are_those_of_the_logits(folder, run):
    model = Run.open(run).model()
    answers = list(predict(model, NAMES, [folder, folder / "a_grey.png"]))
    assert [a["picture"].rsplit("/", 1)[1] for a in answers] == [
        "a_grey.png",
        "b_clear.png",
        "turned.jpg",
        "a_grey.png",
    ]
    assert answers[0] == answers[3]
    pictures = np.stack([image for _, image in read_pictures(folder, (8, 8, 3))])
    logits = np.asarray(model(pictures.astype("float32")), "float64")
    for answer, row in zip(answers, np.exp(logits)):
        found = {entry["class"]: entry["probability"] for entry in answer["top"]}
        assert sum(found.values()) == pytest.approx(1)
        assert [found[name] for name in NAMES] == pytest.approx(list(row / row.sum()), rel=1e-5)
        shares = [entry["probability"] for entry in answer["top"]]
        assert shares == sorted(shares, reverse=True)


def test_top_and_names(folder, run):
    model = Run.open(run).model()
    (answer,) = predict(model, NAMES, [folder / "a_grey.png"], top=2)
    assert len(answer["top"]) == 2
    with pytest.raises(ValueError, match="2 class names for 3 logits"):
        list(predict(model, NAMES[:2], [folder]))


def test_all_of_many_pictures_are_answered_in_order(run, tmp_path):
    """More than are given to the model at once."""
    names = [f"{i:03}.png" for i in range(70)]
    for i, name in enumerate(names):
        Image.new("RGB", (8, 8), (3 * i, 0, 0)).save(tmp_path / name)
    answers = list(predict(Run.open(run).model(), NAMES, [tmp_path]))
    assert [answer["picture"].rsplit("/", 1)[1] for answer in answers] == names


def test_command(folder, run, capsys):
    with open(os.fsencode(folder) + b"/z\xfe.png", "wb") as file:  # no text in any encoding
        Image.new("RGB", (8, 8)).save(file, "PNG")
    cli.main(["predict", str(run), str(folder), "--json"])
    answers = json.loads(capsys.readouterr().out)
    assert len(answers) == 4
    assert answers[2]["picture"].endswith("/z\udcfe.png")
    assert set(answers[0]) == {"picture", "top"}
    cli.main(["predict", str(run), str(folder / "a_grey.png"), "--top", "1"])
    first, second = capsys.readouterr().out.splitlines()
    assert first == str(folder / "a_grey.png")
    assert second.split()[1:] == ["%", answers[0]["top"][0]["class"]]


@pytest.mark.parametrize("name", ["nothing.png", "notes.txt", "empty"])
def test_one_line_for_what_is_no_picture(folder, run, capsys, name):
    (folder / "empty").mkdir()
    assert name in refused(capsys, "predict", run, folder / name)
