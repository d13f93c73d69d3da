"""The hosts of a run, once an engine has joined them: what they agree on, what one tells all."""

import contextlib
import functools
import json
import os
import signal

import keras
import numpy as np

from mixer_tf import stack
from mixer_tf.distributed.cluster import WorkerLost, from_environment, within
from mixer_tf.distributed.meeting import meet

_ROOM = 1 << 14  # bytes in which a worker says what it is about to do


class Hosts:
    """Several processes that train one model.

    Args:
        count: how many there are.
        index: number of this one; 0 is the chief, who alone writes.
        gather: function of an int32 array, gives the arrays of all, `[count, ...]`.
        strategy: of TensorFlow, None on JAX.
    """

    def __init__(self, count, index, gather, strategy=None):
        self.count = count
        self.index = index
        self.strategy = strategy
        self._gather = gather

    @property
    def is_chief(self):
        """Whether this is the one that writes."""
        return self.index == 0

    def agree(self, terms):
        """Wait for all hosts, and see that they are about to do the same.

        Args:
            terms: `{name: plain value}`.

        Raises:
            ValueError: a value differs; every host raises.
        """
        said = [json.loads(text) for text in self._exchange(json.dumps(terms))]
        for index, other in enumerate(said):
            for name in [name for name in said[0] if other.get(name) != said[0][name]]:
                raise ValueError(
                    f"{name} is {other.get(name)} on worker {index} and {said[0][name]} on worker "
                    "0; start all of them with the same command, data and versions."
                )

    def tell(self, value):
        """The chief's plain value, on all hosts. The others may give anything."""
        return json.loads(self._exchange(json.dumps(value if self.is_chief else None))[0])

    def _exchange(self, text):
        """The text of each host."""
        content = np.frombuffer(text.encode(), "uint8")
        if len(content) > _ROOM:
            raise ValueError(f"{len(content)} bytes are too many to exchange; at most {_ROOM}.")
        room = np.zeros(_ROOM, "int32")
        room[: len(content)] = content
        rows = np.asarray(self._gather(room)).reshape(self.count, _ROOM)
        return [row.astype("uint8").tobytes().rstrip(b"\0").decode() for row in rows]


@functools.cache
def join():
    """Meet the other hosts that the environment names, and join the engine's collectives.

    Call it before anything is computed: TensorFlow and JAX take part in a cluster
    from their start or not at all. Later calls give the same `Hosts`.

    Returns:
        `Hosts`, or None where this process is to train on its own.

    Raises:
        ValueError: the environment is wrong, or someone did not come; how long to
            wait stands in `MIXER_TF_WAIT` (seconds, 45 by default).
    """
    backend = keras.backend.backend()
    cluster = from_environment(backend)
    if cluster is None:
        return None
    stack.only_keras_3("training on several hosts")
    wait = os.environ.get("MIXER_TF_WAIT", "45")
    try:
        seconds = float(wait)
    except ValueError:
        raise ValueError(f"MIXER_TF_WAIT is {wait!r}; give a number of seconds.") from None
    meet(cluster, seconds, f"Keras {keras.__version__} on {backend}")
    late = f"the workers met, but {backend} did not connect all of them; is a port closed?"
    with within(60, late):
        return {"tensorflow": _join_tensorflow, "jax": _join_jax}[backend](cluster)


def _join_tensorflow(cluster):
    import tensorflow as tf

    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ValueError(
            "TensorFlow has computed something already, too early to join other workers; call "
            "mixer_tf.distributed.hosts.join() first."
        ) from error
    # TensorFlow keeps the signal for itself, and the process would outlive a request to end.
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    local = strategy.num_replicas_in_sync // cluster.count
    gather_rows = tf.function(lambda rows: strategy.gather(rows, axis=0))

    def gather(array):
        rows = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(array[None])
        )
        return gather_rows(rows).numpy()[::local]

    return Hosts(cluster.count, cluster.index, gather, strategy)


def _join_jax(cluster):
    import jax

    jax.distributed.initialize(cluster.addresses[0], cluster.count, cluster.index)
    from jax.experimental import multihost_utils

    return Hosts(cluster.count, cluster.index, multihost_utils.process_allgather)


@contextlib.contextmanager
def undistributed():
    """Context in which what one host computes or makes is its own.

    On JAX everything that Keras makes under a distribution belongs to all hosts,
    and one that makes something by itself waits for the others. On TensorFlow this
    holds only within a strategy's scope; do not stand in one.
    """
    if keras.backend.backend() != "jax":
        yield
        return
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


@contextlib.contextmanager
def losing_workers():
    """Turn what an engine raises when a peer is gone into `WorkerLost`."""
    try:
        yield
    except Exception as error:
        # In this order: what `join` itself raised must not make it wait for the others again.
        if not _is_loss(error) or join() is None:
            raise
        raise WorkerLost(
            "another worker has ended or cannot be reached; start all of them again with --resume"
        ) from error


def _is_loss(error):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        gone = (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.DeadlineExceededError,
        )
        return isinstance(error, gone) or (
            isinstance(error, tf.errors.OpError) and "ollective" in str(error)
        )
    return type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError") and any(
        word in str(error) for word in ("Gloo", "gloo", "onnection", "NCCL", "DEADLINE", "task")
    )
