"""Weights that come with the suite: what is built from them is what was trained."""

import dataclasses
import pathlib

import numpy as np
import pytest

import mixer_tf
from mixer_tf import shipped
from mixer_tf.data import load_data
from mixer_tf.recipes import RECIPES
from mixer_tf.runs import Run
from mixer_tf.subject import Subject
from mixer_tf.train import train

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def kept(tmp_path, tiny_data, monkeypatch):
    """A short run, shipped into a folder of its own."""
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "weights")
    recipe = dataclasses.replace(RECIPES["digits"], epochs=1, warmup_epochs=0)
    folder = tmp_path / "run"
    train("mixer_cifar_2", tiny_data, recipe, folder, image_size=(18, 18), quiet=True)
    epochs = np.array([0, *range(4, 60, 4), 57, 58, 59, 60])  # as the callback thins them
    kernels = np.broadcast_to(epochs[:, None, None, None, None], (len(epochs), 9, 9, 1, 128))
    np.savez(folder / "patch_projections.npz", order=np.arange(128), epochs=epochs, kernels=kernels)
    shipped.ship(Run.open(tmp_path / "run"), "digits")
    return Run.open(tmp_path / "run")


def test_built_by_name_they_give_the_runs_logits(kept, tiny_data):
    assert shipped.names() == [("mixer_cifar_2", "digits")]
    model = mixer_tf.build("mixer_cifar_2", weights="digits")
    images = np.random.default_rng(0).uniform(0, 255, (3, *model.input_shape[1:]))
    np.testing.assert_array_equal(model(images), kept.model()(images))
    assert model.count_params() == kept.result()["parameters"]


def test_the_filters_course_comes_along_in_ten_steps(kept):
    subject = Subject(Run.open(shipped.FOLDER / "mixer_cifar_2-digits"))
    kernels, epochs = subject.snapshots
    assert len(epochs) == 10
    assert (epochs[0], epochs[-1]) == (0, 60)
    assert set(np.diff(epochs)) <= {4, 8}  # evenly, as far as 4 divides 60 / 9
    assert (kernels == epochs[:, None, None, None, None]).all()
    with np.load(kept.filters_file) as before:
        assert len(before["epochs"]) == 19  # the run's own is left alone


def test_what_does_not_fit_is_said(kept):
    with pytest.raises(ValueError, match=r'there are: build\("mixer_cifar_2", weights="digits"\)'):
        mixer_tf.build("mixer_nano", weights="digits")
    with pytest.raises(ValueError, match="and 10 classes, not for .* and 0;"):
        mixer_tf.build("mixer_cifar_2", num_classes=0, weights="digits")
    with pytest.raises(ValueError, match="There is no model 'mixer_cifar_3'"):
        mixer_tf.build("mixer_cifar_3", weights="digits")
    with pytest.raises(ValueError, match="trained on digits; it cannot go as 'cifar10'"):
        shipped.ship(kept, "cifar10")
    config = mixer_tf.MixerConfig(1, 8, 8, 8, 9)
    about = dataclasses.replace(kept.config(), model=config)
    nameless = Run.create(kept.folder.parent / "nameless", about)
    nameless.result_file.write_bytes(kept.result_file.read_bytes())
    with pytest.raises(ValueError, match="a model without a name"):
        shipped.ship(nameless, "digits")
    with pytest.raises(ValueError, match="not for .32, 32, 3."):
        mixer_tf.build("mixer_cifar_2", (32, 32, 3), weights="digits")
    file = shipped.FOLDER / "mixer_cifar_2-digits" / "model.weights.h5"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="not the file that was shipped"):
        mixer_tf.build("mixer_cifar_2", weights="digits")


@pytest.mark.parametrize(("model", "data"), shipped.names())
def test_what_is_shipped_is_whole(model, data):
    """Each folder has a card with the numbers of its result, and weights that load."""
    folder = shipped.FOLDER / f"{model}-{data}"
    built = mixer_tf.build(model, weights=data)
    result = Run.open(folder).result()
    assert built.count_params() == result["parameters"]
    card = (folder / "README.md").read_text()
    assert f"{100 * result['test_accuracy']:.2f} ±" in card
    assert len(card.splitlines()) <= 14
    table = (ROOT / "benchmarks" / "results.md").read_text()
    accuracy = f"{100 * result['test_accuracy']:.2f} ±"
    rows = [line for line in table.splitlines() if f"`{result['command']}`" in line]
    assert data != "cifar10" or (len(rows) == 1 and accuracy in rows[0])
    if data == "digits":  # the one that is always at hand
        from mixer_tf.evaluate import predict_logits, score

        test = load_data("digits").test
        again = score(predict_logits(built, test, built.output_shape[-1]), test.labels)
        assert again["accuracy"] == result["test_accuracy"]
