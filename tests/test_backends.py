"""The same tests on JAX, in a process of their own: a backend is chosen once, at the import."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest
from helpers import SLOW_CODE_SOON

HERE = pathlib.Path(__file__).parent
PARITY = "test_checkpoints.py::test_logits_equal_the_reference_and_bytes_survive_the_round_trip"
CHOSEN = [
    "test_layers.py",
    "test_mixer.py::test_logits_equal_numpy",
    "test_mixer.py::test_logits_are_float32_under_every_policy[mixer-mixed_bfloat16]",
    "test_train.py::test_stopped_and_resumed_equals_undisturbed[3]",
    "test_sam.py",
    "test_finetune.py::test_recomputed_blocks_learn_the_same",
    f"{PARITY}[mixer_rows]",
    "test_batches.py::test_equalization_is_pillows",
    "test_callbacks.py::test_each_image_has_its_tag_steps_and_size",
    "test_callbacks.py::test_scalars_are_there_for_each_epoch",
    "test_callbacks.py::test_snapshots_hold_every_epoch_in_a_fixed_order",
    "test_callbacks.py::test_projector_files_agree_with_each_other",
]


@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="JAX is not installed")
@pytest.mark.skipif("KERAS_BACKEND" in os.environ, reason="one backend was asked for")
def test_on_jax():
    one_process = ["-o", "addopts=-q", "-p", "no:cacheprovider"]  # each would start JAX again
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *one_process, *CHOSEN],
        cwd=HERE,
        env={**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": SLOW_CODE_SOON},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    assert " passed" in result.stdout
    assert "skipped" not in result.stdout
