"""A run from its start to its result: the same twice, the same when stopped in between."""

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_same, at_hand, stop_after, weights, without_xla
from PIL import Image

from callbacks import PatchProjections
from mixer_tf import MixerConfig, Run, run_config, stack, zoo
from mixer_tf import evaluate as evaluation
from mixer_tf.batches import EvaluationBatches
from mixer_tf.data import Split, load_data
from mixer_tf.evaluate import evaluate, predict_logits, score
from mixer_tf.recipe import Augmentation, Recipe
from mixer_tf.run_config import RunConfig
from mixer_tf.run_data import load_run_data
from mixer_tf.runtime import Runtime, has_convolutions
from mixer_tf.sampling import sample
from mixer_tf.storage import h5
from mixer_tf.train import check, input_size, resume, train
from mixer_tf.training import compiling, finetune, trainer
from mixer_tf.training.progress import Progress
from mixer_tf.training.saving import Interrupted, KeepWeights, SaveState
from mixer_tf.training.trainer import Trainer
from mixer_tf.variants import RelativeConfig

SMALL = MixerConfig(1, 16, 8, 16, (4, 4), dropout=0.1, stochastic_depth=0.1)
RECIPE = Recipe(
    epochs=3,
    batch_size=32,
    warmup_epochs=1,
    augmentation=Augmentation(shift=0.1, mixup=0.2, mix_probability=0.5),
)

JIT_COMPILE = Runtime.jit_compile  # before any test sets another


@pytest.fixture(autouse=True)
def _without_xla(request, monkeypatch):
    """Compiling takes longer than these trainings; the tests that need it ask for it."""
    if "compiled" not in request.keywords:
        without_xla(monkeypatch, fused=True)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, tiny_data):
    """One training that nothing disturbs, with the data it saw."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    with pytest.MonkeyPatch.context() as patch:
        without_xla(patch, fused=True)
        result = train(SMALL, tiny_data, RECIPE, out, seed=5, quiet=True)
    return out, tiny_data, result


def test_run_directory(straight):
    out, data, result = straight
    names = {p.name for p in out.iterdir()}
    assert names == {
        *("config.json", "state.npz", "state.previous.npz", "model.weights.h5", "last.weights.h5"),
        *("history.csv", "result.json"),
    }
    assert json.loads((out / "result.json").read_text()) == result
    for key in ("model", "data", "parameters", "epochs", "seed", "precision", "device", "command"):
        assert key in result
    assert result["versions"]["keras"] == keras.__version__
    history = Run.open(out).history()
    assert history["epoch"] == [0, 1, 2]
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "images_per_second"} <= set(history)
    assert result["best_val_accuracy"] == max(history["val_accuracy"])


def test_a_run_is_opened_in_float32_whatever_is_trained_in(straight):
    with stack.policy("mixed_bfloat16"):
        model = Run.open(straight[0]).model()
        assert keras.mixed_precision.global_policy().name == "mixed_bfloat16"
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_result_is_that_of_the_best_weights(straight):
    out, data, result = straight
    logits = predict_logits(Run.open(out).model(), data.test, 10)
    scores = score(logits, data.test.labels)
    assert scores["accuracy"] == result["test_accuracy"]
    np.testing.assert_allclose(scores["loss"], result["test_loss"], rtol=1e-5)
    validation = score(
        predict_logits(Run.open(out).model(), data.validation, 10), data.validation.labels
    )
    np.testing.assert_allclose(validation["accuracy"], result["best_val_accuracy"], atol=1e-6)


def test_of_equal_accuracies_the_lower_loss_is_kept(tmp_path):
    run = Run(tmp_path)
    keep = KeepWeights(SaveState(run, 1, [], lambda: 0.0))
    keep.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)]))
    kept = []
    evaluations = [(0.5, 2.0), (0.9, 1.0), (0.9, 1.1), (0.9, 0.8), (0.7, 0.1)]
    for epoch, (accuracy, loss) in enumerate(evaluations):
        keep.model.set_weights([np.array([[epoch]])])
        keep.on_test_end({"accuracy": accuracy, "loss": loss})
        keep.model.load_weights(run.best_file)
        kept.append(int(keep.model.get_weights()[0][0, 0]))
    assert kept == [0, 1, 1, 3, 3]


@pytest.mark.compiled
def test_same_seed_same_weights(straight, tmp_path):
    """Also as it really runs, with the step compiled."""
    _, data, _ = straight
    a = train(SMALL, data, RECIPE, tmp_path / "a", seed=5, quiet=True)
    b = train(SMALL, data, RECIPE, tmp_path / "b", seed=5, quiet=True)
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert a["test_loss"] == b["test_loss"]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's tracing")
def test_the_step_is_traced_once(straight, tmp_path, monkeypatch):
    """What is made within it would make Keras trace it again."""
    _, data, _ = straight
    traced, step = [], keras.Model.train_step
    monkeypatch.setattr(
        keras.Model, "train_step", lambda self, batch: traced.append(1) or step(self, batch)
    )
    train(SMALL, data, dataclasses.replace(RECIPE, ema=0.9), tmp_path / "run", quiet=True)
    assert len(traced) == 1


def test_another_seed_other_weights(straight, tmp_path):
    out, data, _ = straight
    train(SMALL, data, RECIPE, tmp_path, seed=6, quiet=True)
    assert not any(np.array_equal(a, b) for a, b in zip(weights(out), weights(tmp_path)))


@pytest.mark.parametrize("step", [3, 5, 12])
def test_stopped_and_resumed_equals_undisturbed(straight, tmp_path, step):
    """5 steps an epoch: in its middle, at its end, in the last."""
    out, data, result = straight
    told = []  # an epoch comes to its end once, in whichever process
    tell = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: told.append((epoch, dict(logs)))
    )
    both = lambda run: [*stop_after(step)(run), tell]  # noqa: E731
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted):
        train(SMALL, data, RECIPE, tmp_path / "run", seed=5, quiet=True, callbacks=both)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(ValueError, match="has not ended"):
        Run.open(tmp_path / "run").result()
    resumed = resume(tmp_path / "run", data, callbacks=lambda run: [tell], quiet=True)
    assert_same(weights(out), weights(tmp_path / "run"))
    assert_same(weights(out, "best"), weights(tmp_path / "run", "best"))
    assert resumed["test_loss"] == result["test_loss"]
    history, undisturbed = (Run.open(folder).history() for folder in (tmp_path / "run", out))
    assert history["epoch"] == [epoch for epoch, _ in told] == [0, 1, 2]
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):  # means over the whole epoch
        np.testing.assert_allclose(history[name], undisturbed[name], rtol=1e-6, err_msg=name)
        assert history[name] == [logs[name] for _, logs in told]
    assert resume(tmp_path / "run", data, quiet=True) == resumed  # ended: nothing more to do


def test_a_disk_that_fills_up_and_is_emptied_equals_undisturbed(straight, tmp_path, monkeypatch):
    """From the second epoch on there is no room: the run ends, and goes on afterwards."""
    out, data, _ = straight

    def no_room(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Fill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                full.setattr(h5, "_try_room", no_room)

    options = {"seed": 5, "quiet": True, "callbacks": lambda run: [Fill()]}
    with (
        monkeypatch.context() as full,
        pytest.raises(OSError, match=r"last.weights.h5 cannot be written \(No space left"),
    ):
        train(SMALL, data, RECIPE, tmp_path / "run", **options)
    assert Run.open(tmp_path / "run").history()["epoch"] == [0]
    resume(tmp_path / "run", data, quiet=True)
    assert_same(weights(out), weights(tmp_path / "run"))
    assert_same(weights(out, "best"), weights(tmp_path / "run", "best"))


def test_averaged_weights_and_loss_scale_survive_a_stop(straight, tmp_path):
    _, data, _ = straight
    recipe = dataclasses.replace(RECIPE, ema=0.9)
    options = {"seed": 1, "quiet": True, "precision": "mixed_float16"}
    train(SMALL, data, recipe, tmp_path / "a", **options)
    with pytest.raises(Interrupted):
        train(SMALL, data, recipe, tmp_path / "b", **options, callbacks=stop_after(7))
    resume(tmp_path / "b", data, quiet=True)
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_averaged_weights_are_what_is_kept(straight, tmp_path):
    """The exponential average of the weights after each step, which begins with the first's."""
    _, data, _ = straight
    steps = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(watch.model.get_weights())
    )
    plain = Recipe(
        epochs=1, batch_size=32, optimizer="sgd", learning_rate=0.5, warmup_epochs=0,
        final_learning_rate=0, weight_decay=0,
    )  # fmt: skip
    train(SMALL, data, plain, tmp_path / "plain", quiet=True, callbacks=lambda run: [watch])
    moving = dataclasses.replace(plain, ema=0.5)
    train(SMALL, data, moving, tmp_path / "moving", quiet=True)
    expected = steps[0]
    for after in steps[1:]:
        expected = [0.5 * old + 0.5 * new for old, new in zip(expected, after)]
    assert len(steps) == 5
    for kept, value in zip(weights(tmp_path / "moving"), expected, strict=True):
        np.testing.assert_allclose(kept, value, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "does_it"),
    [
        ({"sam": 0.1}, "mixer_tf.training.compiling.sharpen"),
        ({"recompute": True}, "mixer_tf.training.compiling.recompute_blocks"),
        ({"layer_decay": 0.5}, "mixer_tf.training.finetune.layer_rates"),
        ({"freeze": "stem"}, "mixer_tf.training.finetune.freeze"),
    ],
)
def test_what_a_recipe_asks_for_is_done(tiny_data, monkeypatch, change, does_it):
    """That each does what it should has tests of its own."""
    asked = []
    there = {"mixer_tf.training.compiling": compiling, "mixer_tf.training.finetune": finetune}
    module, name = does_it.rsplit(".", 1)
    real = getattr(there[module], name)
    monkeypatch.setattr(does_it, lambda *args: asked.append(args) or real(*args))
    for recipe in (Recipe(), dataclasses.replace(Recipe(), **change)):
        config = RunConfig(
            MixerConfig(1, 16, 8, 16, (4, 4)), tiny_data.image_shape, tiny_data.class_names,
            tiny_data.name, recipe, 0, "float32", "",
        )  # fmt: skip
        Trainer(config, tiny_data, True, False)
        assert len(asked) == (recipe != Recipe())
    assert asked[0][1:] == tuple(value for value in change.values() if value is not True)


@pytest.mark.parametrize(
    ("count", "change", "words"),
    [
        (3, {}, "which 3 devices cannot share"),
        (2, {"accumulate": 2}, "cannot accumulate gradients"),
    ],
)
def test_what_several_devices_cannot_do(tiny_data, monkeypatch, count, change, words):
    several = Runtime("tensorflow", "", "cpu", count, "float32", "")
    monkeypatch.setattr("mixer_tf.runtime.choose_again", lambda *_: several)
    recipe = dataclasses.replace(RECIPE, **change)
    about = (tiny_data.image_shape, tiny_data.class_names, "digits", recipe, 0, "float32", "")
    with pytest.raises(ValueError, match=words):
        Trainer(RunConfig(SMALL, *about), tiny_data, True, False)


def test_a_recipes_dropout_is_drawn_again_after_a_stop(digits, tmp_path):
    """Also where a batch is computed in parts, which ask one random stream."""
    few = digits.train.take(slice(0, 256))
    data = dataclasses.replace(digits, train=few, validation=few.take(slice(0, 32)))
    recipe = Recipe(epochs=2, batch_size=128, warmup_epochs=0, token_dropout=0.25)
    config = MixerConfig(1, 8, 4, 8, (2, 2))  # 64 tokens: 128 pictures are two parts
    train(config, data, recipe, tmp_path / "a", quiet=True)
    with pytest.raises(Interrupted):
        train(config, data, recipe, tmp_path / "b", quiet=True, callbacks=stop_after(2))
    resume(tmp_path / "b", data, quiet=True)
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    train(config, data, dataclasses.replace(recipe, token_dropout=0), tmp_path / "c", quiet=True)
    changed = [np.abs(a - c).max() for a, c in zip(*map(weights, (tmp_path / "a", tmp_path / "c")))]
    assert max(changed) > 1e-3
    assert np.isfinite(Run.open(tmp_path / "a").model("best").get_weights()[0]).all()


def test_a_training_learns(digits, tmp_path):
    recipe = Recipe(epochs=4, batch_size=32, warmup_epochs=0.5, learning_rate=5e-3)
    config = MixerConfig(2, 32, 16, 64, (4, 4))
    result = train(config, digits, recipe, tmp_path / "run", quiet=True)
    assert result["test_accuracy"] > 0.8  # chance is 0.1


def test_the_filters_from_before_training_stay(straight, tmp_path):
    """Also where a training is stopped in its first epoch."""
    data = straight[1]
    filters = lambda run: [*stop_after(3)(run), PatchProjections(run.folder)]  # noqa: E731
    with pytest.raises(Interrupted):
        train(SMALL, data, RECIPE, tmp_path, quiet=True, callbacks=filters)
    with np.load(tmp_path / "patch_projections.npz") as file:
        fresh = file["kernels"][0]
    resume(tmp_path, data, quiet=True, callbacks=lambda run: [PatchProjections(run.folder)])
    with np.load(tmp_path / "patch_projections.npz") as file:
        assert file["epochs"].tolist() == [0, 1, 2, 3]
        np.testing.assert_array_equal(file["kernels"][0], fresh)
        assert (file["kernels"][1] != fresh).any()


def test_a_run_goes_on_in_the_precision_it_began_with(straight, tmp_path, monkeypatch):
    """On a machine where "auto" would choose another."""
    data = straight[1]
    with pytest.raises(Interrupted):
        train(SMALL, data, RECIPE, tmp_path, quiet=True, callbacks=stop_after(2))
    other = ("another machine", "cpu", 1, "mixed_bfloat16", "it is")
    monkeypatch.setattr("mixer_tf.machine.look", lambda: other)
    assert resume(tmp_path, data, quiet=True)["precision"] == "float32"
    assert Run.open(tmp_path).config().trained_in == "float32"


def test_a_run_goes_on_in_the_parts_it_began_with(straight, tmp_path, monkeypatch):
    """Where a machine of other cores would add up a batch in another order."""
    _, data, _ = straight
    mixer = MixerConfig(1, 16, 8, 16, (2, 2))  # 64 tokens
    monkeypatch.setattr("mixer_tf.training.split_batch.TOKENS", 512)
    monkeypatch.setattr(Runtime, "fuses_blocks", True)
    taken = []
    monkeypatch.setattr(
        "mixer_tf.training.split_batch.split_steps", lambda *given: taken.append(given[1])
    )
    with pytest.raises(Interrupted):
        train(mixer, data, RECIPE, tmp_path, quiet=True, callbacks=stop_after(2))
    assert Run.open(tmp_path).config().parts == 4  # 32 pictures of 64 tokens, 512 in each
    monkeypatch.setattr("mixer_tf.training.split_batch.parts_at_once", lambda: 16)
    with pytest.raises(Interrupted):
        resume(tmp_path, data, quiet=True, callbacks=stop_after(2))
    assert taken == [4, 4]


def test_a_resumed_run_saves_as_often_as_it_began(straight, tmp_path, monkeypatch):
    out, data, _ = straight
    Run.create(tmp_path, dataclasses.replace(Run.open(out).config(), save_every=7))
    told = lambda config, *_: types.SimpleNamespace(fit=lambda *_: config.save_every)  # noqa: E731
    monkeypatch.setattr("mixer_tf.train.Trainer", told)
    assert resume(tmp_path, data) == 7
    assert resume(tmp_path, data, save_every=3) == 3
    assert resume(tmp_path, data) == 7


def test_larger_pictures_are_shrunk_as_those_from_files_are(tmp_path, picture_folder):
    """With antialiasing: training, its result, `evaluate` and `predict` see the same pixels."""
    root = picture_folder(per_class=40, size=(64, 48))
    whole, small = load_data(root), load_data(root, (16, 16))
    assert whole.image_shape == (64, 48, 3)
    recipe = dataclasses.replace(RECIPE, epochs=1, batch_size=16)
    result = train(SMALL, whole, recipe, tmp_path / "run", image_size=(16, 16), quiet=True)
    run = Run.open(tmp_path / "run")
    for data in (None, whole, small):
        scores = evaluate(run, data)
        assert scores["loss"] == pytest.approx(result["test_loss"], rel=1e-6)
    for name in ("train", "validation", "test"):
        shrunk = getattr(whole.no_larger((16, 16)), name)
        np.testing.assert_array_equal(shrunk.images, getattr(small, name).images)
    drawn = sample(whole.test, (16, 16))[0]
    np.testing.assert_array_equal(drawn, small.test.images)
    picture = Image.fromarray(whole.test.images[0])
    expected = picture.resize((16, 16), Image.Resampling.BILINEAR)  # Pillow's is antialiased
    np.testing.assert_array_equal(drawn[0], np.asarray(expected))


def test_a_folder_that_has_grown_is_not_tested_on(tmp_path, picture_folder):
    """Its test pictures are held out of all by chance: some would be ones trained on."""
    root = picture_folder(per_class=20)
    recipe = dataclasses.replace(RECIPE, epochs=1, batch_size=16)
    train(SMALL, load_data(root), recipe, tmp_path / "run", quiet=True)
    before = evaluate(tmp_path / "run")
    for name in ("cat", "dog"):
        (root / name / "new.png").write_bytes((root / name / "0.png").read_bytes())
    with pytest.raises(ValueError, match="other pictures than the run was trained on"):
        evaluate(tmp_path / "run")
    assert evaluate(tmp_path / "run", load_data(root))["n"] == before["n"]  # asked for by name


def test_training_leaves_the_policy_of_the_process(straight, tmp_path):
    short = dataclasses.replace(RECIPE, epochs=1)
    train(SMALL, straight[1], short, tmp_path, quiet=True, precision="mixed_bfloat16")
    assert keras.mixed_precision.global_policy().name == "float32"


def test_memory_that_is_full_is_told_and_the_folder_taken_again(straight, tmp_path):
    class Full(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    recipe = dataclasses.replace(RECIPE, epochs=1)
    with pytest.raises(ValueError, match="a step of 32 pictures.*--accumulate 2"):
        train(SMALL, straight[1], recipe, tmp_path, quiet=True, callbacks=lambda run: [Full()])
    train(SMALL, straight[1], recipe, tmp_path, quiet=True)  # nothing of the first was saved
    with pytest.raises(ValueError, match="holds another run"):
        train(SMALL, straight[1], recipe, tmp_path, quiet=True)


def test_input_size(digits):
    assert input_size("mixer_cifar_4", digits) == (72, 72)
    assert input_size("mixer_nano", digits) == (16, 16)
    assert input_size(SMALL, digits) == (16, 16)


def test_what_does_not_fit_is_refused_before_anything_is_written(straight, tmp_path):
    out, data, _ = straight
    with pytest.raises(ValueError, match="no whole number of"):
        train(SMALL, data, RECIPE, tmp_path / "run", image_size=(17, 16), quiet=True)
    big = dataclasses.replace(RECIPE, batch_size=500)
    with pytest.raises(ValueError, match="batch_size is 500"):
        train(SMALL, data, big, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="holds another run"):
        train(SMALL, data, RECIPE, out, quiet=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="not empty and holds no run"):
        train(SMALL, data, RECIPE, tmp_path / "mine", quiet=True)
    with pytest.raises(ValueError, match="holds no run"):
        resume(tmp_path / "mine", data)
    other = dataclasses.replace(data, class_names=tuple("abcdefghij"))
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text((out / "config.json").read_text())
    with pytest.raises(ValueError, match="has 10 others"):
        resume(tmp_path / "half", other)
    colour = [
        dataclasses.replace(split, images=split.images.repeat(3, axis=-1))
        for split in (data.train, data.validation, data.test)
    ]
    colour = dataclasses.replace(data, train=colour[0], validation=colour[1], test=colour[2])
    with pytest.raises(ValueError, match="pictures of 1 channels; those of digits have 3"):
        resume(tmp_path / "half", colour)
    fewer = dataclasses.replace(data, train=data.train.take(slice(1, None)))
    with pytest.raises(ValueError, match="trained on other pictures of digits than are there now"):
        resume(tmp_path / "half", fewer)
    relative = RelativeConfig("resmlp", 1, 8, (4, 4))
    with pytest.raises(ValueError, match="There is no model"):
        train(relative, data, RECIPE, tmp_path / "run", quiet=True)


@pytest.mark.parametrize(
    ("name", "size", "recipe", "words"),
    [
        ("gmixer_24", (100, 100), RECIPE, "100"),
        ("mixer_rows", (32, 32), Recipe(1, 8, recompute=True), "a second time under dropout"),
        ("mixer_nano", (16, 16), Recipe(1, 5000), "batch_size is 5000, but there are"),
        ("resnet20", (16, 16), Recipe(1, 8, ema=0.9), "ema is 0.9, but resnet20 has BatchNorm"),
        ("resmlp_12", (224, 224), Recipe(1, 8, token_dropout=0.2), "which resmlp_12 has no place"),
        *(
            ("mixer_nano", None, Recipe(1, 8, augmentation=Augmentation(**{name: 0.04})), words)
            for name, words in (
                ("mixup", "mixup is 0.04; give at least 0.05, or 0"),
                ("cutmix", "cutmix is 0.04; give at least 0.05, or 0"),
            )
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is(digits, name, size, recipe, words):
    """So that a comparison does not end after its first model."""
    with pytest.raises(ValueError, match=words):
        check(name, digits, recipe, size)


def test_no_more_pictures_at_once_than_memory_was_seen_to_hold(tiny_data, tmp_path, monkeypatch):
    """In validation, in the test after training, and in `evaluate`."""
    seen = []

    class Seen(EvaluationBatches):
        def __getitem__(self, index):
            batch = super().__getitem__(index)
            seen.append(len(batch[0]))
            return batch

    monkeypatch.setattr(trainer, "EvaluationBatches", Seen)
    monkeypatch.setattr(evaluation, "EvaluationBatches", Seen)
    recipe = dataclasses.replace(RECIPE, epochs=1, batch_size=4)
    train(SMALL, tiny_data, recipe, tmp_path / "run", quiet=True)
    trained = len(seen)
    evaluate(tmp_path / "run", tiny_data)
    assert trained
    assert len(seen) > trained
    assert max(seen) == 16


@pytest.mark.parametrize("number", [1e3, None, True, -5, "5"])
def test_what_would_make_the_run_unreadable_is_refused_first(tiny_data, tmp_path, number):
    for name in ("save_every", "seed"):
        with pytest.raises(
            ValueError, match=f"{name} is {number!r}; give a whole number, 0 or more"
        ):
            train(SMALL, tiny_data, RECIPE, tmp_path / "run", **{name: number})
    assert not (tmp_path / "run").exists()
    known = RunConfig(SMALL, (16, 16, 1), ("a", "b"), "digits", RECIPE, np.int64(3), "auto", "")
    assert type(known.seed) is int


def test_a_head_of_zeros_is_not_lambs(digits):
    recipe = Recipe(1, 8, optimizer="lamb")
    check("mixer_nano", digits, recipe)
    with pytest.raises(ValueError, match="LAMB moves weights by a share of their size"):
        check("mixer_nano", digits, recipe, pretrained="other")


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format": 1}', '{"format": 99}'])
def test_a_damaged_config_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match="config.json is"):
        Run.open(tmp_path).config()


def test_no_word_of_a_strangers_is_printed_as_the_name_of_a_model(tmp_path):
    config = RunConfig(SMALL, (16, 16, 1), ("a", "b"), "digits", RECIPE, 0, "auto", "")
    for name in ("", "mixer_nano", "\x1b[2J"):
        run_config.write(tmp_path / "config.json", dataclasses.replace(config, name=name))
        if name.isprintable():
            assert Run.open(tmp_path).config().model_name == (name or "mixer")
    with pytest.raises(ValueError, match="There is no model") as refusal:
        Run.open(tmp_path).config()
    assert str(refusal.value).isprintable()


def test_a_damaged_state_is_refused(straight, tmp_path):
    _, data, _ = straight
    with pytest.raises(Interrupted):
        train(SMALL, data, RECIPE, tmp_path / "run", quiet=True, callbacks=stop_after(2))
    state = tmp_path / "run" / "state.npz"
    content = state.read_bytes()
    state.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="state.npz is damaged"):
        resume(tmp_path / "run", data, quiet=True)


def test_a_run_without_its_state_is_not_begun_anew(straight, tmp_path):
    """Its weights would be written over by those of a first epoch."""
    done, data, _ = straight
    shutil.copytree(done, tmp_path / "run")
    for name in ("state.npz", "state.previous.npz", "result.json"):
        (tmp_path / "run" / name).unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(ValueError, match=r"its state files \(state.npz, .*\) are gone"):
        resume(tmp_path / "run", data, quiet=True)
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_ctrl_c_on_the_command_line_leaves_a_run_to_resume(tmp_path):
    """A real process, a real signal; then the same command with --resume."""
    command = [sys.executable, "-m", "mixer_tf", "train", "--model", "resnet20"]
    command += ["--data", "digits", "--epochs", "40", "--out", str(tmp_path / "my run")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=at_hand())
    deadline = time.time() + 400
    while not (tmp_path / "my run" / "history.csv").exists() and time.time() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert f"--resume --out '{tmp_path / 'my run'}' goes on" in errors.splitlines()[-1]
    run = Run.open(tmp_path / "my run")
    epochs = len(run.history()["epoch"])
    assert 1 <= epochs < 40
    with np.load(run.state_file) as state:
        progress = json.loads(state["progress"].tobytes())
    assert progress["step"] >= epochs * 20


def test_a_resumed_run_holds_out_the_same_pictures(tmp_path, picture_folder):
    """The split has a seed and a share of its own, beside the seed of the training."""
    data = load_data(picture_folder(per_class=40), validation_fraction=0.25, seed=1)
    recipe = dataclasses.replace(RECIPE, batch_size=16)
    with pytest.raises(Interrupted):
        train(SMALL, data, recipe, tmp_path / "a", seed=3, callbacks=stop_after(5), quiet=True)
    again = load_run_data(Run.open(tmp_path / "a").config())
    for name in ("train", "validation", "test"):
        assert_same([getattr(data, name).images], [getattr(again, name).images])
    other = load_data(data.source, validation_fraction=0.25, seed=3)
    np.testing.assert_array_equal(other.train.labels, data.train.labels)  # only the pictures differ
    with pytest.raises(ValueError, match=r"were \(0.25, 1\), are \(0.25, 3\)"):
        resume(tmp_path / "a", other, quiet=True)
    assert resume(tmp_path / "a", again, quiet=True)["epochs"] == 3
    fewer = dataclasses.replace(data, class_names=("cat", "dog", "owl"))
    with pytest.raises(ValueError, match="2 classes"):  # an ended run says it too
        resume(tmp_path / "a", fewer, quiet=True)


def test_pictures_are_read_again_at_the_size_they_had(tmp_path, picture_folder):
    """Not at that of the model, which saw them enlarged."""
    root = picture_folder(per_class=20, size=(24, 24))
    data, recipe = load_data(root, (12, 12)), dataclasses.replace(RECIPE, epochs=1, batch_size=16)
    run = tmp_path / "run"
    result = train(SMALL, data, recipe, run, image_size=(16, 16), quiet=True)
    again = load_run_data(Run.open(run).config())
    np.testing.assert_array_equal(again.test.images, data.test.images)
    assert evaluate(run)["loss"] == pytest.approx(result["test_loss"], rel=1e-6)
    with pytest.raises(ValueError, match=r"read at \(12, 12\), these are \(16, 16\)"):
        resume(run, load_data(root, (16, 16)), quiet=True)
    part = dataclasses.replace(data, validation=data.validation.take(slice(0, 2)))
    with pytest.raises(ValueError, match="was validated on other pictures"):
        resume(run, part, quiet=True)


class End(keras.callbacks.Callback):
    """Ends a training after an epoch, or within one, as EarlyStopping and TerminateOnNaN do."""

    def __init__(self, epoch, step=None):
        super().__init__()
        self.at = epoch, step

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        if (epoch, None) == self.at:
            self.model.stop_training = True


@pytest.mark.parametrize(("end", "epochs"), [((1, None), [0, 1]), ((1, 2), [0])])
def test_a_callback_may_end_a_training(tmp_path, tiny_data, monkeypatch, end, epochs):
    """Also of a process that is killed before it has written the result."""
    out, after = tmp_path / "run", []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: after.append(keep.model.get_weights())
    )

    def killed(*_):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("mixer_tf.training.trainer.make_result", killed)
        with pytest.raises(RuntimeError, match="killed"):
            train(
                SMALL, tiny_data, RECIPE, out, callbacks=lambda run: [keep, End(*end)], quiet=True
            )
    result = resume(out, tiny_data, quiet=True)
    assert Run.open(out).history()["epoch"] == epochs
    assert result["epochs"] == len(epochs)
    assert_same(weights(out), after[epochs[-1]])  # of the last whole epoch
    assert resume(out, tiny_data, quiet=True) == result


def test_an_end_within_the_first_epoch_is_told_and_can_be_resumed(straight, tmp_path):
    out, data, _ = straight
    end = {"callbacks": lambda run: [End(0, 2)], "quiet": True}
    with pytest.raises(ValueError, match="within its first epoch.* can be resumed"):
        train(SMALL, data, RECIPE, tmp_path, seed=5, **end)
    resume(tmp_path, data, quiet=True)
    assert_same(weights(tmp_path), weights(out))


def test_memory_that_is_full_while_a_model_is_built_is_told(tiny_data, tmp_path, monkeypatch):
    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr("mixer_tf.training.trainer.compiled", full)
    with pytest.raises(ValueError, match="The memory does not hold"):
        train(SMALL, tiny_data, RECIPE, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_stop_in_the_last_step_loses_nothing_of_callbacks(tmp_path, tiny_data):
    ended = []

    class Last(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            ended.append(self.model)

    press = stop_after(15)  # of 3 epochs of 5
    result = train(
        *(SMALL, tiny_data, RECIPE, tmp_path / "run"),
        callbacks=lambda run: [*press(run), Last()],
        quiet=True,
    )
    assert result["epochs"] == 3
    assert len(ended) == 1


def test_colours_are_changed_in_pictures_of_colours_only(tiny_data):
    four = [
        dataclasses.replace(split, images=np.repeat(split.images, 4, axis=3))
        for split in (tiny_data.train, tiny_data.validation, tiny_data.test)
    ]
    data = dataclasses.replace(tiny_data, train=four[0], validation=four[1], test=four[2])
    recipe = dataclasses.replace(RECIPE, augmentation=Augmentation(rand_augment=1))
    check(SMALL, data, RECIPE)
    check(SMALL, tiny_data, recipe)
    with pytest.raises(ValueError, match="4 channels"):
        check(SMALL, data, recipe)


def test_the_best_epoch_stays_the_best_after_a_stop(straight, digits, tmp_path):
    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:  # all answers are of a class that validation lacks
                self.model.get_layer("head").bias.assign(50 * np.eye(10, dtype="float32")[9])

    held = digits.validation.take(np.flatnonzero(digits.validation.labels != 9)[:40])
    data = dataclasses.replace(straight[1], validation=held)
    recipe = dataclasses.replace(RECIPE, epochs=2)
    with pytest.raises(Interrupted):
        train(
            *(SMALL, data, recipe, tmp_path / "run"),
            callbacks=lambda run: [Spoil(), *stop_after(7)(run)],
            quiet=True,
        )
    result = resume(tmp_path / "run", data, quiet=True)
    best, last = (Run.open(tmp_path / "run").model(which) for which in ("best", "last"))
    biases = [model.get_layer("head").get_weights()[1].max() for model in (best, last)]
    assert biases[0] < 5 < biases[1]
    found = score(predict_logits(best, data.test, 10), data.test.labels)["loss"]
    assert found == pytest.approx(result["test_loss"], rel=1e-5)


def test_batches_and_loss_are_the_recipes(tiny_data):
    recipe = Recipe(label_smoothing=0.3, augmentation=Augmentation(shift=0.2))
    about = (tiny_data.image_shape, tiny_data.class_names, "digits", recipe, 0, "float32", "")
    config = RunConfig(MixerConfig(1, 16, 8, 16, (4, 4)), *about)
    trainer = Trainer(config, tiny_data, True, False)
    assert trainer.model.loss.label_smoothing == 0.3
    batches = trainer._batches(0)
    plain = tiny_data.train.images[batches.indices(0)]
    assert not np.array_equal(np.asarray(batches[0][0]), plain)


def test_what_hosts_must_have_in_common(tiny_data):
    def terms(data, save_every=0):
        recipe = Recipe()
        about = (data.image_shape, data.class_names, "digits", recipe, 0, "float32", "")
        trainer = types.SimpleNamespace(
            config=RunConfig(SMALL, *about, save_every=save_every),
            data=data,
            runtime=types.SimpleNamespace(precision="float32"),
        )
        return Trainer._terms(trainer)

    images = tiny_data.train.images.copy()
    images[0, 0, 0, 0] ^= 1
    pixel = dataclasses.replace(tiny_data, train=Split(images, tiny_data.train.labels))
    held_out = dataclasses.replace(tiny_data, validation=tiny_data.validation.take([0]))
    names = dataclasses.replace(tiny_data, class_names=tuple("abcdefghij"))
    known = terms(tiny_data)
    strided = np.repeat(tiny_data.train.images, 2, axis=0)[::2]  # the same, not contiguous
    labels = tiny_data.train.labels.astype("uint8")
    assert terms(dataclasses.replace(tiny_data, train=Split(strided, labels))) == known
    for other, differs in (
        (terms(pixel), "pictures"),
        (terms(held_out), "validation pictures"),
        (terms(names), "classes"),
        (terms(tiny_data, 7), "save_every"),
    ):
        assert {name for name in known if known[name] != other[name]} == {differs}


def test_the_rate_of_an_epoch_leaves_validation_out(monkeypatch):
    now = iter([10.0, 11.0, 12.0])
    clock = types.SimpleNamespace(perf_counter=lambda: next(now))
    monkeypatch.setattr("mixer_tf.training.progress.time", clock)
    bar, logs = Progress("a", 100, 2, 1, quiet=True), {"val_accuracy": 0.5, "loss": 1.0}
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    bar.on_train_batch_end(0)
    bar.on_train_batch_end(1)
    bar.on_epoch_end(0, logs)
    bar.close()
    assert logs["images_per_second"] == 100


def test_where_a_step_is_compiled():
    cpu = Runtime("tensorflow", "", "cpu", 1, "float32", "")
    really = JIT_COMPILE.__get__
    assert really(cpu)(has_convolutions=False) is True
    assert really(cpu)(has_convolutions=True) is False
    assert really(dataclasses.replace(cpu, strategy=object()))(has_convolutions=False) is False
    assert really(dataclasses.replace(cpu, accelerator="gpu"))(has_convolutions=True) == "auto"
    assert has_convolutions(zoo.build("resnet20"))
    assert not has_convolutions(zoo.build(SMALL, (8, 8, 3), 2))
