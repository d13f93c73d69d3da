"""Weights that exist, for a training to begin with: where they are, how they get into a model."""

import contextlib
import dataclasses
import math
import pathlib

from mixer_tf import stages
from mixer_tf.checkpoints import ModelWeights, fill
from mixer_tf.exchange import pretrained
from mixer_tf.exchange.timm_weights import TimmFile
from mixer_tf.mixer import build_mixer
from mixer_tf.resizing import weights_for
from mixer_tf.runs import Run
from mixer_tf.storage import npz
from mixer_tf.variants import find_mixer, other_function

_SIZES = ("num_blocks", "hidden_dim", "channels_mlp_dim", "patch_size")  # of any picture size
_TOKENS = "MixerBlock_0/token_mixing/Dense_0/kernel"  # its shape is (tokens, tokens_mlp_dim)


def open_source(source):
    """A Mixer's weights to begin with, as a context that gives a source for `checkpoints.fill`.

    Args:
        source: a Google `.npz`, a timm `.safetensors`, the folder of a run, or a
            name in `pretrained.CHECKPOINTS`.

    Raises:
        ValueError: it is none of these, or cannot be read.
    """
    path = pathlib.Path(source)
    if path.is_dir():
        return contextlib.nullcontext(ModelWeights(Run.open(path).model()))
    if path.suffix == ".npz":
        return npz.NpzFile(path)
    if path.suffix == ".safetensors":
        return TimmFile(path)
    if path.suffix or path.name != str(source):
        raise ValueError(
            f"{str(source)!r} is nothing to begin with; give a Google .npz, a timm .safetensors, "
            f"the folder of a run, or one of: {', '.join(pretrained.CHECKPOINTS)}."
        )
    return npz.NpzFile(pretrained.fetch(str(source)))


def adapted(model, input_shape, source):
    """The model that takes a source's weights at a picture size.

    Args:
        model: a name in `MODELS`, or a `MixerConfig`.
        input_shape: `(height, width, channels)` to train on.
        source: as for `open_source`.

    Returns:
        `model` itself, or a `MixerConfig` with the larger `tokens_mlp_dim` that
        Appendix C of the paper asks for where the picture is a whole multiple of
        the one that the weights were trained on.

    Raises:
        ValueError: `model` is not the one that a known name holds, or no Mixer and the
            source not a run of it, the picture is no whole number of patches, or the
            source cannot be read.
    """
    config = find_mixer(model)
    if config is None:
        check_same_network(model, input_shape, source)
        return model
    grid = rows, columns = config.token_grid(input_shape)
    if pathlib.Path(source).is_dir():
        _check_functions(config, Run.open(source))
    else:
        _check_known(model, config, str(source))
    with open_source(source) as weights:
        old = _grid(weights, grid)
        shape = weights.shapes.get(_TOKENS, ())
        units = shape[1] if len(shape) == 2 and all(shape) else config.tokens_mlp_dim
        if old == grid and units % config.tokens_mlp_dim:  # of another Mixer, which `fill` says
            return model
    whole = not (rows % old[0] or columns % old[1])
    units *= (rows // old[0]) * (columns // old[1]) if whole else 1
    if units == config.tokens_mlp_dim:
        return model
    return dataclasses.replace(config, tokens_mlp_dim=units)


def check_same_network(model, input_shape, source):
    """Refuse for a network that is no Mixer anything but a run of it: files are of Mixers.

    Args:
        model: its name in `MODELS`.
        input_shape: `(height, width, channels)` to train on.
        source: as for `open_source`.

    Raises:
        ValueError: it is something else, or no run.
    """
    if not pathlib.Path(source).is_dir():
        raise ValueError(
            f"{model} is no Mixer and begins with the weights of a run of its own kind only; "
            f"{str(source)!r} is no folder. Give that of a run."
        )
    config = Run.open(source).config()
    held = config.model_name
    if held != model:
        raise ValueError(
            f"{source} holds {held}, not {model}; give --model {held}, or another run."
        )
    theirs, channels = config.input_shape[2], input_shape[2]
    if theirs != channels:
        raise ValueError(
            f"{source} was trained on pictures of {theirs} channels, these have {channels}; give "
            "another run, or other pictures."
        )


def _check_functions(config, run):
    """Refuse the weights of a run that was trained with other functions between them."""
    theirs = find_mixer(run.config().model)
    if theirs and (found := other_function(theirs, config)):
        name, has, wanted = found
        raise ValueError(
            f"{run.folder} was trained with {name} {has}, the model has {wanted}; give a "
            "MixerConfig with that of the run."
        )


def _check_known(model, config, source):
    """Refuse a published checkpoint of another Mixer, before hundreds of megabytes are fetched."""
    if source not in pretrained.CHECKPOINTS:
        return
    held = pretrained.CHECKPOINTS[source].model
    if any(getattr(config, size) != getattr(find_mixer(held), size) for size in _SIZES):
        asked = model if isinstance(model, str) else "the model of this config"
        raise ValueError(f"{source} holds {held}, not {asked}; give --model {held}.")


def load(model, source):
    """Fill a model from a source, for training on other classes.

    The head is set to zero, as in the paper's fine-tuning; token-mixing weights of
    another picture size are resized. Statistics of BatchNormalization are taken along.

    Args:
        model: built from what `adapted` gave.
        source: as for `open_source`.

    Raises:
        ValueError: the weights do not fit; the model is left as it was.
    """
    if not stages.is_mixer(model):
        held = Run.open(source).model()
        fill(model, ModelWeights(held, _by_layer(held)), "drop", _by_layer(model))
        return
    with open_source(source) as weights:
        config, shape = stages.config_of(model), tuple(model.input_shape[1:])
        grid = config.token_grid(shape)
        rows, columns = _grid(weights, grid)
        if (rows, columns) == grid:
            fill(model, weights, head="drop")
            return
        height, width = config.patch_size
        small = build_mixer(
            dataclasses.replace(config, tokens_mlp_dim=weights.shapes[_TOKENS][1]),
            (rows * height, columns * width, shape[2]),
            stages.num_classes(model),
        )
        fill(small, weights, head="drop")
    fill(model, weights_for(small, shape)[1])


def _by_layer(model):
    """{layer/variable: variable of the model}, for a network whose layers hold no others."""
    return {
        f"{layer.name}/{variable.name}": variable
        for layer in model.layers
        for variable in layer.weights
    }


def _grid(weights, wanted):
    """Rows and columns of tokens that weights are for.

    A run's model tells them. A file tells their number alone: where it is that of the grid
    `wanted`, they are taken for that one, else for a square, as all published ones are.
    """
    if isinstance(weights, ModelWeights):
        return weights.grid
    shape = weights.shapes.get(_TOKENS, ())
    if len(shape) != 2 or not all(shape) or shape[0] == wanted[0] * wanted[1]:
        return wanted  # where it is missing or odd, `fill` says so
    side = math.isqrt(shape[0])
    if side * side != shape[0]:
        raise ValueError(
            f"{weights} is for {shape[0]} tokens, no square, and so cannot be brought to another "
            "picture size; give the --image-size it was trained on."
        )
    return side, side
