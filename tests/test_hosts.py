"""Several processes and several devices train as one does: real ones, on the loopback."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers import SLOW_CODE_SOON, events, free_ports, snapshots
from host_worker import MODEL, prepared, shown

from mixer_tf import Run
from mixer_tf.distributed import hosts
from mixer_tf.distributed.copies import OnCopy
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
    errors = [process.communicate(timeout=500)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, errors)]


def tf_workers(count):
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    cluster = {"worker": addresses}
    return [
        {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})}
        for i in range(count)
    ]


def saw(folder):
    """What each of two processes noted."""
    return [json.loads((folder / f"seen{i}.json").read_text()) for i in range(2)]


def columns(run):
    history = Run.open(run).history()
    return np.array([history[name] for name in LOSSES]).T


def assert_shown(run, alone):
    """The callbacks of a shared training saw the weights that one process has."""
    (order, epochs, kernels), (_, _, expected) = snapshots(run), snapshots(alone)
    assert list(epochs) == [0, 1, 2, 3]
    assert sorted(order) == list(range(kernels.shape[-1]))
    np.testing.assert_allclose(kernels, expected, rtol=0, atol=5e-4)
    assert (np.abs(np.diff(kernels, axis=0)).max(axis=(1, 2, 3, 4)) > 1e-3).all()
    found, right = events(run), events(alone)
    assert {tag: list(steps) for tag, steps in found.items()} == {
        tag: list(steps) for tag, steps in right.items()
    }
    assert list(found["patch_projections"]) == [0, 1, 2]
    assert list(found["confusion"]) == [2]
    assert found["learning_rate"] == pytest.approx(right["learning_rate"])
    points, expected = (np.loadtxt(path / "projector" / "pictures.tsv") for path in (run, alone))
    np.testing.assert_allclose(points, expected, rtol=0, atol=1e-2)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The training of one process, which all others are held against."""
    out = tmp_path_factory.mktemp("alone") / "run"
    data, recipe = prepared()
    train(MODEL, data, recipe, out, seed=5, precision="float32", callbacks=shown, quiet=True)
    return out


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two processes that train, disagree, and train again until the last one dies."""
    folder = tmp_path_factory.mktemp("pair")
    ended = launch(folder, tf_workers(2), "die")
    return folder, ended, saw(folder)


def test_two_processes_train_as_one(alone, pair):
    folder, _, seen = pair
    for one in seen:  # every process, not the chief's record alone
        np.testing.assert_allclose(one["losses"], columns(alone), rtol=0, atol=1e-5)
        assert one["checksums"] == seen[0]["checksums"]
        assert one["result"] == seen[0]["result"]
    np.testing.assert_allclose(columns(folder / "run"), columns(alone), rtol=0, atol=1e-5)
    result, expected = Run.open(folder / "run").result(), Run.open(alone).result()
    np.testing.assert_allclose(result["test_loss"], expected["test_loss"], atol=1e-5)
    assert_shown(folder / "run", alone)


def test_a_callback_of_the_chief_ends_the_training_of_all(pair):
    folder, _, seen = pair
    assert [one["epochs until stopped"] for one in seen] == [2, 2]
    assert len(columns(folder / "stopped")) == 2


def test_other_recipes_are_refused_by_all(pair):
    folder, _, seen = pair
    for one in seen:
        assert "batch_size is 48 on worker 1 and 24 on worker 0" in one["disagreement"]
    assert not (folder / "never").exists()


def test_a_killed_worker_ends_all_and_one_process_can_go_on(alone, pair):
    folder, ended, _ = pair
    assert [code for code, _ in ended] == [75, -9]
    assert "start all of them again with --resume" in ended[0][1].splitlines()[-1]
    with np.load(folder / "lost" / "state.npz") as file:
        progress = json.loads(file["progress"].tobytes())
    assert progress["step"] == 12  # of the 13 made, the last that was saved
    resume(folder / "lost", prepared()[0], quiet=True)
    lost, expected = columns(folder / "lost"), columns(alone)
    np.testing.assert_allclose(lost, expected, rtol=0, atol=1e-5)


def test_four_devices_train_as_one(alone, tmp_path):
    ((code, errors),) = launch(tmp_path, [{}], "devices", "4")
    assert code == 0, errors
    np.testing.assert_allclose(columns(tmp_path / "4"), columns(alone), rtol=0, atol=1e-5)
    assert_shown(tmp_path / "4", alone)


@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="JAX is not installed")
def test_jax_devices_and_processes_train_as_one(tmp_path):
    devices = f"{SLOW_CODE_SOON} --xla_force_host_platform_device_count=2"
    flags = {"KERAS_BACKEND": "jax", "XLA_FLAGS": devices}
    ((code, errors),) = launch(tmp_path, [flags], "devices", "1", "2")
    assert code == 0, errors
    one = columns(tmp_path / "1")
    np.testing.assert_allclose(columns(tmp_path / "2"), one, rtol=0, atol=1e-5)
    assert_shown(tmp_path / "2", tmp_path / "1")

    address = f"127.0.0.1:{free_ports(1)[0]}"
    flags["XLA_FLAGS"] = SLOW_CODE_SOON
    flags |= {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    environments = [{**flags, "JAX_PROCESS_ID": str(i)} for i in range(2)]
    ended = launch(tmp_path, environments, "die")
    assert [code for code, _ in ended] == [75, -9], ended
    assert "start all of them again with --resume" in ended[0][1].splitlines()[-1]
    first, second = saw(tmp_path)
    np.testing.assert_allclose(first["losses"], one, rtol=0, atol=1e-5)
    assert first["checksums"] == second["checksums"]
    assert_shown(tmp_path / "run", tmp_path / "1")
    assert first["epochs until stopped"] == second["epochs until stopped"] == 2
    assert "batch_size is 48 on worker 1 and 24 on worker 0" in second["disagreement"]


def test_a_meeting_that_fails_is_waited_for_once(monkeypatch):
    waited = []

    def join():
        waited.append(1)
        raise ValueError("worker 1 did not come")

    monkeypatch.setattr(hosts, "join", join)
    with pytest.raises(ValueError, match="worker 1 did not come"), hosts.losing_workers():
        hosts.join()
    assert len(waited) == 1


def test_callbacks_on_a_copy_hear_all_that_a_training_says():
    """Epochs, batches and validation, in the order in which Keras alone would say it."""
    images, labels = np.ones((12, 2), "float32"), np.ones((12, 1), "float32")
    heard = []
    for through in (list, lambda callbacks: [OnCopy(callbacks, small())]):
        ear = Ear()
        small().fit(
            images, labels, batch_size=4, epochs=2, verbose=0, validation_data=(images, labels),
            callbacks=through([ear]),
        )  # fmt: skip
        heard.append(ear.heard)
    assert heard[0] == heard[1]
    assert {"on_train_batch_end", "on_test_begin", "on_test_batch_end"} <= set(heard[0])


def heard_as(name):
    return lambda self, *arguments, **named: self.heard.append(name)


class Ear(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.heard = []


for hook in dir(keras.callbacks.Callback):
    if hook.startswith("on_"):
        setattr(Ear, hook, heard_as(hook))


def small():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse", optimizer="sgd", jit_compile=False)
    return model
