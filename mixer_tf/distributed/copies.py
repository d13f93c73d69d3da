"""Callbacks that look into a model which several processes share."""

import keras

from mixer_tf.distributed import hosts


class OnCopy(keras.callbacks.Callback):
    """Shows callbacks a copy of the model that belongs to this process alone.

    A callback that asks a shared model for predictions would wait for the other
    processes, which know nothing of it. The copy has the shared model's weights
    at the start and the end of each epoch and of the training, not yet while it is validated.

    Args:
        callbacks: what looks at the copy; must not mean to change the model.
        copy: the same model, built and compiled outside of any distribution.
    """

    def __init__(self, callbacks, copy):
        super().__init__()
        self._callbacks = keras.callbacks.CallbackList(callbacks, model=copy)
        self._copy = copy

    def set_params(self, params):
        super().set_params(params)
        self._callbacks.set_params(params)

    def _show(self, hook, *arguments, update=False):
        if update and hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()  # on JAX the variables are behind while an epoch runs
        with hosts.undistributed():
            if update:
                pairs = [
                    *zip(self._copy.variables, self.model.variables),
                    (self._copy.optimizer.iterations, self.model.optimizer.iterations),
                ]
                for mine, shared in pairs:
                    mine.assign(keras.ops.convert_to_numpy(shared))
            getattr(self._callbacks, hook)(*arguments)

    def on_train_begin(self, logs=None):
        self._show("on_train_begin", logs, update=True)

    def on_train_end(self, logs=None):
        self._show("on_train_end", logs, update=True)

    def on_epoch_begin(self, epoch, logs=None):
        self._show("on_epoch_begin", epoch, logs)

    def on_epoch_end(self, epoch, logs=None):
        self._show("on_epoch_end", epoch, logs, update=True)
        if self._copy.stop_training:  # said to the copy, meant of the training
            self.model.stop_training = True

    def on_train_batch_begin(self, batch, logs=None):
        self._show("on_train_batch_begin", batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        self._show("on_train_batch_end", batch, logs)

    def on_test_begin(self, logs=None):
        self._show("on_test_begin", logs)

    def on_test_end(self, logs=None):
        self._show("on_test_end", logs)

    def on_test_batch_begin(self, batch, logs=None):
        self._show("on_test_batch_begin", batch, logs)

    def on_test_batch_end(self, batch, logs=None):
        self._show("on_test_batch_end", batch, logs)


class StopTogether(keras.callbacks.Callback):
    """Ends a training on all hosts after the epoch in which a callback of the chief ended it.

    Args:
        several: the `Hosts`.
    """

    def __init__(self, several):
        super().__init__()
        self._several = several

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = self._several.tell(bool(self.model.stop_training))
