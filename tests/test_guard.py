"""A loss that is no number ends a run, and what was good stays."""

import dataclasses

import keras
import numpy as np
import pytest

from mixer_tf import MixerConfig, Run
from mixer_tf.recipe import Recipe
from mixer_tf.train import train
from mixer_tf.training.guard import NotFinite
from mixer_tf.training.state import save_state

SMALL = MixerConfig(1, 16, 8, 16, (4, 4))
RECIPE = Recipe(epochs=3, batch_size=32, warmup_epochs=0)


pytestmark = pytest.mark.usefixtures("without_xla")


def spoil(step):
    """A callback that makes the head's bias NaN before a step."""

    class Spoil(keras.callbacks.Callback):
        count = 0

        def on_train_batch_begin(self, batch, logs=None):
            self.count += 1
            if self.count == step:
                self.model.get_layer("head").bias.assign(np.full(10, np.nan, "float32"))

    return lambda run: [Spoil()]


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_nan_ends_the_run_at_its_step(tiny_data, tmp_path, precision):
    """5 steps an epoch; the seventh is spoiled."""
    out = tmp_path / "run"
    with pytest.raises(NotFinite, match=r"loss is nan after step 7; the last good weights are in"):
        train(SMALL, tiny_data, RECIPE, out, quiet=True, callbacks=spoil(7), precision=precision)
    run = Run.open(out)
    assert run.history()["epoch"] == [0]
    for which in ("best", "last"):
        assert all(np.isfinite(w).all() for w in run.model(which).get_weights())


def test_nan_in_the_first_epoch_says_that_nothing_is_saved(tiny_data, tmp_path):
    with pytest.raises(NotFinite, match="after step 2; no epoch had ended"):
        train(SMALL, tiny_data, RECIPE, tmp_path / "run", quiet=True, callbacks=spoil(2))


def test_the_loss_scale_has_its_chance(tiny_data, tmp_path):
    """Scale 2^15: sixteen halvings before it is below 1; the run ends at the last of them."""
    long = dataclasses.replace(RECIPE, batch_size=8)  # 20 steps an epoch
    with pytest.raises(NotFinite, match=r"after step 18; .* use --precision mixed_bfloat16"):
        train(
            SMALL, tiny_data, long, tmp_path / "run", quiet=True, callbacks=spoil(3),
            precision="mixed_float16",
        )  # fmt: skip


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    save_state(tmp_path / "state.npz", model, {})
    before = (tmp_path / "state.npz").read_bytes()
    model.layers[0].bias.assign([np.inf])
    with pytest.raises(NotFinite):
        save_state(tmp_path / "state.npz", model, {})
    assert (tmp_path / "state.npz").read_bytes() == before


def test_weights_that_validate_to_nan_are_not_kept(tiny_data, tmp_path):
    class Spoil(keras.callbacks.Callback):
        count = 0

        def on_test_begin(self, logs=None):
            self.count += 1
            if self.count == 2:
                self.model.get_layer("head").bias.assign(np.full(10, np.nan, "float32"))

    out = tmp_path / "run"
    with pytest.raises(NotFinite, match="validation loss is nan after step 10"):
        train(SMALL, tiny_data, RECIPE, out, quiet=True, callbacks=lambda run: [Spoil()])
    for which in ("best", "last"):
        assert all(np.isfinite(w).all() for w in Run.open(out).model(which).get_weights())
