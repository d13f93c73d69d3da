"""Trained small models that come with the suite, by the name of what they were trained on.

Each lies in a folder `weights/MODEL-DATA`, which is a run directory without what only
resuming needs: `evaluate`, `predict`, `visualize` and `export` take it as they take any run.
"""

import hashlib
import pathlib

from mixer_tf import zoo
from mixer_tf.runs import Run

_HERE = pathlib.Path(__file__).parent
# In a checkout at its top; installed, within the package.
FOLDER = (_HERE if (_HERE / "weights").is_dir() else _HERE.parent) / "weights"
SUMS = "SHA256SUMS"


def names():
    """The (model, data) of everything that is there, in order of their names."""
    if not FOLDER.is_dir():
        return []
    return [tuple(path.parent.name.split("-", 1)) for path in sorted(FOLDER.glob(f"*/{SUMS}"))]


def build(model, input_shape=None, num_classes=None, weights=None):
    """A model by name, or from a `MixerConfig` or `RelativeConfig`; trained where asked.

    Args:
        model: a name in `MODELS`, or a config.
        input_shape: `(height, width, channels)`; the published one if left out.
        num_classes: width of the logits, 0 for pre-logits; the published number if
            left out.
        weights: what the weights were trained on, such as `"cifar10"`; fresh ones if
            left out. Shape and classes are then those of the training.

    Returns:
        A `keras.Model` from pictures `[B, height, width, channels]` in [0, 255]
        to float32 logits `[B, num_classes]`. The names of the classes of trained weights
        stand in `config.json` of their folder in `weights/`.

    Raises:
        ValueError: the name is unknown (the nearest are given), a config came without
            shape or classes, they do not fit, or there are no such weights (those
            that are there are named).
    """
    if weights is None:
        return zoo.build(model, input_shape, num_classes)
    return load(model, weights, input_shape, num_classes)


def load(model, data, input_shape=None, num_classes=None):
    """A trained model.

    Args:
        model: name in `MODELS`.
        data: what it was trained on, such as `"cifar10"`.
        input_shape, num_classes: where given, they must be those it was trained with.

    Returns:
        The `keras.Model`.

    Raises:
        ValueError: there are no such weights (those that are there are named), they are
            for other pictures or classes, or the file is not the one that was shipped.
    """
    zoo.find(model)
    if (model, data) not in names():
        there = ", ".join(f'build("{m}", weights="{d}")' for m, d in names()) or "none here"
        raise ValueError(
            f"There are no weights of {model} trained on {data!r}; there are: {there}."
        )
    run = Run.open(FOLDER / f"{model}-{data}")
    config = run.config()
    trained = (tuple(config.input_shape), config.num_classes)
    asked = zoo.checked_shape(
        trained[0] if input_shape is None else input_shape,
        trained[1] if num_classes is None else num_classes,
    )
    if asked != trained:
        raise ValueError(
            f"The weights of {model} trained on {data} are for pictures {trained[0]} and "
            f"{trained[1]} classes, not for {asked[0]} and {asked[1]}; build with those, then "
            "use mixer_tf.resize for another size, or train with --pretrained for other classes."
        )
    check(run.folder)
    return run.model()


def check(folder):
    """Compare the files of a folder with the sums that were written when it was shipped.

    Raises:
        ValueError: a file is missing or another.
    """
    for line in (pathlib.Path(folder) / SUMS).read_text().splitlines():
        expected, name = line.split()
        file = pathlib.Path(folder) / pathlib.PurePath(name).name
        if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            raise ValueError(
                f"{file} is not the file that was shipped; fetch it again from where the suite "
                "came from."
            )
