"""Google's Mixer checkpoints in and out.

The file is an `.npz` with the names of the Flax implementation
(google-research/vision_transformer, `models_mixer.py`):

    stem/{kernel,bias}                                       kernel [height, width, 3, C]
    MixerBlock_i/LayerNorm_{0,1}/{scale,bias}
    MixerBlock_i/{token,channel}_mixing/Dense_{0,1}/{kernel,bias}
    pre_head_layer_norm/{scale,bias}
    head/{kernel,bias}

Keras and Flax lay out Dense and convolution kernels alike, so nothing is
transposed on the way.
"""

import numpy as np

from mixer_tf import stages
from mixer_tf.storage import files, npz
from mixer_tf.variants import VARIANTS, other_function

HEADS = ("load", "drop")
_SHOWN = 6  # names of a kind in a message
# Of a token-mixing weight, the axis that counts tokens; the others count hidden units.
_TOKENS = {
    "token_mixing/Dense_0/kernel": 0,
    "token_mixing/Dense_1/kernel": 1,
    "token_mixing/Dense_1/bias": 0,
}


def load_npz(model, path, head="load"):
    """Load Google's weights into a Mixer.

    The file is read array by array, so the peak of memory is the model and its
    largest array. Either all weights are loaded or none.

    Args:
        model: a Mixer of this suite, built for the picture size of the file.
        path: of the `.npz`.
        head: `"load"`, or `"drop"`: the file's head is left out and the model's
            is set to zero, as the paper does for fine-tuning on other classes.

    Returns:
        The model.

    Raises:
        ValueError: the file is damaged, holds anything but finite floating-point
            arrays, or does not fit the model; the names and shapes that do not
            fit are counted, the first of each kind named.
    """
    with npz.NpzFile(path) as source:
        return fill(model, source, head)


def save_npz(model, path):
    """Write a Mixer's weights in Google's format, whole or not at all.

    Args:
        model: a Mixer of this suite.
        path: of the `.npz`; an existing file is replaced.

    Raises:
        ValueError: the model is no Mixer of this suite, or has another activation or epsilon than
            Google's, which everybody who reads the file would take.
    """
    weights = table(model)
    if found := other_function(stages.config_of(model), VARIANTS["mixer_b16"]):
        name, has, wanted = found
        raise ValueError(
            f"The model has {name} {has}; Google's .npz has no place for that and means {wanted}. "
            "Save a .weights.h5, and keep its MixerConfig beside it."
        )
    with files.replacing(path) as beside:
        npz.write_npz(beside, ((name, np.asarray(v)) for name, v in weights.items()))


def table(model):
    """{name in Google's file: variable of the model}, in the order of the layers.

    Raises:
        ValueError: the model is no Mixer of this suite.
    """
    blocks = stages.blocks(model)
    found = _kernel_bias("stem", model.get_layer("stem"))
    if stages.has_layer(model, "stem_norm"):  # Google's Mixers have none
        found |= _scale_bias("stem_norm", model.get_layer("stem_norm"))
    for i, block in enumerate(blocks):
        for j, norm in enumerate((block.layer_norm_0, block.layer_norm_1)):
            found |= _scale_bias(f"MixerBlock_{i}/LayerNorm_{j}", norm)
        for kind in ("token_mixing", "channel_mixing"):
            mlp = getattr(block, kind)
            for j, dense in enumerate((mlp.dense_0, mlp.dense_1)):
                found |= _kernel_bias(f"MixerBlock_{i}/{kind}/Dense_{j}", dense)
    if stages.has_layer(model, "pre_head_layer_norm"):
        found |= _scale_bias("pre_head_layer_norm", model.get_layer("pre_head_layer_norm"))
    if stages.has_layer(model, "head"):
        found |= _kernel_bias("head", model.get_layer("head"))
    return found


def _kernel_bias(name, layer):
    return {f"{name}/kernel": layer.kernel, f"{name}/bias": layer.bias}


def _scale_bias(name, layer):
    return {f"{name}/scale": layer.gamma, f"{name}/bias": layer.beta}


class ModelWeights:
    """A model in memory as a source for `fill`.

    Args:
        model: a Mixer of this suite, or what `weights` belong to.
        weights: {name: variable}; by default the `table` of the Mixer.
    """

    def __init__(self, model, weights=None):
        self.name = model.name
        self._stem = model.get_layer("stem")
        self._weights = table(model) if weights is None else weights
        self.shapes = {name: tuple(v.shape) for name, v in self._weights.items()}

    @property
    def grid(self):
        """Rows and columns of a Mixer's tokens."""
        return tuple(self._stem.output.shape[1:3])

    def __str__(self):
        return f"The model {self.name!r}"

    def read(self, name):
        """One array."""
        return np.asarray(self._weights[name])


def fill(model, source, head="load", weights=None):
    """Put all weights of a source into a model, or none.

    Args:
        model: a Mixer of this suite, or what `weights` belong to.
        source: has `shapes` ({name in Google's file: shape}), `read(name)` and a
            name of its own for messages (`str`).
        head: as for `load_npz`.
        weights: {name in the source: what has `shape` and `assign`}; by default
            the `table` of the Mixer.

    Returns:
        The model.

    Raises:
        ValueError: as for `load_npz`.
    """
    if head not in HEADS:
        raise ValueError(f"head is {head!r}; give 'load' or 'drop'.")
    weights = table(model) if weights is None else weights
    wanted = {k: tuple(v.shape) for k, v in weights.items() if head == "load" or not _in_head(k)}
    offered = {k: shape for k, shape in source.shapes.items() if head == "load" or not _in_head(k)}
    if wanted != offered:
        raise ValueError(_difference(model, source, wanted, offered))
    # Twice through the file, because what is wrong in its last array must not leave half of the
    # others in the model, and keeping all of them would take the memory of a second model.
    for name in wanted:
        source.read(name)
    for name, variable in weights.items():
        if name in wanted:
            variable.assign(source.read(name))
        else:
            variable.assign(np.zeros(variable.shape, "float32"))
    return model


def _in_head(name):
    return name.startswith("head/")


def _difference(model, source, wanted, offered):
    """What does not fit, in one line, and what to do about it."""
    missing = [name for name in wanted if name not in offered]
    strange = [name for name in offered if name not in wanted]
    common = [name for name in wanted if name in offered and wanted[name] != offered[name]]
    parts = [
        f"{words} {len(names)}: {_some(names)}"
        for words, names in (
            ("missing", missing),
            ("unknown", [repr(name) for name in strange]),
            ("of another shape", [f"{n} {offered[n]}, not {wanted[n]}" for n in common]),
        )
        if names
    ]
    advice = []
    if any(_in_head(name) for name in (*missing, *strange, *common)):
        advice.append("head='drop' leaves the file's head out")
    inner = [name for name in common if not _in_head(name)]
    if all("token_mixing" in name for name in inner) and any(
        _tokens(name, wanted[name]) != _tokens(name, offered[name]) for name in inner
    ):  # where other shapes differ too, it is another network, whatever its picture
        advice.append("a Mixer is built for one picture size: load at the file's, then resize")
    end = f" ({'; '.join(advice)})." if advice else "."
    return f"{source} does not fit the model {model.name!r}: {'; '.join(parts)}{end}"


def _some(names):
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _tokens(name, shape):
    """How many tokens a weight is for, `(tokens,)`; `()` where that does not show in its shape."""
    axis = _TOKENS.get(name.partition("/")[2])
    return () if axis is None else shape[axis : axis + 1]
