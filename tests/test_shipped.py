"""Weights that come with the suite: what is built from them is what was trained."""

import dataclasses
import hashlib
import importlib
import pathlib
import shutil

import numpy as np
import pytest
import reference_mixer
from helpers import without_xla

import mixer_tf
from mixer_tf import shipped
from mixer_tf.drawing.subject import Subject
from mixer_tf.recipes import RECIPES
from mixer_tf.runs import Run
from mixer_tf.train import train

ROOT = pathlib.Path(__file__).parent.parent


def ship_script():
    """The script by which a run comes into `weights/`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("ship")


@pytest.fixture(scope="module")
def once(tmp_path_factory, tiny_data):
    """A short run and what was shipped of it: `(run, its weights folder)`."""
    folder = tmp_path_factory.mktemp("shipped")
    recipe = dataclasses.replace(RECIPES["digits"], epochs=1, warmup_epochs=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shipped, "FOLDER", folder / "weights")
        without_xla(patch)
        train("mixer_cifar_2", tiny_data, recipe, folder / "run", image_size=(18, 18), quiet=True)
        epochs = np.array([0, *range(4, 60, 4), 57, 58, 59, 60])  # as the callback thins them
        kernels = np.broadcast_to(epochs[:, None, None, None, None], (len(epochs), 9, 9, 1, 128))
        snapshots = {"order": np.arange(128), "epochs": epochs, "kernels": kernels}
        np.savez(folder / "run" / "patch_projections.npz", **snapshots)
        ship_script().ship(Run.open(folder / "run"), "digits")
    return Run.open(folder / "run"), folder / "weights"


@pytest.fixture
def kept(once, tmp_path, monkeypatch):
    """That run, with a copy of what was shipped, which a test may damage."""
    run, folder = once
    shutil.copytree(folder, tmp_path / "weights")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "weights")
    return run


def test_built_by_name_they_give_the_runs_logits(kept):
    assert shipped.names() == [("mixer_cifar_2", "digits")]
    model = mixer_tf.build("mixer_cifar_2", weights="digits")
    images = np.random.default_rng(0).uniform(0, 255, (3, *model.input_shape[1:]))
    np.testing.assert_array_equal(model(images), kept.model()(images))
    assert model.count_params() == kept.result()["parameters"]


def test_the_filters_course_comes_along_in_ten_steps(kept):
    subject = Subject(Run.open(shipped.FOLDER / "mixer_cifar_2-digits"))
    kernels, epochs, _ = subject.snapshots
    assert len(epochs) == 10
    assert (epochs[0], epochs[-1]) == (0, 60)
    assert set(np.diff(epochs)) <= {4, 8}  # evenly, as far as 4 divides 60 / 9
    assert (kernels == epochs[:, None, None, None, None]).all()
    with np.load(kept.filters_file) as before:
        assert len(before["epochs"]) == 19  # the run's own is left alone


def test_what_does_not_fit_is_said(kept, tmp_path):
    with pytest.raises(ValueError, match=r'there are: build\("mixer_cifar_2", weights="digits"\)'):
        mixer_tf.build("mixer_nano", weights="digits")
    with pytest.raises(ValueError, match="and 10 classes, not for .* and 0;"):
        mixer_tf.build("mixer_cifar_2", num_classes=0, weights="digits")
    with pytest.raises(ValueError, match="There is no model 'mixer_cifar_3'"):
        mixer_tf.build("mixer_cifar_3", weights="digits")
    with pytest.raises(ValueError, match="trained on digits; it cannot go as 'cifar10'"):
        ship_script().ship(kept, "cifar10")
    config = mixer_tf.MixerConfig(1, 8, 8, 8, 9)
    about = dataclasses.replace(kept.config(), model=config)
    nameless = Run.create(tmp_path / "nameless", about)
    nameless.result_file.write_bytes(kept.result_file.read_bytes())
    with pytest.raises(ValueError, match="a model without a name"):
        ship_script().ship(nameless, "digits")
    with pytest.raises(ValueError, match="not for .32, 32, 3."):
        mixer_tf.build("mixer_cifar_2", np.array((32, 32, 3)), weights="digits")
    with pytest.raises(ValueError, match=r"input_shape is \(32,\); give"):
        mixer_tf.build("mixer_cifar_2", 32, weights="digits")
    file = shipped.FOLDER / "mixer_cifar_2-digits" / "model.weights.h5"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="not the file that was shipped"):
        mixer_tf.build("mixer_cifar_2", weights="digits")


SHIPPED = [(model, "cifar10") for model in ("mixer_cifar_4", "mixer_nano_7", "resnet20")]


def test_all_that_readme_names_is_shipped():
    assert sorted(shipped.names()) == SHIPPED


@pytest.mark.parametrize(("model", "data"), SHIPPED)
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
    assert len(rows) == 1
    assert accuracy in rows[0]


def test_the_bundled_network_is_what_numpy_makes_of_its_weights(tmp_path):
    """Through Google's format, in float64, by code that shares nothing with the suite."""
    model = mixer_tf.build("mixer_cifar_4", weights="cifar10")
    mixer_tf.save_npz(model, tmp_path / "w.npz")
    with np.load(tmp_path / "w.npz") as file:
        weights = dict(file)
    images = np.random.default_rng(0).uniform(0, 255, (2, *model.input_shape[1:]))
    expected = reference_mixer.logits(weights, images)
    np.testing.assert_allclose(model(images), expected, atol=1e-4)


def test_the_card_is_made_of_what_the_run_wrote(kept, monkeypatch):
    shutil.rmtree(shipped.FOLDER)
    monkeypatch.setattr("sys.argv", ["ship", str(kept.folder), "digits", "--note", "enlarged"])
    ship_script().main()
    card = (shipped.FOLDER / "mixer_cifar_2-digits" / "README.md").read_text()
    result = kept.result()
    assert f"- **Test accuracy:** {100 * result['test_accuracy']:.2f} ± " in card
    assert f"{result['parameters']:,} weights, pictures 18x18x1, 10 classes" in card
    assert "- **Data:** digits (enlarged)" in card
    weights = (shipped.FOLDER / "mixer_cifar_2-digits" / "model.weights.h5").read_bytes()
    assert hashlib.sha256(weights).hexdigest() in card
