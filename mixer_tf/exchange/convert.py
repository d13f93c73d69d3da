"""Weights from one kind of file to another: Google's, timm's, Keras's and a run's."""

import math
import pathlib

from mixer_tf import zoo
from mixer_tf.checkpoints import fill, save_npz
from mixer_tf.exchange.timm_relatives import RelativeFile, fill_relative, scale_as_timm
from mixer_tf.exchange.timm_weights import TimmFile
from mixer_tf.runs import Run
from mixer_tf.storage import h5, npz
from mixer_tf.variants import RELATIVES, VARIANTS

_MOST_CLASSES = 100_000  # ImageNet-21k has 21,843; a model is built before the weights are read


def convert(source, target, model=None, num_classes=None, image_size=None):
    """Convert the weights of a Mixer, or timm's of one of its relatives.

    Args:
        source: a Google `.npz`, a timm `.safetensors`, a Keras `.weights.h5`, or
            the folder of a run.
        target: an `.npz` or `.weights.h5` to write, where nothing is yet.
        model: name of the Mixer or relative in `MODELS`; a run knows its own.
        num_classes: width of the head in a `.weights.h5`; the model's published
            one if left out. The other files tell it themselves.
        image_size: height and width in pixels that the weights are for, where it
            is not the model's published size.

    Returns:
        The model that was converted.

    Raises:
        ValueError: a kind of file is unknown, the weights do not fit the model, or what
            is given stands in the source already.
    """
    source, target = pathlib.Path(source), pathlib.Path(target)
    if not target.name.endswith((".npz", ".weights.h5")):
        raise ValueError(
            f"{target} is no file to write; give a name ending in .npz or .weights.h5."
        )
    if target.exists():
        raise ValueError(f"{target} exists; give another name.")
    told = {"--model": model, "--classes": num_classes, "--image-size": image_size}
    if not source.is_dir():
        told = {} if source.name.endswith(".weights.h5") else {"--classes": num_classes}
    if needless := [flag for flag, value in told.items() if value is not None]:
        raise ValueError(
            f"{source} says itself what {' and '.join(needless)} would; leave that out. For "
            "weights of another picture size there is `mixer_tf.resize`."
        )
    if not source.exists():
        raise ValueError(f"There is no file and no run {str(source)!r}.")
    if source.is_dir():
        run = Run.open(source)
        _check_kinds(run.config().model_name, source, target)
        built = run.model()
    else:
        if model is None:
            raise ValueError(f"{source} does not say of which Mixer it is; give --model.")
        if model not in VARIANTS | RELATIVES:
            raise ValueError(zoo.unknown("Mixer", model, VARIANTS | RELATIVES))
        _check_kinds(model, source, target)
        built = _read(source, model, num_classes, image_size)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".npz":
        save_npz(built, target)
    else:
        h5.save_weights(built, target)
    return built


def _check_kinds(model, source, target):
    """Refuse a file that cannot hold a model of that name (ValueError)."""
    if model in RELATIVES and ".npz" in (source.suffix, target.suffix):
        raise ValueError(
            f"Google's .npz holds Mixers alone, not {model}; give a .safetensors or a run, and a "
            ".weights.h5."
        )


def _read(source, model, num_classes, image_size):
    height, width, channels = zoo.find(model).input_shape
    if image_size:
        height = width = image_size
    if source.name.endswith(".weights.h5"):
        built = zoo.build(model, (height, width, channels), num_classes)
        try:
            h5.load_weights(built, source)
        except ValueError as error:
            raise ValueError(
                f"{error} It was built with {built.output_shape[-1]} classes at {height}x{width}; "
                "give --classes and --image-size."
            ) from error
        return built
    readers = {".npz": (npz.NpzFile, fill), ".safetensors": (TimmFile, fill)}
    if model in RELATIVES:
        readers = {".safetensors": (RelativeFile, fill_relative)}
    if source.suffix not in readers:
        raise ValueError(
            f"{source} is no file to read; give an .npz, a .safetensors, a .weights.h5 or a run."
        )
    open_file, give = readers[source.suffix]
    with open_file(source) as weights:
        classes = math.prod(weights.shapes.get("head/bias", (0,)))
        if classes > _MOST_CLASSES:
            raise ValueError(f"{source} has a head of {classes:,} classes, which nothing real has.")
        stem = weights.shapes.get("stem/kernel", ())
        channels = stem[2] if len(stem) == 4 else channels
        built = give(zoo.build(model, (height, width, channels), classes), weights)
    if model in RELATIVES:
        scale_as_timm(built, RELATIVES[model].family)
    return built
