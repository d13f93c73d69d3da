"""Every model of the suite under its name.

`MODELS` is plain data, so a table of it needs no Keras; `build` loads what it
needs when it is called.
"""

import dataclasses
import difflib
import math
import numbers

from mixer_tf.variants import RELATIVES, VARIANTS, MixerConfig, RelativeConfig


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of the table of models; the figures are for `input_shape` and `num_classes`."""

    family: str  # which builder makes it: mixer, relative, or its own name
    input_shape: tuple[int, int, int]  # height, width, channels it was published with
    num_classes: int
    weights: int  # all of them, with those that are not trained
    macs: int  # multiply-accumulates of one picture through Dense and convolutions
    own_size: bool  # True: pictures are resized to input_shape; False: it takes the data's size
    about: str


def _imagenet(weights, macs, about, family="mixer"):
    return Entry(family, (224, 224, 3), 1000, weights, macs, True, about)


def _ancestor(weights, macs, blocks):
    about = f"MLP-Mixer-CIFAR10's series, {blocks} blocks, 72x72"
    return Entry("mixer", (72, 72, 3), 10, weights, macs, True, about)


def _small(family, weights, macs, about):
    return Entry(family, (32, 32, 3), 10, weights, macs, False, about)


MODELS = {
    "mixer_s32": _imagenet(19_104_624, 1_002_426_368, "paper, S/32"),
    "mixer_s16": _imagenet(18_528_264, 3_776_958_464, "paper, S/16"),
    "mixer_b32": _imagenet(60_293_428, 3_237_722_112, "paper, B/32"),
    "mixer_b16": _imagenet(59_880_472, 12_601_767_936, "paper, B/16"),
    "mixer_l32": _imagenet(206_939_264, 11_253_293_056, "paper, L/32"),
    "mixer_l16": _imagenet(208_196_168, 44_547_678_208, "paper, L/16"),
    "mixer_h14": _imagenet(432_350_952, 120_989_911_040, "paper, H/14"),
    "mixer_cifar_2": _ancestor(116_490, 8_283_392, 2),
    "mixer_cifar_4": _ancestor(200_202, 14_574_848, 4),
    "mixer_cifar_6": _ancestor(283_914, 20_866_304, 6),
    "mixer_cifar_8": _ancestor(367_626, 27_157_760, 8),
    "mixer_cifar_10": _ancestor(451_338, 33_449_216, 10),
    "mixer_nano": _small("mixer", 1_132_170, 75_891_968, "8 blocks for 32x32, patch 4"),
    "mixer_nano_7": _small("mixer", 991_626, 66_454_784, "the same with 7 blocks: below a million"),
    "mixer_rows": _small("mixer", 6_782_858, 404_231_168, "one token for each row of the picture"),
    "resnet20": _small("resnet20", 271_098, 40_551_040, "He et al. 2015; 269,722 of them trained"),
    "resnet20_v2": _small(
        "resnet20_v2", 571_962, 72_534_528, "pre-activation bottlenecks, the ancestor's"
    ),
    "repvgg_a0": _small(
        "repvgg_a0", 7_864_426, 123_384_320, "Ding et al. 2021; 7,041,194 when fused"
    ),
    "gmixer_24": _imagenet(24_721_096, 5_260_434_432, "timm's gMixer: gated MLPs", "relative"),
    "resmlp_12": _imagenet(
        15_350_872, 3_009_739_776, "Touvron et al. 2021, ResMLP-S12", "relative"
    ),
    "gmlp_s16": _imagenet(19_422_656, 4_392_060_928, "Liu et al. 2021, gMLP-S", "relative"),
}

_PATCHED = {**VARIANTS, **RELATIVES}


def build(model, input_shape=None, num_classes=None):
    """Build a model by name, or from a `MixerConfig` or `RelativeConfig`.

    Args:
        model: a name in `MODELS`, or a config.
        input_shape: `(height, width, channels)`; the published one if left out.
        num_classes: width of the logits, 0 for pre-logits; the published number
            if left out.

    Returns:
        A `keras.Model` from pictures `[B, height, width, channels]` in [0, 255]
        to float32 logits `[B, num_classes]`.

    Raises:
        ValueError: the name is unknown (the nearest are given), or a
            config came without shape or classes, or they do not fit.
    """
    if isinstance(model, (MixerConfig, RelativeConfig)):
        if input_shape is None or num_classes is None:
            raise ValueError(
                f"A {type(model).__name__} needs input_shape=(height, width, channels) and "
                "num_classes."
            )
        family = "mixer" if isinstance(model, MixerConfig) else "relative"
        config, name = model, family
    else:
        entry = find(model)
        family, config, name = entry.family, _PATCHED.get(model), model
        input_shape = entry.input_shape if input_shape is None else input_shape
        num_classes = entry.num_classes if num_classes is None else num_classes
    input_shape, num_classes = checked_shape(input_shape, num_classes)

    if family == "mixer":
        from mixer_tf.mixer import build_mixer

        return build_mixer(config, input_shape, num_classes, name=name)
    if family == "relative":
        from mixer_tf.relatives import build_relative

        return build_relative(config, input_shape, num_classes, name=name)
    from mixer_tf import repvgg, resnet

    builders = {
        "resnet20": resnet.build_resnet20,
        "resnet20_v2": resnet.build_resnet20_v2,
        "repvgg_a0": repvgg.build_repvgg_a0,
    }
    return builders[family](input_shape, num_classes, name=name)


def find(name):
    """The `Entry` of a name.

    Raises:
        ValueError: there is none; the message gives the nearest names.
    """
    if name in MODELS:
        return MODELS[name]
    raise ValueError(unknown("model", name, MODELS))


def unknown(kind, name, known):
    """The sentence that answers a wrong name: what is near it, or everything there is."""
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    if near:
        return f"There is no {kind} {str(name)!r}; did you mean {' or '.join(near)}?"
    return f"There is no {kind} {str(name)!r}; there are: {', '.join(known)}."


def checked_shape(input_shape, num_classes):
    """`(input_shape, num_classes)` in Python's numbers; ValueError where no model can have them."""
    shape = (input_shape,) if isinstance(input_shape, numbers.Number) else tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(n, numbers.Integral) and n > 0 for n in shape):
        raise ValueError(
            f"input_shape is {shape}; give (height, width, channels), whole numbers above 0."
        )
    if not isinstance(num_classes, numbers.Integral) or num_classes < 0:
        raise ValueError(
            f"num_classes is {num_classes!r}; give a whole number, or 0 for pre-logits."
        )
    return tuple(map(int, shape)), int(num_classes)


def count_tokens(name):
    """Tokens of a model at its published picture size; None for a convolutional network."""
    if name not in _PATCHED:
        return None
    rows, columns = _PATCHED[name].token_grid(find(name).input_shape)
    return rows * columns


def count_macs(model):
    """Multiply-accumulates of one picture through every Dense and convolution of a model.

    Args:
        model: a built functional `keras.Model` of this suite.

    Returns:
        A whole number. Norms, activations and sums are left out, as is usual.
    """
    from keras import layers

    from mixer_tf.layers import MixerBlock

    total = 0
    for layer in model.layers:
        if isinstance(layer, MixerBlock):
            _, tokens, channels = layer.output.shape
            mixed = channels * layer.tokens_mlp_dim + channels * layer.channels_mlp_dim
            total += 2 * tokens * mixed
        elif isinstance(layer, (layers.Dense, layers.Conv2D)):
            places = math.prod(layer.output.shape[1:-1])  # 1 for a Dense on [B, C]
            total += places * math.prod(layer.kernel.shape)
    return total
