"""Weights of timm's gMixer, ResMLP and gMLP from `.safetensors`, without PyTorch.

timm's configurations scale the pictures of its gMLP to [-1, 1], as the models here do, and those
of every gMixer and ResMLP by ImageNet's means and deviations, which `scale_as_timm` makes up for.
"""

import numpy as np

from mixer_tf.checkpoints import fill
from mixer_tf.exchange.timm_weights import TimmFile
from mixer_tf.relatives import Affine

_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], "float32")  # of red, green, blue in [0, 1]
_IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], "float32")
_PARTS = {
    "stem": "stem/proj",
    "pre_head_layer_norm": "norm",
    "head": "head",
    "layer_norm": "norm",
    "layer_norm_0": "norm1",
    "layer_norm_1": "norm2",
    "affine_0": "norm1",
    "affine_1": "norm2",
    "scale_0": "ls1",
    "scale_1": "ls2",
    "token_mixing": "linear_tokens",
    "token_mixing_value": "mlp_tokens/fc1",
    "token_mixing_gate": "mlp_tokens/fc1",
    "token_mixing_dense_1": "mlp_tokens/fc2",
    "spatial_gate_layer_norm": "mlp_channels/gate/norm",
    "spatial_gate": "mlp_channels/gate/proj",
    "channel_mixing_value": "mlp_channels/fc1",
    "channel_mixing_gate": "mlp_channels/fc1",
    "channel_mixing_dense_0": "mlp_channels/fc1",
    "channel_mixing_dense_1": "mlp_channels/fc2",
}


class RelativeFile(TimmFile):
    """timm's `.safetensors` of a gMixer, ResMLP or gMLP; errors as for `TimmFile`."""

    def __init__(self, path):
        super().__init__(path, rename=lambda name: name.replace(".", "/"))


def fill_relative(model, source, head="load"):
    """Give a relative the weights of a `RelativeFile`.

    Args:
        model: what `build_relative` made, for the picture size of the file.
        source: an open `RelativeFile`.
        head: as for `load_npz`.

    Returns:
        The model.

    Raises:
        ValueError: as for `load_npz`.
    """
    return fill(model, source, head, _table(model))


def scale_as_timm(model, family):
    """Let a relative's stem take pictures in [-1, 1] for pictures as timm scales them.

    The stem is linear and has no border, so that its weights can hold the difference:
    (p - mean) / deviation is p' / (2 deviation) + (0.5 - mean) / deviation where p' = 2 p - 1.

    Args:
        model: filled by `fill_relative` with what timm trained.
        family: `"gmixer"`, `"resmlp"` or `"gmlp"`; the last is left as it is, as is whatever
            does not take pictures of three colours.
    """
    stem = model.get_layer("stem")
    kernel, bias = (np.asarray(weight) for weight in stem.get_weights())  # [h, w, c, C], [C]
    if family == "gmlp" or kernel.shape[2] != len(_IMAGENET_MEAN):
        return
    by_channel = kernel.sum((0, 1))  # [c, C]
    bias = bias + ((0.5 - _IMAGENET_MEAN) / _IMAGENET_DEVIATION) @ by_channel
    stem.set_weights([kernel / (2 * _IMAGENET_DEVIATION[:, None]), bias])


def _table(model):
    """{timm's name: `_Joined`} for every weight of a relative."""
    found = {}
    # a value before its gate: the order in which timm keeps both as one weight
    for layer in sorted(model.layers, key=lambda layer: layer.name.endswith("_gate")):
        for variable in layer.weights:
            flat = isinstance(layer, Affine) and layer.offset
            found.setdefault(_timm_name(layer, variable), _Joined(flat)).add(variable)
    return found


def _timm_name(layer, variable):
    """`block_3_affine_0`, `gamma` -> `blocks/3/norm1/alpha`."""
    name, block = layer.name, ""
    if name.startswith("block_"):
        _, number, name = name.split("_", 2)
        block = f"blocks/{number}/"
    if name.startswith("scale_"):
        return block + _PARTS[name]  # a weight with no layer of its own
    kinds = {"kernel": "weight", "gamma": "weight"}
    if isinstance(layer, Affine):
        kinds = {"gamma": "alpha", "beta": "beta"}
    kind = variable.name.split("/")[-1].split(":")[0]
    return f"{block}{_PARTS[name]}/{kinds.get(kind, 'bias')}"


class _Joined:
    """Variables that timm keeps as one weight, side by side on its last axis.

    Args:
        flat: timm's has two axes more, of length 1.
    """

    def __init__(self, flat):
        self._flat = flat
        self._variables = []

    def add(self, variable):
        self._variables.append(variable)

    @property
    def shape(self):
        *front, last = self._variables[0].shape
        whole = (*front, last * len(self._variables))
        return (*whole, 1, 1) if self._flat else whole

    def assign(self, array):
        array = array.reshape(array.shape[:1]) if self._flat else array
        parts = np.split(array, len(self._variables), axis=-1)
        for variable, part in zip(self._variables, parts):
            variable.assign(part)
