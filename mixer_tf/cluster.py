"""Which hosts train together, and their meeting before anything expensive starts.

The engines wait for a missing host without a word and without end. So the hosts
meet here first, over a plain socket: worker 0 listens on the port that the
engine will take next, the others report to it, and all get the same answer.
"""

import contextlib
import dataclasses
import json
import os
import socket
import sys
import threading
import time

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

    def meet(self, seconds, versions):
        """Wait until every worker is there.

        Args:
            seconds: how long to wait.
            versions: plain value that must be the same on all workers.

        Raises:
            ValueError: someone is missing, a port is taken, or versions differ;
                every worker raises, with the same message where it can be told.
        """
        deadline = time.monotonic() + seconds
        report = {"index": self.index, "count": self.count, "versions": versions, "problem": ""}
        if self.index == 0:
            problem = self._receive(report, deadline, seconds)
        else:
            if self.index < len(self.addresses):
                report["problem"] = self._own_port_problem()
            problem = self._report(report, deadline, seconds)
        if problem:
            raise ValueError(problem)

    def _own_port_problem(self):
        """What keeps this worker from listening on its own port, `""` for nothing."""
        try:
            _listen(self.addresses[self.index]).close()
        except OSError as error:
            return self._taken(error)
        return ""

    def _taken(self, error):
        return (
            f"Worker {self.index} cannot listen on {self.addresses[self.index]} "
            f"({error.strerror}); end what holds the port, or give another in {self.source}."
        )

    def _receive(self, own, deadline, seconds):
        """As worker 0: hear every other worker, tell all what came of it."""
        try:
            server = _listen(self.addresses[0])
        except OSError as error:
            raise ValueError(self._taken(error)) from error
        heard, problem = {}, ""
        with contextlib.ExitStack() as stack:
            stack.enter_context(server)
            while len(heard) < self.count - 1 and not problem:
                left = deadline - time.monotonic()
                if left <= 0:
                    problem = self._missing(heard, seconds)
                    break
                server.settimeout(left)
                with contextlib.suppress(OSError, ValueError, KeyError):
                    connection = stack.enter_context(server.accept()[0])
                    connection.settimeout(5)
                    report = _read_line(connection)
                    problem = report["problem"] or _difference(own, report)
                    heard[report["index"]] = connection
            for connection in heard.values():
                with contextlib.suppress(OSError):
                    connection.sendall(json.dumps({"problem": problem}).encode() + b"\n")
        return problem

    def _missing(self, heard, seconds):
        names = [
            f"{i} ({self.addresses[i]})" if i < len(self.addresses) else str(i)
            for i in range(1, self.count)
            if i not in heard
        ]
        return (
            f"No word from worker {', '.join(names)} within {seconds:.0f} s; start all "
            f"{self.count} workers that {self.source} names."
        )

    def _report(self, report, deadline, seconds):
        """As another worker: report to worker 0, return what it answers."""
        chief = self.addresses[0]
        host, port = chief.rsplit(":", 1)
        while time.monotonic() < deadline:
            try:
                with socket.create_connection((host.strip("[]"), int(port)), 2) as connection:
                    connection.sendall(json.dumps(report).encode() + b"\n")
                    connection.settimeout(deadline - time.monotonic() + 5)  # it may lag a little
                    return _read_line(connection)["problem"]
            except (OSError, ValueError, KeyError):
                time.sleep(0.2)
        return (
            f"Worker {self.index} got no answer from worker 0 at {chief} within {seconds:.0f} s; "
            f"is it running, and is the address in {self.source} right?"
        )


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


def _difference(one, other):
    """What keeps a worker from working with worker 0, `""` for nothing."""
    if other["count"] != one["count"] or not 0 < other["index"] < one["count"]:
        return (
            f"Worker 0 expects {one['count']} workers, but worker {other['index']} of "
            f"{other['count']} reported; give all of them the same list."
        )
    if other["versions"] != one["versions"]:
        return (
            f"Worker {other['index']} runs {other['versions']} and worker 0 {one['versions']}; "
            "install the same on all."
        )
    return ""


def _listen(address):
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(("", int(address.rsplit(":", 1)[1])))
        server.listen(128)
    except OSError:
        server.close()
        raise
    return server


def _read_line(connection):
    """One line of JSON."""
    with connection.makefile() as lines:
        return json.loads(lines.readline())
