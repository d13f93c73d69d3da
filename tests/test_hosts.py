"""Several processes and several devices train as one does: real ones, on the loopback."""

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
from host_worker import MODEL, prepared
from test_cluster import free_ports

from mixer_tf import Run
from mixer_tf.train import resume, train

HERE = pathlib.Path(__file__).parent
LOSSES = ["loss", "val_loss", "accuracy", "val_accuracy"]


def launch(folder, environments, *arguments):
    """Processes of `host_worker.py`, each with its own environment: (exit code, errors) of each."""
    processes = [
        subprocess.Popen(
            [sys.executable, HERE / "host_worker.py", folder, *arguments],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        for environment in environments
    ]
    errors = [process.communicate(timeout=240)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, errors)]


def tf_workers(count):
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    cluster = {"worker": addresses}
    return [
        {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})}
        for i in range(count)
    ]


def columns(run):
    history = Run.open(run).history()
    return np.array([history[name] for name in LOSSES]).T


def state(run):
    with np.load(Run.open(run).state_file) as file:
        return [file[name] for name in file.files if name.startswith("v")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The training of one process, which all others are held against."""
    out = tmp_path_factory.mktemp("alone") / "run"
    data, recipe = prepared()
    train(MODEL, data, recipe, out, seed=5, precision="float32", quiet=True)
    return out


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three processes that train, disagree, and train again until the last one dies."""
    folder = tmp_path_factory.mktemp("three")
    start = time.monotonic()
    ended = launch(folder, tf_workers(3), "die")
    seen = [json.loads((folder / f"seen{i}.json").read_text()) for i in range(3)]
    return folder, ended, seen, time.monotonic() - start


def test_three_processes_train_as_one(alone, three):
    folder, _, seen, _ = three
    for one in seen:  # every process, not the chief's record alone
        np.testing.assert_allclose(one["losses"], columns(alone), rtol=0, atol=1e-5)
        assert one["checksums"] == seen[0]["checksums"]
        assert one["result"] == seen[0]["result"]
    np.testing.assert_allclose(columns(folder / "run"), columns(alone), rtol=0, atol=1e-5)
    result, expected = Run.open(folder / "run").result(), Run.open(alone).result()
    np.testing.assert_allclose(result["test_loss"], expected["test_loss"], atol=1e-5)


def test_other_recipes_are_refused_by_all(three):
    folder, _, seen, _ = three
    for one in seen:
        assert "batch_size is 48 on worker 1 and 24 on worker 0" in one["disagreement"]
    assert not (folder / "never").exists()


def test_a_killed_worker_ends_all_and_one_process_can_go_on(alone, three):
    folder, ended, _, seconds = three
    assert [code for code, _ in ended] == [75, 75, -9]
    for _, errors in ended[:2]:
        assert "start all of them again with --resume" in errors.splitlines()[-1]
    with np.load(folder / "lost" / "state.npz") as file:
        progress = json.loads(file["progress"].tobytes())
    assert progress["step"] == 12  # of the 13 made, the last that was saved
    resume(folder / "lost", prepared()[0], quiet=True)
    for a, b in zip(state(folder / "lost")[:20], state(folder / "run")[:20]):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-3)
    assert columns(folder / "lost")[2] == pytest.approx(columns(alone)[2], abs=1e-5)
