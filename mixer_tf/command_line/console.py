"""What every command does with the engine and with standard error."""

import contextlib
import importlib
import logging
import os
import sys

import click


def load_backend(training=False):
    """Import Keras.

    The lines that TensorFlow writes to standard error as it starts are left out:
    they come from C++ before its logging can be turned down, and would bury the
    one line that matters. What fails still raises.

    Args:
        training: join the other hosts that the environment may name, and compute nothing
            yet: a CPU's threads are still to be set, which TensorFlow refuses afterwards.
            Otherwise something is computed, so that all such lines have come.
    """
    with _silence():
        importlib.import_module("keras")
    # It warns of every further model that it compiles, which says nothing to who compares some.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if training:
        from mixer_tf.distributed import hosts

        hosts.join()  # before anything is computed
    if not training or _has_gpu():
        with _silence():
            importlib.import_module("keras").activations.relu([0.0])


def _has_gpu():
    import keras

    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    with _silence():
        return bool(tf.config.list_physical_devices("GPU"))


@contextlib.contextmanager
def _silence():
    """Nothing that is written to standard error, by C++ either, is seen."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def remark(report):
    """Say what a person should know of the pictures, where there is anything."""
    if report.summary():
        click.echo(f"mixer_tf: {report.summary()}", err=True)
