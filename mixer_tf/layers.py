"""The two building blocks of MLP-Mixer as Keras layers.

Written only with `keras.layers` and `+`, so the same file runs on TensorFlow,
on JAX and on Keras 2.15. Source of both blocks: Tolstikhin et al., "MLP-Mixer:
An all-MLP Architecture for Vision", 2021 (arXiv 2105.01601), section 2, eq. 1.
"""

import numbers

import keras
from keras import layers


@keras.saving.register_keras_serializable(package="mixer_tf")
def gelu_tanh(x):
    """GELU by its tanh approximation, as in Google's Mixers (any shape)."""
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(package="mixer_tf")
class MlpBlock(layers.Layer):
    """Dense, nonlinearity, Dense back to the width of the input.

    Maps `[..., width] -> [..., width]` through `mlp_dim` hidden units.

    Args:
        mlp_dim: number of hidden units.
        activation: what `keras.layers.Activation` takes, or `gelu_tanh`.
        dropout: rate after each of the two Dense layers, in [0, 1).
        **kwargs: those of every Keras layer (`name`, `dtype`).

    Raises:
        ValueError: `mlp_dim` is not a positive whole number.
    """

    def __init__(self, mlp_dim, activation="gelu_tanh", dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.mlp_dim = _whole("mlp_dim", mlp_dim)
        self.activation = activation
        self.dropout = dropout

    def build(self, input_shape):
        shape = tuple(input_shape)
        policy = dtype_policy(self)
        nonlinearity = gelu_tanh if self.activation == "gelu_tanh" else self.activation
        self.dense_0 = layers.Dense(self.mlp_dim, dtype=policy, name="dense_0")
        self.nonlinearity = layers.Activation(nonlinearity, dtype=policy, name="nonlinearity")
        self.dense_1 = layers.Dense(shape[-1], dtype=policy, name="dense_1")
        self.drop = layers.Dropout(self.dropout, dtype=policy, name="drop")
        self.dense_0.build(shape)
        self.dense_1.build((*shape[:-1], self.mlp_dim))
        super().build(input_shape)

    def call(self, x, training=None):
        x = self.nonlinearity(self.dense_0(x))  # [..., width] -> [..., mlp_dim]
        x = self.drop(x, training=training)
        x = self.dense_1(x)  # [..., mlp_dim] -> [..., width]
        return self.drop(x, training=training)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {"mlp_dim": self.mlp_dim, "activation": self.activation, "dropout": self.dropout}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="mixer_tf")
class MixerBlock(layers.Layer):
    """One Mixer layer (eq. 1): mix tokens, then mix channels, each as a residual.

    Maps a table of tokens `[B, S, C] -> [B, S, C]`. The token-mixing MLP acts on
    the columns, shared by all channels; the channel-mixing MLP acts on the rows,
    shared by all tokens. Each has a LayerNorm of its own.

    Args:
        tokens_mlp_dim: hidden units of the token-mixing MLP (D_S).
        channels_mlp_dim: hidden units of the channel-mixing MLP (D_C).
        activation: see `MlpBlock`.
        dropout: rate inside both MLPs, in [0, 1).
        drop_path: rate at which a picture skips a residual branch (stochastic
            depth, Huang et al. 2016), in [0, 1).
        epsilon: of both LayerNorms; 1e-6 agrees with Google's weights.
        **kwargs: those of every Keras layer (`name`, `dtype`).

    Raises:
        ValueError: a number of hidden units is none, or, when it is built, the number of tokens
            or channels is unknown.
    """

    def __init__(
        self,
        tokens_mlp_dim,
        channels_mlp_dim,
        activation="gelu_tanh",
        dropout=0.0,
        drop_path=0.0,
        epsilon=1e-6,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.tokens_mlp_dim = _whole("tokens_mlp_dim", tokens_mlp_dim)
        self.channels_mlp_dim = _whole("channels_mlp_dim", channels_mlp_dim)
        self.activation = activation
        self.dropout = dropout
        self.drop_path = drop_path
        self.epsilon = epsilon

    def build(self, input_shape):
        batch, tokens, channels = tuple(input_shape)
        if tokens is None or channels is None:
            raise ValueError(
                f"A Mixer block needs a fixed number of tokens and channels, got the shape "
                f"{tuple(input_shape)}: its token-mixing weights belong to places in the picture."
            )
        policy = dtype_policy(self)
        mlp = {"activation": self.activation, "dropout": self.dropout, "dtype": policy}
        norm = {"epsilon": self.epsilon, "dtype": policy}
        self.layer_norm_0 = layers.LayerNormalization(name="layer_norm_0", **norm)
        self.token_mixing = MlpBlock(self.tokens_mlp_dim, name="token_mixing", **mlp)
        self.layer_norm_1 = layers.LayerNormalization(name="layer_norm_1", **norm)
        self.channel_mixing = MlpBlock(self.channels_mlp_dim, name="channel_mixing", **mlp)
        # Transposing around a Dense, not EinsumDense: Keras 3.10 to 3.15 on TensorFlow adds
        # EinsumDense's bias along the wrong axis when tokens == channels.
        self.transpose = layers.Permute((2, 1), dtype=policy, name="transpose")
        # One draw a picture: the whole branch stays or goes.
        self.skip = layers.Dropout(
            self.drop_path, noise_shape=(None, 1, 1), dtype=policy, name="skip"
        )
        self.layer_norm_0.build((batch, tokens, channels))
        self.token_mixing.build((batch, channels, tokens))
        self.layer_norm_1.build((batch, tokens, channels))
        self.channel_mixing.build((batch, tokens, channels))
        super().build(input_shape)

    def mix_tokens(self, x, training=None):
        """The first branch without its residual, `[B, S, C] -> [B, S, C]`."""
        x = self.transpose(self.layer_norm_0(x))  # [B, S, C] -> [B, C, S]
        x = self.token_mixing(x, training=training)
        return self.transpose(x)  # [B, C, S] -> [B, S, C]

    def mix_channels(self, x, training=None):
        """The second branch without its residual, `[B, S, C] -> [B, S, C]`."""
        return self.channel_mixing(self.layer_norm_1(x), training=training)

    def call(self, x, training=None):
        x = x + self.skip(self.mix_tokens(x, training=training), training=training)
        return x + self.skip(self.mix_channels(x, training=training), training=training)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {
            "tokens_mlp_dim": self.tokens_mlp_dim,
            "channels_mlp_dim": self.channels_mlp_dim,
            "activation": self.activation,
            "dropout": self.dropout,
            "drop_path": self.drop_path,
            "epsilon": self.epsilon,
        }
        return {**super().get_config(), **config}


def _whole(name, value):
    """A number of hidden units (ValueError where it is none)."""
    if not isinstance(value, numbers.Real) or value % 1 or value < 1:
        raise ValueError(f"{name} is {value!r}; give a whole number of at least 1.")
    return int(value)


def dtype_policy(layer):
    """The policy that a layer's children must share (Keras 3 and 2.15 name it differently)."""
    return getattr(layer, "dtype_policy", None) or layer._dtype_policy
