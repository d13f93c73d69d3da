"""What several test modules use."""

import contextlib
import io
import itertools
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from mixer_tf.cli import main
from mixer_tf.runs import Run
from mixer_tf.runtime import Runtime

ROOT = pathlib.Path(__file__).parent.parent
# On JAX what is compiled runs once or twice: compiling it well is what takes the time.
SLOW_CODE_SOON = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def at_hand():
    """The environment of a process that has the library and the tests at hand, wherever it is."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


def run_python(code, *arguments, ends_with=0):
    """A program of its own; how it ended."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env=at_hand(),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == ends_with, done.stdout[-2000:] + done.stderr[-2000:]
    return done


def refused(capture, *words):
    """The one line by which a command refuses its words; exit code 2, and no result.

    Args:
        capture: pytest's `capsys` or `capfd`.
        *words: of the command, from its name on.
    """
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    output = capture.readouterr()
    assert stopped.value.code == 2, output
    lines = output.err.strip().splitlines()
    assert len(lines) == 1, output.err
    assert not output.out
    return lines[0]


def weights(run, which="last"):
    """Those that a run's folder holds."""
    return Run.open(run).model(which).get_weights()


def assert_same(a, b):
    """Two lists of arrays, equal to the last bit."""
    assert len(a) == len(b)
    for x, y in zip(a, b):
        np.testing.assert_array_equal(x, y)


def stop_after(step):
    """Callbacks for `train` that press Ctrl-C in the middle of a training."""

    class Press(keras.callbacks.Callback):
        count = 0

        def on_train_batch_begin(self, batch, logs=None):
            Press.count += 1
            if Press.count == step:
                os.kill(os.getpid(), signal.SIGINT)

    return lambda run: [Press()]


def peak():
    """The most memory that this process ever held, in bytes, by Linux's account."""
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])


def without_xla(patch, fused=False):
    """Let trainings run as Keras does by itself: compiling takes longer than their few steps.

    That is both the step of XLA and the ten programs of fused blocks, which what `compile` is
    given says nothing of.

    Args:
        patch: pytest's `monkeypatch`.
        fused: leave fused blocks as they are.
    """
    if keras.backend.backend() == "tensorflow":  # on JAX not compiling takes longer
        patch.setattr(Runtime, "jit_compile", lambda self, has_convolutions: False)
        if not fused:
            patch.setattr(Runtime, "fuses_blocks", False)


def events(folder):
    """`{tag: {step: what was written}}`: numbers, or sizes (width, height) of pictures."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    found = {}
    for path in sorted(pathlib.Path(folder).glob("*tfevents*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                plugin = value.metadata.plugin_data.plugin_name
                if plugin == "images" or value.tensor.string_val:
                    width, height, png = value.tensor.string_val
                    with Image.open(io.BytesIO(png)) as picture:
                        assert picture.size == (int(width), int(height))
                        read = picture.size
                else:
                    read = make_ndarray(value.tensor).item()
                found.setdefault(value.tag, {})[event.step] = read
    return found


def snapshots(folder):
    """What `PatchProjections` keeps: `(order, epochs, kernels)`."""
    with np.load(pathlib.Path(folder) / "patch_projections.npz", allow_pickle=False) as file:
        return file["order"], file["epochs"], file["kernels"]


def free_ports(count):
    """Ports of this machine that nothing listens on.

    Not those that the system would give: it hands the same out again, to another process of the
    tests, before a worker listens. Each process of the tests has a thousand of its own.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    found = []
    while len(found) < count:
        port = 20_000 + 1000 * worker + next(_places) % 1000
        with contextlib.suppress(OSError), socket.create_server(("", port)):
            found.append(port)
    return found


_places = itertools.count(os.getpid() * 37)  # another place than a session of tests beside this
