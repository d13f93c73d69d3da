"""The one place that holds the version, and what else a result depends on."""

__version__ = "0.1.0"


def versions():
    """Versions of everything that computes, by name."""
    import importlib
    import platform

    import keras
    import numpy as np

    backend = keras.backend.backend()
    return {
        "mixer_tf": __version__,
        "python": platform.python_version(),
        "keras": keras.__version__,
        backend: importlib.import_module(backend).__version__,
        "numpy": np.__version__,
    }
