import json
import pathlib
import random
import re
import shutil

import keras
import numpy as np
import pytest
from helpers import refused
from PIL import Image

from mixer_tf import build, figures, visualize
from mixer_tf.cli import main
from mixer_tf.drawing import drawings, shuffling, subject
from mixer_tf.drawing.subject import NotHere, Subject
from mixer_tf.evaluate import predict_logits
from mixer_tf.recipe import Recipe
from mixer_tf.run_config import RunConfig
from mixer_tf.runs import Run
from mixer_tf.sampling import sample
from mixer_tf.variants import MixerConfig

SMALL = MixerConfig(2, 16, 8, 16, (4, 4))
PICTURES = {
    "projections.png",
    "evolution.png",
    "evolution.gif",
    "token_mixing_block_0.png",
    "token_mixing_block_1.png",
    "mixing_distance.png",
    "one_patch.png",
    "curves.png",
    "cost.png",
    "confusion.png",
    "mistakes.png",
    "embedding.png",
    "shuffles.png",
}
RESULT = {
    "parameters": 1234,
    "epochs": 3,
    "test_accuracy": 0.5,
    "test_standard_error": 0.01,
    "test_pictures": 359,
    "train_seconds": 12.0,
    "images_per_second": 120.0,
    "model": "mixer_nano",
    "data": "digits",
    "device": "a processor",
}


def make_run(folder, model, ended=True):
    """A run directory as training leaves it, without the training."""
    names = tuple("0123456789")
    config = RunConfig(model, (16, 16, 1), names, "digits", Recipe(), 0, "float32", "")
    run = Run.create(folder, config)
    built = config.build()
    built.save_weights(run.best_file)
    columns = ("loss", "accuracy", "val_loss", "val_accuracy")
    run.write_history([{"epoch": e, **dict.fromkeys(columns, 0.5 + 0.1 * e)} for e in range(3)])
    if ended:
        run.result_file.write_text(json.dumps(RESULT))
    kernel = built.get_layer("stem").get_weights()[0]
    kernels = np.stack([kernel * s for s in (0.5, 1.0, 2.0)]).astype("float16")
    order = np.arange(kernel.shape[-1])
    np.savez(run.folder / "patch_projections.npz", order=order, epochs=[0, 1, 2], kernels=kernels)
    return run


@pytest.fixture(scope="module")
def mixer(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "small", SMALL)


@pytest.fixture(scope="module")
def page(mixer):
    return visualize.visualize(mixer.folder).read_text("utf-8")


def test_a_mixer_gets_every_figure(mixer, page):
    out = mixer.folder / "figures"
    assert {p.name for p in out.iterdir()} == PICTURES | {"index.html"}
    assert set(re.findall(r'<img src="([^"]+)"', page)) == PICTURES
    assert page.count("What would contradict it") == len(PICTURES)
    assert "the model has 2 blocks" in page  # and so no third is drawn
    assert "50.00 ± 1.00 % of 359" in page
    for name in PICTURES:
        with Image.open(out / name) as picture:
            assert np.asarray(picture.convert("RGB")).std() > 5, name


def test_mistakes_are_those_of_the_test_pictures(mixer, digits, monkeypatch):
    """Found here anew, from the logits of all of them."""
    drawn = {}
    monkeypatch.setattr(figures, "save", lambda *_: None)
    monkeypatch.setattr(figures, "confusion", lambda *given: drawn.update(confusion=given))
    monkeypatch.setattr(figures, "mistakes", lambda *given: drawn.update(mistakes=given))
    whole = Subject(mixer)
    drawings.confusion(whole, None)
    drawings.mistakes(whole, None)
    logits = predict_logits(mixer.model(), digits.test, 10)
    labels, said, names = drawn["confusion"]
    np.testing.assert_array_equal(labels, digits.test.labels)
    np.testing.assert_array_equal(said, logits.argmax(-1))
    images, labels, chances, _ = drawn["mistakes"]
    np.testing.assert_array_equal(images, digits.test.images)
    np.testing.assert_array_equal(labels, digits.test.labels)
    powers = np.exp(logits)
    np.testing.assert_allclose(chances, powers / powers.sum(-1, keepdims=True), atol=1e-5)
    assert list(names) == [str(i) for i in range(10)]


def test_a_convolutional_network_gets_what_it_has(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shuffling, "_MACS", 10)  # its short trainings take long to compile
    run = make_run(tmp_path / "resnet", "resnet20", ended=False)
    main(["visualize", str(run.folder)])
    assert capsys.readouterr().out == f"open {run.folder / 'figures' / 'index.html'}\n"
    drawn = {p.name for p in (run.folder / "figures").iterdir()}
    assert drawn >= {"projections.png", "curves.png", "confusion.png", "embedding.png"}
    assert not any(name.startswith(("token", "one_patch", "mixing", "cost")) for name in drawn)
    text = (run.folder / "figures" / "index.html").read_text("utf-8")
    assert text.count("the model is no Mixer") == 5
    assert "the run has not ended" in text


def test_what_is_missing_is_said_and_the_rest_drawn(mixer, page, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(mixer.folder, folder)
    (folder / "patch_projections.npz").write_bytes(b"damaged")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "data": "/nowhere"}))
    for file in (folder / "figures").iterdir():
        file.write_bytes(b"drawn earlier") if file.name == "mistakes.png" else file.unlink()
    text = visualize.visualize(folder).read_text("utf-8")
    drawn = set(re.findall(r'<img src="([^"]+)"', text))
    assert drawn >= {"projections.png", "mixing_distance.png", "curves.png"}
    assert not drawn & {"evolution.png", "confusion.png", "mistakes.png", "shuffles.png"}
    files = {p.name for p in (folder / "figures").iterdir()}
    assert files == drawn | {"index.html", "mistakes.png"}
    assert (folder / "figures" / "mistakes.png").read_bytes() == b"drawn earlier"
    assert text.count("An earlier drawing is still there: mistakes.png.") == 1
    assert "no patch_projections.npz" in text
    assert "There is no data &#x27;/nowhere&#x27;" in text


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_folder_without_a_run_is_refused_in_one_line(tmp_path, capsys, content):
    if content:
        (tmp_path / "config.json").write_text(content)
    assert str(tmp_path) in refused(capsys, "visualize", tmp_path)
    assert not (tmp_path / "figures").exists()


def test_runs_beside_it_are_compared(mixer, tmp_path, monkeypatch):
    for name in ("small", "twin", "other_data", "damaged", "empty", "closed"):
        (tmp_path / name).mkdir()
        for file in ("config.json", "history.csv", "result.json"):
            shutil.copy(mixer.folder / file, tmp_path / name / file)
    other = tmp_path / "other_data" / "config.json"
    other.write_text(json.dumps({**json.loads(other.read_text()), "data": "cifar10"}))
    for file in ("config.json", "result.json"):
        (tmp_path / "damaged" / file).write_text("{")
    (tmp_path / "empty" / "result.json").write_text("{}")
    with monkeypatch.context() as patch:
        exists = pathlib.Path.exists

        def refusing(path):  # as Python 3.11 does for a folder that others may not look into
            if "closed" in path.parts:
                raise PermissionError(13, "Permission denied", str(path))
            return exists(path)

        patch.setattr(pathlib.Path, "exists", refusing)
        beside = drawings._beside(Subject(Run.open(tmp_path / "small")))
        monkeypatch.chdir(tmp_path / "small")
        dots = drawings._beside(Subject(Run.open("../small")))
    assert [run["name"] for run in beside] == [run["name"] for run in dots] == ["small", "twin"]
    (tmp_path / "small" / "result.json").unlink()
    with pytest.raises(NotHere, match="has not ended"):  # others have, but this is not about them
        drawings._beside(Subject(Run.open(tmp_path / "small")))


def test_a_run_that_is_not_whole_is_drawn_as_far_as_it_goes(mixer, tmp_path, monkeypatch):
    """Killed between its weights and its history, or its result cut short."""
    folder = tmp_path / "copy"
    shutil.copytree(mixer.folder, folder)
    (folder / "history.csv").unlink()
    (folder / "result.json").write_text(json.dumps({**RESULT, "model": None}))
    with pytest.raises(ValueError, match="damaged: model is no text"):
        Run.open(folder).result()
    (folder / "result.json").write_text(json.dumps({**RESULT, "device": None}))
    monkeypatch.setattr(shuffling, "_MACS", 10)
    text = visualize.visualize(folder).read_text("utf-8")
    assert "no history.csv yet" in text
    (folder / "history.csv").write_text("epoch,loss\n0,1.5\n")
    with pytest.raises(ValueError, match="damaged .*no column accuracy, val_loss, val_accuracy"):
        Run.open(folder).history()
    assert "the run has not ended" in text
    assert "% of 359" not in text
    assert (folder / "figures" / "confusion.png").exists()


def test_filters_are_drawn_in_the_order_of_the_file_under_their_numbers(mixer, monkeypatch):
    kernels = np.random.default_rng(0).normal(size=(3, 4, 4, 1, 16)).astype("float32")
    order = np.random.default_rng(1).permutation(16)
    drawn = {}
    monkeypatch.setattr(figures, "save", lambda *_: None)
    monkeypatch.setattr(figures, "evolution", lambda *given: drawn.update(evolution=given))
    monkeypatch.setattr(figures, "animation", lambda *given: drawn.update(animation=given))
    subject = Subject(mixer)
    subject.snapshots = kernels, np.arange(3), order
    drawings.evolution(subject, None)
    drawings.animation(subject, None)
    shown, _, filters = drawn["evolution"]
    assert shown is kernels
    assert list(filters) == [order[i] for i in (0, 2, 3, 5, 7, 8, 10, 12, 13, 15)]
    assert np.array_equal(drawn["animation"][0], kernels[..., order])


@pytest.mark.parametrize(
    "arrays",
    [
        {"kernels": np.ones((0, 4, 4, 1, 8))},
        {"kernels": np.ones((8,))},
        {"kernels": np.ones((2, 4, 4, 1, 8))},
        {"kernels": np.zeros((3, 4, 4, 1, 8), "V2")},
        {"order": np.arange(8.0)},
        {"order": np.arange(8)[:, None]},
        {"order": np.zeros(8, "V2")},
        {"epochs": np.zeros(3, "V2")},
        {"epochs": np.array([0, np.nan, 2])},
    ],
    ids=lambda arrays: next(f"{k}-{v.dtype}-{v.shape}" for k, v in arrays.items()),
)
def test_snapshots_of_another_kind_are_no_figure(tmp_path, arrays):
    run = make_run(tmp_path / "run", "mixer_nano")
    fitting = {"order": np.arange(8), "epochs": [0, 1, 2], "kernels": np.ones((3, 4, 4, 1, 8))}
    np.savez(run.filters_file, **fitting)
    assert Subject(run).snapshots[0].shape == (3, 4, 4, 1, 8)
    np.savez(run.filters_file, **{**fitting, **arrays})
    with pytest.raises(NotHere, match="holds no filters by epoch"):
        _ = Subject(run).snapshots


def test_sample_takes_every_class_of_a_sorted_split(digits):
    order = np.argsort(digits.test.labels, kind="stable")
    images, labels = sample(digits.test.take(order), (16, 16), count=50)
    assert len(images) == 50
    assert set(labels) == set(range(10))
    larger, _ = sample(digits.test, (32, 24), count=5)
    assert larger.shape == (5, 32, 24, 1)


# ---- what the figures claim ----


def test_one_patch_moves_one_token_until_tokens_mix(mixer, monkeypatch):
    seen = {}
    monkeypatch.setattr(figures, "one_patch", lambda *given: seen.update(given=given))
    monkeypatch.setattr(figures, "save", lambda *_: None)
    drawings.one_patch(Subject(mixer), None)
    picture, changed, panels = seen["given"]
    assert np.argwhere((picture != changed).any(-1)).min(0).tolist() == [8, 8]
    stem, tokens, whole, channels_alone, last = (difference for _, difference in panels)
    moved = 2 * 4 + 2  # row 2, column 2 of the grid of 4 x 4
    for difference in (stem, channels_alone):
        assert difference.shape == (16, 16)
        assert np.flatnonzero(difference.max(1) > 0).tolist() == [moved]
    for difference in (tokens, whole, last):
        assert np.all(difference.max(1) > 1e-6)
    # The last panel is what the model itself makes of the change.
    model = mixer.model()
    reading = keras.Model(model.input, model.get_layer("block_1").output)
    before, after = reading.predict(np.stack([picture, changed]).astype("float32"), verbose=0)
    assert np.allclose(last, np.abs(after - before), atol=1e-4)


def test_weights_carried_along_answer_permuted_pictures_alike():
    model = build(MixerConfig(2, 8, 6, 8, (4, 2)), input_shape=(8, 12, 3), num_classes=4)
    draws = np.random.default_rng(0)
    model.set_weights([w + 0.3 * draws.normal(size=w.shape) for w in model.get_weights()])
    images = draws.uniform(0, 255, (6, 8, 12, 3)).astype("float32")
    before = model.predict(images, verbose=0)
    shuffled = figures.shuffle_patches(images, (4, 2))
    assert np.abs(model.predict(shuffled, verbose=0) - before).max() > 0.1
    shuffling.carry_weights(model, (4, 2), seed=0)
    assert np.allclose(model.predict(shuffled, verbose=0), before, atol=1e-4)


def test_a_mixer_trains_the_same_on_permuted_patches(mixer, monkeypatch):
    monkeypatch.setattr(shuffling, "_STEPS", 12)
    keras.utils.set_random_seed(0)
    examples, curves = shuffling.short_trainings(Subject(mixer))
    as_it_is, patches, pixels = (np.array(curves[order]) for order in shuffling.ORDERS)
    assert as_it_is[-1] < as_it_is[0]
    assert np.allclose(patches, as_it_is, rtol=1e-4)
    assert np.abs(pixels - as_it_is).max() > 0.01
    assert len({example.tobytes() for example in examples.values()}) == 3


def test_short_trainings_begin_with_the_same_weights_whatever_was_drawn_before(mixer):
    drawn = Subject(mixer)
    assert drawn.model.built
    keras.utils.set_random_seed(3)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        one, two = (shuffling._fresh(drawn)[0] for _ in range(2))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert {layer.compute_dtype for layer in one.layers} == {"float32"}
    for a, b in zip(one.get_weights(), two.get_weights()):
        np.testing.assert_array_equal(a, b)
    following = random.random()
    keras.utils.set_random_seed(3)
    assert following == random.random()  # the program's own stream goes on as if nothing had been


def test_data_that_may_not_be_read_leaves_out_what_needs_it(mixer, tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(mixer.folder, folder)

    def closed(*_):
        raise PermissionError(13, "Permission denied", "/closed/pictures")

    monkeypatch.setattr(subject, "load_run_data", closed)
    text = visualize.visualize(folder).read_text("utf-8")
    assert text.count("its data cannot be used. [Errno 13] Permission denied") >= 4
    assert '<img src="projections.png"' in text


def test_a_large_model_is_not_trained_for_a_figure(mixer, monkeypatch):
    monkeypatch.setattr(shuffling, "_MACS", 10)
    with pytest.raises(NotHere, match="take minutes"):
        shuffling.short_trainings(Subject(mixer))


def test_a_network_without_patches_is_given_some():
    assert shuffling._patch_for((32, 32, 3)) == (4, 4)
    assert shuffling._patch_for((9, 12, 3)) == (9, 3)
