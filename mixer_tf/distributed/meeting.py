"""The meeting of the hosts, before anything expensive starts.

The engines wait for a missing host without a word and without end. So the hosts
meet here first, over a plain socket: worker 0 listens on the port that the
engine will take next, the others report to it, and all get the same answer.
"""

import contextlib
import json
import socket
import time

_LATE = 5  # seconds that an answer may still take when the time to meet is over


def meet(cluster, seconds, versions):
    """Wait until every worker is there.

    Args:
        cluster: a `Cluster`.
        seconds: how long to wait.
        versions: plain value that must be the same on all workers.

    Raises:
        ValueError: someone is missing, a port is taken, or versions differ;
            every worker raises, with the same message where it can be told.
    """
    deadline = time.monotonic() + seconds
    report = {"index": cluster.index, "count": cluster.count, "versions": versions, "problem": ""}
    if cluster.index == 0:
        problem = _receive(cluster, report, deadline, seconds)
    else:
        if cluster.index < len(cluster.addresses):
            report["problem"] = _own_port_problem(cluster)
        problem = _report(cluster, report, deadline, seconds)
    if problem:
        raise ValueError(problem)


def _own_port_problem(cluster):
    """What keeps this worker from listening on its own port, `""` for nothing."""
    try:
        _listen(cluster.addresses[cluster.index]).close()
    except OSError as error:
        return _taken(cluster, error)
    return ""


def _taken(cluster, error):
    return (
        f"Worker {cluster.index} cannot listen on {cluster.addresses[cluster.index]} "
        f"({error.strerror}); end what holds the port, or give another in {cluster.source}."
    )


def _receive(cluster, own, deadline, seconds):
    """As worker 0: hear every other worker, tell all what came of it."""
    try:
        server = _listen(cluster.addresses[0])
    except OSError as error:
        raise ValueError(_taken(cluster, error)) from error
    heard, problem = {}, ""
    with contextlib.ExitStack() as stack:
        stack.enter_context(server)
        while len(heard) < cluster.count - 1 and not problem:
            left = deadline - time.monotonic()
            if left <= 0:
                problem = _missing(cluster, heard, seconds)
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


def _missing(cluster, heard, seconds):
    names = [
        f"{i} ({cluster.addresses[i]})" if i < len(cluster.addresses) else str(i)
        for i in range(1, cluster.count)
        if i not in heard
    ]
    return (
        f"No word from worker {', '.join(names)} within {seconds:.0f} s; start all "
        f"{cluster.count} workers that {cluster.source} names."
    )


def _report(cluster, report, deadline, seconds):
    """As another worker: report to worker 0, return what it answers."""
    chief = cluster.addresses[0]
    host, port = chief.rsplit(":", 1)
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), 2) as connection:
                _keep_alive(connection)
                connection.sendall(json.dumps(report).encode() + b"\n")
                connection.settimeout(deadline - time.monotonic() + _LATE)
                return _read_line(connection)["problem"]
        except (OSError, ValueError, KeyError):
            time.sleep(0.2)
    return (
        f"Worker {cluster.index} got no answer from worker 0 at {chief} within {seconds:.0f} s; "
        f"is it running, and is the address in {cluster.source} right?"
    )


def _keep_alive(connection):
    """Have the system notice within two minutes that the other side's machine is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):  # where the system lets one choose
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


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
    here = ("", int(address.rsplit(":", 1)[1]))
    if socket.has_dualstack_ipv6():
        return socket.create_server(here, family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)
    return socket.create_server(here, backlog=128)


def _read_line(connection):
    """One line of JSON, a dict (ValueError where a stranger says something else)."""
    with connection.makefile() as lines:
        said = json.loads(lines.readline())
    if not isinstance(said, dict):
        raise ValueError(f"it is no report: {said!r}")
    return said
