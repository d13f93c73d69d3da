"""Hosts meet, or say in one line why they cannot."""

import contextlib
import json
import os
import pathlib
import re
import shlex
import socket
import subprocess
import threading
import time

import pytest
from helpers import free_ports, refused, run_python

from mixer_tf.cli import commands
from mixer_tf.distributed import batch_size, hosts
from mixer_tf.distributed.cluster import Cluster, from_environment
from mixer_tf.distributed.meeting import meet
from mixer_tf.recipe import Recipe
from mixer_tf.zoo import MODELS

ROOT = pathlib.Path(__file__).parent.parent


def meeting(
    count,
    *,
    absent=(),
    versions=None,
    counts=None,
    seconds=3.0,
    addresses=None,
    before_others=lambda: None,
):
    """What each worker is told when they meet as threads: a message, or ''.

    All but worker 0 come when `before_others` has ended.
    """
    addresses = addresses or tuple(f"127.0.0.1:{port}" for port in free_ports(count))
    told = {}

    def come(index):
        if index:
            before_others()
        cluster = Cluster(addresses, (counts or {}).get(index, count), index, "TF_CONFIG")
        try:
            meet(cluster, seconds, (versions or {}).get(index, "1"))
            told[index] = ""
        except ValueError as error:
            told[index] = str(error)

    threads = [threading.Thread(target=come, args=(i,)) for i in range(count) if i not in absent]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return told


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_all_meet(host):
    if host == "[::1]":
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6")
    addresses = tuple(f"{host}:{port}" for port in free_ports(5))
    assert meeting(5, addresses=addresses) == dict.fromkeys(range(5), "")


def test_a_missing_worker_is_named_to_all():
    told = meeting(3, absent=[2], seconds=1)
    assert set(told) == {0, 1}
    for message in told.values():
        assert re.match(r"No word from worker 2 \(127.0.0.1:\d+\) within 1 s; start all 3", message)


def test_a_missing_chief():
    told = meeting(2, absent=[0], seconds=1)
    assert "Worker 1 got no answer from worker 0 at 127.0.0.1" in told[1]


@pytest.mark.parametrize("taken", [0, 1])
def test_a_port_in_use(taken, monkeypatch):
    # who has the chief's port never answers
    monkeypatch.setattr("mixer_tf.distributed.meeting._LATE", 0)
    with socket.create_server(("0.0.0.0", 0)) as server:
        addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
        addresses[taken] = f"127.0.0.1:{server.getsockname()[1]}"
        told = meeting(2, addresses=tuple(addresses), seconds=1)
    assert f"Worker {taken} cannot listen on {addresses[taken]}" in told[taken]
    assert all(told.values())


def test_others_than_expected():
    told = meeting(2, versions={1: "2"})
    assert told[0] == told[1] == "Worker 1 runs 2 and worker 0 1; install the same on all."
    told = meeting(2, counts={1: 3})
    assert "expects 2 workers, but worker 1 of 3" in told[0]


def test_a_stranger_at_the_door_changes_nothing():
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(2))
    chief = ("127.0.0.1", int(addresses[0].split(":")[1]))
    knocked = []

    def knock():
        """In the place of worker 1, which comes after it."""
        for words in (b"GET / HTTP/1.1\r\n\r\n", b"1\n", b"{}\n", b'{"problem": ""}\n'):
            for _ in range(1000):  # worker 0 does not listen at once
                with contextlib.suppress(OSError), socket.create_connection(chief) as stranger:
                    stranger.sendall(words)
                    knocked.append(stranger)
                    break
                time.sleep(0.01)

    assert meeting(2, addresses=addresses, seconds=30, before_others=knock) == {0: "", 1: ""}
    assert len(knocked) == 4


def tf_config(workers, kind="worker", index=0, **jobs):
    return json.dumps(
        {"cluster": {"worker": workers, **jobs}, "task": {"type": kind, "index": index}}
    )


ENDLESS = """
import time
from mixer_tf.distributed.cluster import within
with within(0.2, "the engine does not come"):
    time.sleep(100)
"""


def test_an_engine_that_does_not_connect_ends_the_process():
    assert run_python(ENDLESS, ends_with=75).stderr == "mixer_tf: the engine does not come\n"


def test_tf_config(monkeypatch):
    def read(text):
        monkeypatch.setenv("TF_CONFIG", text)
        return from_environment("tensorflow")

    assert read("") is None
    assert read(tf_config(["a:1"])) is None  # one worker is one process
    assert read(tf_config(["a:1", "b:1"], index=1)) == Cluster(("a:1", "b:1"), 2, 1, "TF_CONFIG")
    with_chief = tf_config(["a:1", "b:1"], index=1, chief=["c:1"])
    assert read(with_chief) == Cluster(("c:1", "a:1", "b:1"), 3, 2, "TF_CONFIG")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "it looks like"),
        ("[]", "it looks like"),
        ('{"cluster": {}}', "it looks like"),
        (tf_config(["a:1", "b:1"], "master"), "it looks like"),
        (tf_config(["a:1", "b:1"], index=2), "worker 2 of 2; count from 0 to 1"),
        (tf_config(["a:1", "b:1"], ps=["c:1"]), "only chief and worker can train"),
        (tf_config(["a", "b:1"]), "address 'a'; give it as host:port"),
        (tf_config(["a:1", "a:1"]), "twice"),
    ],
)
def test_a_wrong_tf_config_is_one_line(monkeypatch, capfd, tmp_path, text, words):
    monkeypatch.setenv("TF_CONFIG", text)
    hosts.join.cache_clear()
    assert words in refused(capfd, "train", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_jax_variables(monkeypatch):
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")

    def read(*values):
        for name, value in zip(names, values):
            monkeypatch.setenv(name, value)
        return from_environment("jax")

    assert read("", "", "") is None
    assert read("a:1", "4", "3") == Cluster(("a:1",), 4, 3, names[0])
    for wrong, words in (
        (("a:1", "", "0"), "Set all three"),
        (("a:1", "2", "2"), "count from 0 to 1"),
        (("a", "2", "1"), "host:port"),
    ):
        with pytest.raises(ValueError, match=words):
            read(*wrong)


def test_batch_of_all_devices():
    assert batch_size.per_replica(96, 8) == 12
    with pytest.raises(ValueError, match="96, which 5 devices .*; give 95 or 100"):
        batch_size.per_replica(96, 5)
    recipe = batch_size.scaled(Recipe(batch_size=128, learning_rate=1e-3), 64, 8)
    assert recipe.batch_size == 512
    assert recipe.learning_rate == 2e-3  # Malladi et al.: the square root of 4
    assert "batch of 512 (8 x 64), learning rate up to 0.002" in batch_size.describe(recipe, 8)
    descent = batch_size.scaled(Recipe(batch_size=128, optimizer="sgd", learning_rate=0.1), 64, 8)
    assert descent.learning_rate == 0.4  # Goyal et al.: 4 times the batch, 4 times the rate


def told_by_stub(tmp_path, script, **environment):
    """TF_CONFIG as a launcher hands it to `python`, for each of its workers."""
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$TF_CONFIG" "$*"\n')
    stub.chmod(0o755)
    environment = {**os.environ, **environment, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", script], env=environment, capture_output=True, text=True, check=True
    )
    *config, command = done.stdout.strip().splitlines()
    return "\n".join(config), command


@pytest.fixture
def launchers(tmp_path):
    """(script that a worker runs, variable with its number, first address) of each ready file."""
    yaml = pytest.importorskip("yaml")
    slurm = (ROOT / "cluster" / "slurm.sh").read_text()
    subprocess.run(["bash", "-n", ROOT / "cluster" / "slurm.sh"], check=True)
    documents = list(yaml.safe_load_all((ROOT / "cluster" / "kubernetes.yaml").read_text()))
    pod = documents[1]["spec"]["template"]["spec"]["containers"][0]
    return [
        (slurm.split("worker='")[1].split("\n'")[0], "SLURM_PROCID", "n0:2222"),
        (pod["command"][2], "JOB_COMPLETION_INDEX", "mixer-0.mixer:2222"),
    ]


def test_the_job_of_pods_agrees_with_itself():
    yaml = pytest.importorskip("yaml")
    documents = list(yaml.safe_load_all((ROOT / "cluster" / "kubernetes.yaml").read_text()))
    job = documents[1]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    values = {one["name"]: one["value"] for one in container["env"]}
    assert job["completions"] == job["parallelism"] == int(values["WORKERS"])
    assert set(values) == {"WORKERS", "RUN", "DATA", "MIXER_TF_WAIT"}
    (rule,) = job["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [2])


def test_ready_files_set_what_is_read(tmp_path, launchers, monkeypatch):
    for script, number, first in launchers:
        run = tmp_path / number
        variables = {"HOSTS": "n0,n1,n2,n3", "PORT": "2222", "WORKERS": "4", "DATA": "d"}
        variables |= {number: "2", "RUN": str(run)}
        text, command = told_by_stub(tmp_path, script, **variables)
        monkeypatch.setenv("TF_CONFIG", text)
        cluster = from_environment("tensorflow")
        assert (cluster.addresses[0], cluster.count, cluster.index) == (first, 4, 2)
        assert "--resume" not in command
        _, module, name, *words = shlex.split(command)
        flags = commands.commands[name].make_context(name, words).params
        assert module == "mixer_tf"
        assert flags["model"] in MODELS
        assert (flags["out"], flags["data"]) == (run, "d")
        run.mkdir()
        (run / "config.json").write_text("{}")
        assert "--resume" in told_by_stub(tmp_path, script, **variables)[1]


def test_slurm_without_data_ends_before_a_host_is_asked(tmp_path):
    for name in ("scontrol", "srun"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
        (tmp_path / name).chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "n[0-3]"}
    script = ["bash", ROOT / "cluster" / "slurm.sh"]
    done = subprocess.run(script, env=variables, capture_output=True, text=True)
    assert done.returncode != 0
    assert "DATA: is not set; give the pictures to train on" in done.stderr
    assert not (tmp_path / "called").exists()
    assert subprocess.run(script, env={**variables, "DATA": "pets.zip"}).returncode == 0
    assert (tmp_path / "called").exists()


@pytest.mark.parametrize(("code", "attempts"), [(2, 1), (75, 5)])
def test_slurm_tries_again_after_a_lost_worker_and_not_after_a_mistake(tmp_path, code, attempts):
    (tmp_path / "srun").write_text(f"#!/bin/sh\necho again >> {tmp_path}/called\nexit {code}\n")
    for name in ("scontrol", "sleep"):
        (tmp_path / name).write_text("#!/bin/sh\n")
    for name in ("srun", "scontrol", "sleep"):
        (tmp_path / name).chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "n0"}
    script = ["bash", ROOT / "cluster" / "slurm.sh"]
    done = subprocess.run(script, env={**variables, "DATA": "pets.zip"}, capture_output=True)
    assert done.returncode == (2 if code == 2 else 1)
    assert len((tmp_path / "called").read_text().split()) == attempts


def test_how_long_workers_wait_for_each_other_can_be_said(monkeypatch):
    waited = []

    def meet(cluster, seconds, versions):
        waited.append(seconds)
        raise ValueError("enough")

    cluster = Cluster(("a:1", "b:1"), 2, 0, "TF_CONFIG")
    monkeypatch.setattr(hosts, "meet", meet)
    monkeypatch.setattr(hosts, "from_environment", lambda _: cluster)
    monkeypatch.delenv("MIXER_TF_WAIT", raising=False)
    said = ["enough", "enough", "MIXER_TF_WAIT is 'soon'"]
    for seconds, message in zip((None, "600", "soon"), said):
        if seconds:
            monkeypatch.setenv("MIXER_TF_WAIT", seconds)
        hosts.join.cache_clear()
        with pytest.raises(ValueError, match=message):
            hosts.join()
    assert waited == [45, 600]
    hosts.join.cache_clear()
