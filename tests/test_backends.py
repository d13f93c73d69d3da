"""The same tests on JAX, in a process of their own: a backend is chosen once, at the import."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
# What is compiled runs once or twice here: compiling it well is what takes the time.
SLOW_CODE_SOON = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
CHOSEN = [
    "test_layers.py",
    "test_mixer.py::test_logits_equal_numpy",
    "test_mixer.py::test_logits_are_float32_under_every_policy[mixer-mixed_bfloat16]",
    "test_train.py::test_stopped_and_resumed_equals_undisturbed[3]",
]


@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="JAX is not installed")
@pytest.mark.skipif("KERAS_BACKEND" in os.environ, reason="one backend was asked for")
def test_on_jax():
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *CHOSEN],
        cwd=HERE,
        env={**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": SLOW_CODE_SOON},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    assert " passed" in result.stdout
