"""How fast a training runs and what it takes: scalars of each epoch."""

import mmap
import pathlib
import sys
import time

import keras
import numpy as np

from callbacks import layers, writer


class Throughput(keras.callbacks.Callback):
    """Writes images per second, step time, memory and learning rate, once an epoch.

    Tags: `throughput/images_per_second` and `throughput/step_milliseconds` (the
    median step), `memory/process_MiB` (not on Windows), `memory/accelerator_peak_MiB`
    where the backend tells it, `learning_rate`. A step only takes the time of the clock:
    nothing waits for the device. So where `fit` itself never waits (JAX, with no callback
    that reads the numbers of a step), this is the rate at which steps are handed out,
    which is far above that of computing them; within `train` there is one that does. The
    first step of an epoch is not counted, in it falls compiling, nor the last, which may
    hold fewer pictures; so an epoch of one or two steps has no speed.

    Args:
        log_dir: folder that TensorBoard reads.
        batch_size: pictures a step, over all replicas.

    Raises:
        ValueError: at the start of training, where the folder cannot be written;
            at once, where `batch_size` is below 1.
    """

    def __init__(self, log_dir, batch_size):
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give at least 1.")
        self.log_dir = str(log_dir)
        self.batch_size = batch_size

    def on_train_begin(self, logs=None):
        writer.check_folder(self.log_dir)

    def on_epoch_begin(self, epoch, logs=None):
        self._begins = []  # (number of the step, seconds)

    def on_train_batch_begin(self, batch, logs=None):
        # At its end Keras would wait for the step's numbers, to give them to this method.
        self._begins.append((batch, time.perf_counter()))

    def on_epoch_end(self, epoch, logs=None):
        values = {}
        if (held := _process_bytes()) is not None:
            values["memory/process_MiB"] = held / 2**20
        steps, seconds = np.array(self._begins[1:], "float64").reshape(-1, 2).T
        if len(steps) > 1:
            # One call may stand for several steps (steps_per_execution).
            rate = (steps[-1] - steps[0]) * self.batch_size / (seconds[-1] - seconds[0])
            values["throughput/images_per_second"] = rate
            each = 1000 * np.diff(seconds) / np.diff(steps)
            values["throughput/step_milliseconds"] = np.median(each)
        peak = _accelerator_bytes()
        if peak is not None:
            values["memory/accelerator_peak_MiB"] = peak / 2**20
        rate = _learning_rate(self.model.optimizer)
        if rate is not None:
            values["learning_rate"] = rate
        writer.write_scalars(self.log_dir, values, epoch)


def _learning_rate(optimizer):
    rate = getattr(optimizer, "learning_rate", None)
    if callable(rate) and not hasattr(rate, "shape"):  # a schedule
        rate = rate(optimizer.iterations)
    return None if rate is None else float(layers.as_array(rate))


def _process_bytes():
    """Memory this process holds now, or the most it held, as far as the system tells; or None."""
    statm = pathlib.Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * mmap.PAGESIZE
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _accelerator_bytes():
    """Most memory taken on the fullest accelerator, None where there is none that tells."""
    peaks = []
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for device in tf.config.list_logical_devices("GPU"):
            peaks.append(tf.config.experimental.get_memory_info(device.name)["peak"])
    elif keras.backend.backend() == "jax":
        import jax

        stats = [device.memory_stats() or {} for device in jax.local_devices()]
        peaks = [s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s]
    return max(peaks, default=None)
