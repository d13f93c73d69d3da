"""Which hosts train together, as the environment of each says, and how one is given up."""

import contextlib
import dataclasses
import json
import os
import sys
import threading

TRY_AGAIN = 75  # exit code of a process whose peers are gone (EX_TEMPFAIL of sysexits.h)


class WorkerLost(RuntimeError):
    """Another worker of the run has ended or cannot be reached any more."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a run, as the environment of one of them names them."""

    addresses: tuple[str, ...]  # host:port of each, or of worker 0 alone
    count: int
    index: int  # of this process; 0 is the chief
    source: str  # what named them


def from_environment(backend):
    """The `Cluster` that the environment describes, None for a process of its own.

    TensorFlow's is `TF_CONFIG`; JAX's are `JAX_COORDINATOR_ADDRESS`,
    `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`.

    Raises:
        ValueError: it describes none that is possible.
    """
    cluster = _from_tf_config() if backend == "tensorflow" else _from_jax_variables()
    return cluster if cluster and cluster.count > 1 else None


def _from_tf_config():
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return None
    example = (
        '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    try:
        config = json.loads(text)
        jobs, task = config["cluster"], config["task"]
        addresses = [str(a) for job in ("chief", "worker") for a in jobs.get(job, [])]
        kind, index = task["type"], int(task["index"])
        size = len(jobs[kind])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"TF_CONFIG is no description of workers ({type(error).__name__}: {error}); "
            f"it looks like {example}."
        ) from error
    if set(jobs) - {"chief", "worker"}:
        raise ValueError(f"TF_CONFIG has jobs {sorted(jobs)}; only chief and worker can train.")
    if not 0 <= index < size:
        raise ValueError(f"TF_CONFIG says {kind} {index} of {size}; count from 0 to {size - 1}.")
    if kind == "worker":
        index += len(jobs.get("chief", []))  # the chief is the first
    return _checked(addresses, len(addresses), index, "TF_CONFIG")


def _from_jax_variables():
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    values = [os.environ.get(name, "") for name in names]
    if not any(values):
        return None
    if not (all(values) and values[1].isdigit() and values[2].isdigit()):
        said = ", ".join(f"{name}={value!r}" for name, value in zip(names, values))
        raise ValueError(f"Set all three, such as 10.0.0.1:1234, 2 and 0: {said}.")
    count, index = int(values[1]), int(values[2])
    if not 0 <= index < count:
        raise ValueError(f"JAX_PROCESS_ID is {index} of {count}; count from 0 to {count - 1}.")
    return _checked([values[0]], count, index, names[0])


def _checked(addresses, count, index, source):
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not (host and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{source} has the address {address!r}; give it as host:port.")
    if len(set(addresses)) < len(addresses):
        raise ValueError(f"{source} names an address twice: {', '.join(addresses)}.")
    return Cluster(tuple(addresses), count, index, source)


@contextlib.contextmanager
def within(seconds, message):
    """End this process with one line if the body takes longer.

    For calls into an engine that nothing else can interrupt.
    """

    def end():
        print(f"mixer_tf: {message}", file=sys.stderr, flush=True)
        os._exit(TRY_AGAIN)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
