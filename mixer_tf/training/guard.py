"""Stopping a training that cannot go on: its loss is no number any more, or memory is full."""

import contextlib

import keras
import numpy as np


class NotFinite(ValueError):
    """The loss or the weights have become NaN or infinite."""


class LossGuard(keras.callbacks.Callback):
    """Ends a training at the step at which its loss becomes NaN or infinite.

    Under `mixed_float16` the loss scale has its chance first: steps whose
    gradients are not finite are left out and the scale is halved, until it is
    below 1, where the gradients themselves, not their scale, are to blame.

    In the list it stands before all callbacks that save something.

    Args:
        first_step: step the run goes on from.
        saved: function that says where the last good weights are, for the message.
    """

    def __init__(self, first_step, saved):
        super().__init__()
        self.step = first_step
        self.saved = saved

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if not np.isfinite(logs["loss"]) and self._scale_is_used_up():
            self._stop("loss", logs["loss"])

    def on_test_end(self, logs=None):
        if not np.isfinite(logs["loss"]):
            self._stop("validation loss", logs["loss"])

    def _scale_is_used_up(self):
        optimizer = self.model.optimizer
        if not isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
            return True
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()  # on JAX the variables are behind while an epoch runs
        return float(keras.ops.convert_to_numpy(optimizer.dynamic_scale)) < 1

    def _stop(self, name, value):
        policy = keras.mixed_precision.global_policy().name
        wider = " or use --precision mixed_bfloat16," if policy == "mixed_float16" else ""
        raise NotFinite(
            f"The {name} is {value} after step {self.step}; {self.saved()}. Lower the recipe's "
            f"learning rate, lengthen its warm-up,{wider} or clip its gradients (clip_norm)."
        )


def check_finite(arrays):
    """Refuse arrays that hold something other than numbers.

    Raises:
        NotFinite: one does.
    """
    if not all(np.isfinite(array).all() for array in arrays):
        raise NotFinite(
            "The weights are not finite any more and were not saved; lower the recipe's learning "
            "rate, or lengthen its warm-up."
        )


def is_memory_full(error):
    """Whether it says that a device, or the computer, has no memory left."""
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return True
    return "RESOURCE_EXHAUSTED" in str(error)  # each backend has a class of its own


@contextlib.contextmanager
def memory_told(recipe):
    """Context in which a device that runs out of memory is a `ValueError` that says what helps.

    Args:
        recipe: the `Recipe` that is followed.
    """
    try:
        yield
    except Exception as error:
        if not is_memory_full(error):
            raise
        batch, now = recipe.batch_size, recipe.accumulate
        more = next((n for n in range(2 * now, batch + 1) if batch % n == 0), 0)
        parts = f"compute each batch in more parts (--accumulate {more}, on one device), "
        raise ValueError(
            f"The memory does not hold a step of {recipe.part_size} pictures. In a new run "
            f"{parts if more else ''}keep less of it (--recompute, of Mixers without dropout), or "
            "give a smaller --batch-size."
        ) from error
