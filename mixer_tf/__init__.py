"""MLP-Mixer for Keras: layers, models, data, training.

    import mixer_tf
    model = mixer_tf.build("mixer_nano", input_shape=(32, 32, 3), num_classes=10)

Names are loaded when they are first used, so that importing the package, and
asking the command line for help, does not load TensorFlow.
"""

import importlib

from mixer_tf.version import __version__

_ROOMS = {
    "MODELS": "zoo",
    "build": "shipped",
    "MixerConfig": "variants",
    "RelativeConfig": "variants",
    "MlpBlock": "layers",
    "MixerBlock": "layers",
    "load_data": "data",
    "Data": "data",
    "Split": "data",
    "Recipe": "recipe",
    "RECIPES": "recipes",
    "Augmentation": "recipe",
    "TrainingBatches": "batches",
    "EvaluationBatches": "batches",
    "Run": "runs",
    "RunConfig": "run_config",
    "load_npz": "checkpoints",
    "save_npz": "checkpoints",
    "resize": "resizing",
    "fuse": "repvgg",
    "features": "stages",
}

__all__ = ["__version__", *_ROOMS]


def __getattr__(name):
    if name not in _ROOMS:
        raise AttributeError(f"module 'mixer_tf' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mixer_tf.{_ROOMS[name]}"), name)
    globals()[name] = value  # not asked for again
    return value


def __dir__():
    return sorted(__all__)
