"""Three relatives of the Mixer: gMixer, ResMLP and gMLP, with the weights and logits of timm's.

All cut a picture into patches, mix tokens and channels by Dense layers and end
in a mean over tokens; they differ in the block. Written with `keras.layers`
alone, but for `Affine`, which Keras does not have.
"""

import keras
from keras import layers

from mixer_tf.resnet import rescale
from mixer_tf.variants import RelativeConfig


def build_relative(config: RelativeConfig, input_shape, num_classes, name="relative"):
    """Build a gMixer, ResMLP or gMLP as a functional Keras model.

    Args:
        config: which of them, and its size.
        input_shape: `(height, width, channels)`; height and width are whole
            numbers of patches.
        num_classes: width of the logits; 0 returns the pre-logits `[B, C]`.
        name: of the model.

    Returns:
        A `keras.Model` from pictures `[B, height, width, channels]` in [0, 255]
        to float32 logits `[B, num_classes]`. `block_0` ... are the sums that end
        the blocks, `[B, S, C]`.

    Raises:
        ValueError: the picture does not divide into patches.
    """
    rows, columns = config.token_grid(input_shape)
    block = {"gmixer": _gmixer_block, "resmlp": _resmlp_block, "gmlp": _gmlp_block}[config.family]
    norm = _affine if config.family == "resmlp" else _layer_norm

    images = keras.Input(tuple(input_shape), name="images")
    x = layers.Conv2D(config.hidden_dim, config.patch_size, strides=config.patch_size, name="stem")(
        rescale(images)
    )
    # [B, h, w, C] -> [B, S, C]
    x = layers.Reshape((rows * columns, config.hidden_dim), name="tokens")(x)
    for i in range(config.num_blocks):
        x = block(x, f"block_{i}")
    x = norm(x, "pre_head_layer_norm")
    x = layers.GlobalAveragePooling1D(name="pre_logits")(x)  # [B, S, C] -> [B, C]
    if num_classes:
        x = layers.Dense(num_classes, dtype="float32", name="head")(x)
    return keras.Model(images, x, name=name)


@keras.saving.register_keras_serializable(package="mixer_tf")
class Affine(layers.Layer):
    """A scale and an offset for each channel, `[..., C] -> [..., C]` (ResMLP, eq. 1).

    Args:
        initial: value of every scale before training.
        offset: False leaves the offset out: the paper's LayerScale.
        **kwargs: those of every Keras layer (`name`, `dtype`).
    """

    def __init__(self, initial=1.0, offset=True, **kwargs):
        super().__init__(**kwargs)
        self.initial = initial
        self.offset = offset

    def build(self, input_shape):
        # The names are those that recipes leave out of weight decay.
        shape = (input_shape[-1],)
        start = keras.initializers.Constant(self.initial)
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer=start)
        if self.offset:
            self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")
        super().build(input_shape)

    def call(self, x):
        return x * self.gamma + self.beta if self.offset else x * self.gamma

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "initial": self.initial, "offset": self.offset}


def _gmixer_block(x, name):
    """A Mixer block whose two MLPs are gated (Shazeer 2020, arXiv 2002.05202; timm's gMixer)."""
    channels = x.shape[-1]
    y = _transpose(_layer_norm(x, f"{name}_layer_norm_0"), f"{name}_columns")  # -> [B, C, S]
    y = _gated_mlp(y, channels // 2, f"{name}_token_mixing")
    x = layers.Add(name=f"{name}_mixed")([x, _transpose(y, f"{name}_rows")])
    y = _gated_mlp(_layer_norm(x, f"{name}_layer_norm_1"), 2 * channels, f"{name}_channel_mixing")
    return layers.Add(name=name)([x, y])


def _gated_mlp(x, units, name):
    """`[..., width] -> [..., units]` twice, one gating the other, `-> [..., width]`."""
    value = layers.Dense(units, name=f"{name}_value")(x)
    gate = layers.Dense(units, "swish", name=f"{name}_gate", **_open())(x)
    gated = layers.Multiply(name=f"{name}_gated")([value, gate])
    return layers.Dense(x.shape[-1], name=f"{name}_dense_1")(gated)


def _resmlp_block(x, name):
    """One Dense over tokens, an MLP over channels, no norm (Touvron et al. 2021, 2105.03404)."""
    tokens, channels = x.shape[1:]
    y = _transpose(_affine(x, f"{name}_affine_0"), f"{name}_columns")  # -> [B, C, S]
    y = layers.Dense(tokens, name=f"{name}_token_mixing")(y)
    y = _scaled(_transpose(y, f"{name}_rows"), f"{name}_scale_0")
    x = layers.Add(name=f"{name}_mixed")([x, y])
    y = _affine(x, f"{name}_affine_1")
    y = layers.Dense(4 * channels, "gelu", name=f"{name}_channel_mixing_dense_0")(y)
    y = layers.Dense(channels, name=f"{name}_channel_mixing_dense_1")(y)
    return layers.Add(name=name)([x, _scaled(y, f"{name}_scale_1")])


def _gmlp_block(x, name):
    """One MLP over channels, tokens mixed in the gate inside (Liu et al. 2021, 2105.08050)."""
    tokens, channels = x.shape[1:]
    y = _layer_norm(x, f"{name}_layer_norm")
    value = layers.Dense(3 * channels, "gelu", name=f"{name}_channel_mixing_value")(y)
    gate = layers.Dense(3 * channels, "gelu", name=f"{name}_channel_mixing_gate")(y)
    gate = _layer_norm(gate, f"{name}_spatial_gate_layer_norm", epsilon=1e-5)
    gate = _transpose(gate, f"{name}_columns")  # -> [B, 3 C, S]
    gate = layers.Dense(tokens, name=f"{name}_spatial_gate", **_open())(gate)
    y = layers.Multiply(name=f"{name}_gated")([value, _transpose(gate, f"{name}_rows")])
    return layers.Add(name=name)(
        [x, layers.Dense(channels, name=f"{name}_channel_mixing_dense_1")(y)]
    )


def _transpose(x, name):
    return layers.Permute((2, 1), name=name)(x)


def _layer_norm(x, name, epsilon=1e-6):
    return layers.LayerNormalization(epsilon=epsilon, name=name)(x)


def _affine(x, name):
    return Affine(name=name)(x)


def _scaled(x, name):
    """A residual branch that begins almost silent."""
    return Affine(1e-4, offset=False, name=name)(x)


def _open():
    """A gate that begins at one lets everything through (Liu et al. 2021, section 2.1)."""
    return {
        "kernel_initializer": keras.initializers.RandomNormal(stddev=1e-6),
        "bias_initializer": "ones",
    }
