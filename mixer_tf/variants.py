"""What a Mixer is made of, as data: `MixerConfig` and the table of known variants.

Kept apart from `mixer.py` so that a table of models can be shown without
loading Keras.
"""

import contextlib
import dataclasses
import numbers

from mixer_tf.plain import make_plain

_RATES = ("dropout", "stochastic_depth", "head_dropout", "token_dropout")


@dataclasses.dataclass(frozen=True)
class MixerConfig:
    """All choices that make a Mixer, in the words of the paper's Table 1.

    Raises:
        ValueError: a value is outside its range; the message names it.
    """

    num_blocks: int  # Mixer layers, one after another
    hidden_dim: int  # C, channels of each token
    tokens_mlp_dim: int  # D_S, hidden units of the token-mixing MLP
    channels_mlp_dim: int  # D_C, hidden units of the channel-mixing MLP
    patch_size: tuple[int, int] = (16, 16)  # height and width of a patch in pixels
    dropout: float = 0.0  # rate inside both MLPs
    stochastic_depth: float = 0.0  # drop_path of the last block; block i gets its linear share
    final_norm: bool = True  # pre_head_layer_norm before the mean over tokens
    activation: str = "gelu_tanh"  # Google's weights need the tanh form
    epsilon: float = 1e-6  # of every LayerNorm
    stem_norm: bool = False  # a LayerNorm between the stem and the first block
    head_dropout: float = 0.0  # rate on the pre-logits
    token_dropout: float = 0.0  # rate on the tokens that the pre-logits are the mean of

    def __post_init__(self):
        _check_sizes(self, "num_blocks", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim")
        make_plain(self)
        for name in _RATES:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give a rate in [0, 1).")
        if self.epsilon <= 0:
            raise ValueError(f"epsilon is {self.epsilon}; give a number above 0, such as 1e-6.")

    def without_dropout(self):
        """The same network, of which nothing is dropped in training."""
        return dataclasses.replace(self, **dict.fromkeys(_RATES, 0.0))

    def token_grid(self, input_shape):
        """See the function `token_grid`."""
        return token_grid(input_shape, self.patch_size)

    def count_weights(self, input_shape, num_classes):
        """Weights of the network, without building it.

        Args:
            input_shape: `(height, width, channels)`.
            num_classes: width of the logits, 0 for pre-logits.
        """
        rows, columns = self.token_grid(input_shape)
        height, width = self.patch_size
        dense = lambda inputs, outputs: inputs * outputs + outputs  # noqa: E731
        mlp = lambda outer, inner: dense(outer, inner) + dense(inner, outer)  # noqa: E731
        norm = 2 * self.hidden_dim
        block = 2 * norm + mlp(rows * columns, self.tokens_mlp_dim)
        block += mlp(self.hidden_dim, self.channels_mlp_dim)
        stem = dense(height * width * input_shape[2], self.hidden_dim)
        head = dense(self.hidden_dim, num_classes)
        norms = norm * (self.stem_norm + self.final_norm)
        return stem + self.num_blocks * block + norms + head


FAMILIES = ("gmixer", "resmlp", "gmlp")


@dataclasses.dataclass(frozen=True)
class RelativeConfig:
    """A network of the Mixer's kin; what its papers fix is in `relatives.py`.

    Raises:
        ValueError: a value is outside its range; the message names it.
    """

    family: str  # one of `FAMILIES`
    num_blocks: int
    hidden_dim: int  # C, channels of each token
    patch_size: tuple[int, int] = (16, 16)  # height and width of a patch in pixels

    def __post_init__(self):
        if self.family not in FAMILIES:
            raise ValueError(f"family is {self.family!r}; give one of {', '.join(FAMILIES)}.")
        _check_sizes(self, "num_blocks", "hidden_dim")

    def token_grid(self, input_shape):
        """See the function `token_grid`."""
        return token_grid(input_shape, self.patch_size)


def _check_sizes(config, *names):
    """Make a config's `patch_size` a pair; refuse sizes that are no whole numbers above 0."""
    if isinstance(config.patch_size, numbers.Integral):
        object.__setattr__(config, "patch_size", (config.patch_size, config.patch_size))
    with contextlib.suppress(TypeError):  # no sequence, which is refused below
        object.__setattr__(config, "patch_size", tuple(map(_whole, config.patch_size)))
    if not isinstance(config.patch_size, tuple) or len(config.patch_size) != 2:
        raise ValueError(f"patch_size is {config.patch_size}; give (height, width) in pixels.")
    height, width = config.patch_size
    whole = {name: _whole(getattr(config, name)) for name in names}
    for name, value in whole.items():
        object.__setattr__(config, name, value)
    for name, value in {**whole, "patch_size[0]": height, "patch_size[-1]": width}.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; give a whole number of at least 1.")


def _whole(value):
    """A whole number as Python's, also one of numpy's; anything else as it is."""
    return int(value) if isinstance(value, numbers.Integral) else value


def token_grid(input_shape, patch_size):
    """Rows and columns of tokens for a picture of `(height, width, channels)`.

    Raises:
        ValueError: the picture is no whole number of patches; the message
            names the nearest sizes that are.
    """
    height, width = input_shape[0], input_shape[1]
    patch_height, patch_width = patch_size
    if height % patch_height or width % patch_width or height < 1 or width < 1:
        good = [
            f"{rows * patch_height}x{columns * patch_width}"
            for rows, columns in _neighbours(height / patch_height, width / patch_width)
        ]
        raise ValueError(
            f"A picture of {height}x{width} is no whole number of "
            f"{patch_height}x{patch_width} patches; sizes that are: {', '.join(good)}."
        )
    return height // patch_height, width // patch_width


def _neighbours(rows, columns):
    """Whole grids just below and just above a fractional one, `rows` by `columns`."""
    below = (max(1, int(rows)), max(1, int(columns)))
    above = (max(1, -int(-rows // 1)), max(1, -int(-columns // 1)))
    return [below] if below == above else [below, above]


def _paper(num_blocks, hidden_dim, patch):
    """A row of the paper's Table 1, where D_S is C / 2 and D_C is 4 C throughout."""
    return MixerConfig(num_blocks, hidden_dim, hidden_dim // 2, hidden_dim * 4, (patch, patch))


def _cifar(num_blocks):
    """The CIFAR-10 depth series of sayakpaul/MLP-Mixer-CIFAR10: 72x72 pictures, patch 9."""
    return MixerConfig(num_blocks, 128, 64, 128, (9, 9))


# The published networks for small pictures follow omihub777/MLP-Mixer-CIFAR (nano) and the
# model zoo's network whose tokens are the rows of the picture (rows).
VARIANTS = {
    "mixer_s32": _paper(8, 512, 32),
    "mixer_s16": _paper(8, 512, 16),
    "mixer_b32": _paper(12, 768, 32),
    "mixer_b16": _paper(12, 768, 16),
    "mixer_l32": _paper(24, 1024, 32),
    "mixer_l16": _paper(24, 1024, 16),
    "mixer_h14": _paper(32, 1280, 14),
    **{f"mixer_cifar_{blocks}": _cifar(blocks) for blocks in (2, 4, 6, 8, 10)},
    "mixer_nano": MixerConfig(8, 128, 64, 512, (4, 4)),
    "mixer_nano_7": MixerConfig(7, 128, 64, 512, (4, 4)),
    "mixer_rows": MixerConfig(12, 512, 512, 512, (1, 32), dropout=0.1, final_norm=False),
}

# timm's gmixer_24_224, resmlp_12_224 and gmlp_s16_224.
RELATIVES = {
    "gmixer_24": RelativeConfig("gmixer", 24, 384),
    "resmlp_12": RelativeConfig("resmlp", 12, 384),
    "gmlp_s16": RelativeConfig("gmlp", 30, 256),
}


def other_function(one, two):
    """The first function between the weights in which two `MixerConfig`s differ.

    No file of weights tells it, so that it has to be compared beside them.

    Returns:
        `(name, one's, two's)`, or None where there is none.
    """
    for name in ("activation", "epsilon"):
        if getattr(one, name) != getattr(two, name):
            return name, getattr(one, name), getattr(two, name)
    return None


def find_mixer(model):
    """The `MixerConfig` of a name in `VARIANTS`, or of one given as it is; None of other models."""
    return model if isinstance(model, MixerConfig) else VARIANTS.get(model)
