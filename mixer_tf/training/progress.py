"""What a person sees while a model trains: images per second, time left, accuracy."""

import sys
import time

import keras
from tqdm import tqdm


class Progress(keras.callbacks.Callback):
    """A progress bar over the whole run, and one line for each epoch where there is no terminal.

    Also counts `images_per_second` of each epoch's training (validation left out)
    into the logs, where later callbacks and the history find it.

    Args:
        title: stands before the bar.
        batch_size: pictures a step.
        steps_per_epoch: steps in an epoch.
        epochs: of the whole run.
        first_step: step the run goes on from.
        quiet: draw nothing.
    """

    def __init__(self, title, batch_size, steps_per_epoch, epochs, first_step=0, quiet=False):
        super().__init__()
        self.title = title
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.epochs = epochs
        self.first_step = first_step
        self.quiet = quiet
        self._bar = None

    def on_train_begin(self, logs=None):
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=self.epochs * self.steps_per_epoch * self.batch_size,
            initial=self.first_step * self.batch_size,
            desc=self.title,
            unit="img",
            unit_scale=True,
            disable=self.quiet or not self._terminal,
            smoothing=0.05,
        )

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_start = time.perf_counter()
        self._steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        self._last_step = time.perf_counter()
        self._bar.update(self.batch_size)

    def on_epoch_end(self, epoch, logs=None):
        rate = self._steps * self.batch_size / (self._last_step - self._epoch_start)
        logs["images_per_second"] = rate
        words = f"val_accuracy {logs['val_accuracy']:.3f}"
        self._bar.set_postfix_str(f"epoch {epoch + 1}/{self.epochs}, {words}")
        if not (self.quiet or self._terminal):
            left = (self.epochs - epoch - 1) * self.steps_per_epoch * self.batch_size / rate
            print(
                f"{self.title}: epoch {epoch + 1}/{self.epochs}, loss {logs['loss']:.3f}, "
                f"{words}, {rate:.0f} images/s, {_duration(left)} left",
                file=sys.stderr,
                flush=True,
            )

    def on_train_end(self, logs=None):
        self.close()

    def close(self):
        """Take the bar away, also where `fit` has raised."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _duration(seconds):
    return tqdm.format_interval(seconds)
