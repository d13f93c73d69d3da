"""Tests run the notebooks in their short form: embedded data, few steps, a passing folder."""

import os
import tempfile

_runs = tempfile.TemporaryDirectory(prefix="mixer_tf_runs_")  # removed when the tests end
os.environ.setdefault("MIXER_TF_QUICK", "1")
os.environ.setdefault("MIXER_TF_RUNS", _runs.name)
