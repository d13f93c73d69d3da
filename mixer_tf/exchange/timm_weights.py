"""Mixer weights of timm (PyTorch Image Models) from `.safetensors`, without PyTorch.

timm computes GELU exactly, so its own training results need
`MixerConfig(activation="gelu")`; Google's weights, which timm hosts too, were
trained with the tanh form. Both expect pictures scaled to [-1, 1], as the models
here do; weights made under other means and deviations (timm's `miil`) do not fit.
"""

import pathlib
import re

import numpy as np

from mixer_tf.storage.npz import finite

_PARTS = {
    "norm1": "LayerNorm_0",
    "norm2": "LayerNorm_1",
    "mlp_tokens.fc1": "token_mixing/Dense_0",
    "mlp_tokens.fc2": "token_mixing/Dense_1",
    "mlp_channels.fc1": "channel_mixing/Dense_0",
    "mlp_channels.fc2": "channel_mixing/Dense_1",
}
_WHOLE = {
    "stem.proj": "stem",
    "stem.norm": "stem_norm",
    "norm": "pre_head_layer_norm",
    "head": "head",
}


def google_name(name):
    """Google's name for one of timm's; its own where it has none, which `fill` then lists."""
    layer, _, kind = name.rpartition(".")
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", layer)
    if block and block[2] in _PARTS:
        new = f"MixerBlock_{block[1]}/{_PARTS[block[2]]}"
    elif layer in _WHOLE:
        new = _WHOLE[layer]
    else:
        return name
    weight = "scale" if "norm" in layer else "kernel"
    return f"{new}/{weight if kind == 'weight' else kind}"


class TimmFile:
    """A timm model's `.safetensors` as a source for `fill`.

    Args:
        path: of the file.
        rename: gives each of timm's names its new one; Google's by default.

    Raises:
        ValueError: it is missing or damaged, or safetensors is not installed.
    """

    def __init__(self, path, rename=google_name):
        self.path = pathlib.Path(path)
        try:
            import safetensors
        except ImportError as error:
            raise ValueError(f"Reading {path} needs: pip install safetensors.") from error
        if not self.path.is_file():
            raise ValueError(f"There is no file {str(path)!r}.")
        try:
            # It compares all declared shapes with the size of the file, and holds no code to run.
            self._file = safetensors.safe_open(self.path, framework="numpy")
            self._file.__enter__()
        except Exception as error:  # safetensors has an error class of its own
            raise ValueError(f"{path} is no readable .safetensors file ({error}).") from error
        self._names = {rename(name): name for name in self._file.keys()}  # noqa: SIM118
        self.shapes = {key: self._shape(key) for key in self._names}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.__exit__(None, None, None)

    def __str__(self):
        return str(self.path)

    def _shape(self, key):
        shape = tuple(self._file.get_slice(self._names[key]).get_shape())
        return tuple(shape[i] for i in _axes(len(shape)))

    def read(self, key):
        """One array in Google's layout, float32 (ValueError where it is not finite)."""
        try:
            array = self._file.get_tensor(self._names[key])
        except Exception as error:  # safetensors has an error class of its own
            raise ValueError(f"{self.path}: {key!r} cannot be read ({error}).") from error
        if array.dtype.kind not in "fV":  # bfloat16 is of kind V
            raise ValueError(f"{self.path}: {key!r} is of dtype {array.dtype}, not of numbers.")
        array = array.astype("float32", copy=False)
        return finite(np.ascontiguousarray(array.transpose(_axes(array.ndim))), self, key)


def _axes(dimensions):
    """How PyTorch's axes are put into Keras's order."""
    if dimensions == 4:  # a convolution
        return (2, 3, 1, 0)  # [out, in, height, width] -> [height, width, in, out]
    return tuple(reversed(range(dimensions)))  # [out, in] -> [in, out]
