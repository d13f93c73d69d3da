"""Tests run the notebooks in their short form: embedded data, few steps, a passing folder."""

import os
import tempfile

# A folder for each process of the tests, which removes it: two notebooks that run at once would
# write into the same run.
_runs = tempfile.TemporaryDirectory(prefix="mixer_tf_runs_")
os.environ["MIXER_TF_RUNS"] = _runs.name
os.environ.setdefault("MIXER_TF_QUICK", "1")
