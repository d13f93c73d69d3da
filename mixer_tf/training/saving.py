"""When a training writes what of itself, and how Ctrl-C stops it: callbacks."""

import signal
import threading

import keras

from mixer_tf.distributed import hosts
from mixer_tf.storage import h5
from mixer_tf.training.state import save_state

_MEANS = ("loss", "accuracy")  # that Keras takes over the training steps of an epoch


class Interrupted(KeyboardInterrupt):
    """Raised out of `fit` after a Ctrl-C, when the state has been saved."""


class SaveState(keras.callbacks.Callback):
    """Saves the state after each epoch, every so many steps, and on Ctrl-C after the running step.

    Args:
        run: a `Run`.
        steps_per_epoch: batches in one pass over the pictures.
        history: rows of the epochs before, extended as epochs end.
        seconds: callable, seconds trained so far over all parts of the run.
        first_step: step the run goes on from.
        every: steps from one saving to the next; 0 for epochs alone.
        earlier: what the state said of an epoch that was left in its middle.
        damaged: the newest state cannot be read, so that the first one written here takes its
            place instead of that of the good one before it.
    """

    def __init__(
        self,
        run,
        steps_per_epoch,
        history,
        seconds,
        first_step=0,
        every=0,
        earlier=None,
        damaged=False,
    ):
        super().__init__()
        self._damaged = damaged
        self.run = run
        self.steps_per_epoch = steps_per_epoch
        self.history = history
        self.seconds = seconds
        self.step = first_step
        self.every = every
        self.asked = False
        self._before = None
        self._earlier = earlier or {"steps": 0, "means": {}}
        self._now = self._earlier

    def on_train_begin(self, logs=None):
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number, frame):
        if self.asked:  # the second Ctrl-C does not wait for the step
            raise KeyboardInterrupt
        self.asked = True

    def restore_signal(self):
        """Give Ctrl-C back to whom it belonged."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def is_between_epochs(self):
        """Whether no epoch is left in its middle, as by a callback that sets `stop_training`."""
        return self.step % self.steps_per_epoch == 0

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.is_between_epochs():
            return  # at the end of an epoch its validation and its row come first
        self._now = self._together(batch + 1, logs)
        if self.asked or (self.every and self.step % self.every == 0):
            self.save()
        if self.asked:
            raise Interrupted

    def on_epoch_end(self, epoch, logs=None):
        if not self.is_between_epochs():
            return  # a callback ended the training within the epoch, which is no row then
        row = {k: float(v) for k, v in (logs or {}).items()}
        means = self._together(self.steps_per_epoch - self._earlier["steps"], row)["means"]
        row |= means
        if logs is not None:
            logs.update(means)  # for those that stand behind: curves of the whole epoch too
        self._earlier = self._now = {"steps": 0, "means": {}}
        self.history.append({"epoch": epoch, **row})
        self.run.write_history(self.history)
        self.save()

    def _together(self, steps, logs):
        """The means so far over an epoch whose first steps another process may have done."""
        before = self._earlier["steps"]
        means = {name: float(logs[name]) for name in _MEANS if name in (logs or {})}
        for name in means.keys() & self._earlier["means"].keys():
            sums = before * self._earlier["means"][name] + steps * means[name]
            means[name] = sums / (before + steps)
        return {"steps": before + steps, "means": means}

    def save(self, ended=False):
        """Write the state now; `ended`: a callback has ended the run before its last step."""
        self.run.ensure()
        progress = {"step": self.step, "seconds": self.seconds(), "history": self.history}
        progress |= {"epoch": self._now, "ended": ended}
        previous = None if self._damaged else self.run.previous_state_file
        save_state(self.run.state_file, self.model, progress, previous)
        self._damaged = False


class StopAfterEpoch(keras.callbacks.Callback):
    """Ends a training that Ctrl-C stops at the end of an epoch, and keeps that a callback did.

    In the list it stands last: the epoch is saved and will not come again, so
    that all others must have seen its end. After the last one nothing is left to
    stop, and what callbacks write at the end of a training would be lost.

    Args:
        saver: the `SaveState` that heard the Ctrl-C.
        total: steps of the whole training.
    """

    def __init__(self, saver, total):
        super().__init__()
        self.saver = saver
        self.total = total

    def on_epoch_end(self, epoch, logs=None):
        if self.model.stop_training:
            self.saver.save(ended=bool(self.saver.history))
        if self.saver.asked and self.saver.step < self.total:
            raise Interrupted


class KeepWeights(keras.callbacks.Callback):
    """Keeps the weights of the best validation accuracy, and those evaluated last.

    Of epochs with the same accuracy, which is common on small validation sets,
    the one of the lowest loss counts as the best.

    It acts while the evaluated weights are in the model, before the state of the
    epoch is saved: a run that dies in between repeats the epoch and writes the
    same files again. In the list it stands before `SwapEMAWeights`, which takes
    averaged weights out again at the same moment.

    Args:
        saver: the `SaveState` of the run.
        best: (accuracy, -loss) on validation data of the best epoch so far.
    """

    def __init__(self, saver, best=(-1.0, 0.0)):
        super().__init__()
        self.saver = saver
        self.run = saver.run
        self.best = best

    def on_test_end(self, logs=None):
        if not self.saver.is_between_epochs():
            return
        self.run.ensure()
        self._save(self.run.last_file)
        reached = (float(logs["accuracy"]), -float(logs["loss"]))
        if reached > self.best or not self.run.best_file.exists():
            self.best = reached
            self._save(self.run.best_file)

    def _save(self, path):
        with hosts.undistributed():
            h5.save_weights(self.model, path)
