import os
import tempfile

import hypothesis
import numpy as np
import pytest
from PIL import Image

# Before anything imports TensorFlow: its start-up messages are no part of a test's output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# What a reader of the pages may have set for other purposes.
for name in ("MIXER_TF_DATA_DIR", "MIXER_TF_TRACEBACK", "MIXER_TF_WAIT", "TF_CONFIG"):
    os.environ.pop(name, None)

# Tests run two at a time, see pyproject.toml: threads that TensorFlow gives one of them wait busily
# for those of the other (four files that train: 140 seconds with one thread each, 238 without).
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

# The processes that run on JAX share what it has compiled. Made by the first process of the tests,
# which removes it; those it starts have the variable from it.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix="mixer_tf_compiled_")
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": _compiled.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


# On a server the same examples every time: a failure there is one of the change, not of chance.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


@pytest.fixture(autouse=True)
def _fresh_policy():
    """No test leaves its precision policy to the next."""
    yield
    import keras

    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture
def without_xla(monkeypatch):
    """Trainings of a few steps, which compiling would only hold up."""
    import helpers

    helpers.without_xla(monkeypatch)


@pytest.fixture(scope="session")
def digits():
    """The embedded data set."""
    from mixer_tf.data import load_data

    return load_data("digits")


@pytest.fixture(scope="session")
def tiny_data(digits):
    """A tenth of the digits, for tests that train."""
    import dataclasses

    return dataclasses.replace(
        digits,
        train=digits.train.take(slice(0, 160)),
        validation=digits.validation.take(slice(0, 40)),
        test=digits.test.take(slice(0, 60)),
    )


@pytest.fixture
def picture_folder(tmp_path):
    """A folder of class folders: `make(classes, per_class, size)` -> path."""

    def make(classes=("cat", "dog"), per_class=10, size=(8, 8), below=""):
        draws = np.random.default_rng(0)
        root = tmp_path / "pictures"
        for name in classes:
            folder = root / below / name
            folder.mkdir(parents=True)
            for i in range(per_class):
                pixels = draws.integers(0, 256, (*size, 3), dtype="uint8")
                Image.fromarray(pixels).save(folder / f"{i}.png")
        return root

    return make
