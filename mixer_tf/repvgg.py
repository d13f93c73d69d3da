"""RepVGG-A0 for small pictures: branches while it is trained, plain 3x3 convolutions after.

Ding et al. 2021, "RepVGG: Making VGG-style ConvNets Great Again" (arXiv
2101.03697). Written only with `keras.layers`, like the other baselines.
"""

import keras
import numpy as np
from keras import layers

from mixer_tf import stack
from mixer_tf.resnet import batch_norm, conv_norm, mean_and_head, rescale

_STEM = 48
_STAGES = ((2, 48), (4, 96), (14, 192), (1, 1280))  # blocks and channels, Table 2 and 3


def build_repvgg_a0(input_shape, num_classes, name="repvgg_a0", fused=False):
    """RepVGG-A0 (section 3.4), in the form that is trained or the one that is deployed.

    The paper halves 224-pixel pictures five times. Here the stem keeps the size,
    so that 32x32 pictures end as 2x2 places and not as one; each of the four
    stages begins with a stride of 2. 7,840,778 trainable weights for 10 classes,
    7,041,194 when fused.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: width of the logits; 0 returns the pre-logits `[B, 1280]`.
        name: of the model.
        fused: one 3x3 convolution with bias for each block; what `fuse` returns.

    Returns:
        A `keras.Model` from pictures `[B, height, width, channels]` in [0, 255]
        to float32 logits `[B, num_classes]`.
    """
    block = _plain if fused else _branched
    images = keras.Input(tuple(input_shape), name="images")
    x = block(rescale(images), _STEM, 1, "stem")
    for stage, (blocks, channels) in enumerate(_STAGES):
        for i in range(blocks):
            x = block(x, channels, 1 if i else 2, f"stage_{stage}_block_{i}")
    return keras.Model(images, mean_and_head(x, num_classes), name=name)


def fuse(model):
    """The deployed form of a trained RepVGG (section 3.3): same logits, no branches.

    A BatchNorm that no longer learns is a scale and an offset for each channel, so
    it goes into the convolution before it; a 1x1 convolution and an identity are
    3x3 convolutions that are zero but for their centre; convolutions of the same
    picture add up.

    Args:
        model: what `build_repvgg_a0` made, trained or not.

    Returns:
        A new `keras.Model`, its logits equal to those of `model` at inference up
        to float32 rounding.

    Raises:
        ValueError: the model has no such branches.
    """
    if not has_branches(model):
        raise ValueError(
            f"The model {model.name!r} has no branches to fuse; give a repvgg_a0 as it is trained."
        )
    head = [layer for layer in model.layers if layer.name == "head"]
    classes = head[0].units if head else 0
    name = f"{model.name}_fused"
    with stack.policy_of(model):
        deployed = build_repvgg_a0(model.input_shape[1:], classes, name, fused=True)
    for layer in deployed.layers:
        if isinstance(layer, layers.Conv2D):
            layer.set_weights(_one_convolution(model, layer.name))
    if classes:
        deployed.get_layer("head").set_weights(head[0].get_weights())
    return deployed


def has_branches(model):
    """Whether a model is a RepVGG in the form that is trained."""
    return any(layer.name == "stem_pointwise" for layer in model.layers)


def _branched(x, channels, stride, name):
    """ReLU(3x3 + 1x1 + identity), each under a BatchNorm of its own.

    `[B, h, w, c] -> [B, h/stride, w/stride, channels]`; the identity only where
    nothing changes its shape.
    """
    padded, padding = _padded(x, stride, name)
    branches = [
        conv_norm(padded, channels, 3, stride, name, padding),
        conv_norm(x, channels, 1, stride, f"{name}_pointwise"),
    ]
    if stride == 1 and x.shape[-1] == channels:
        branches.append(batch_norm(x, f"{name}_identity_norm"))
    x = layers.Add(name=f"{name}_add")(branches)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def _plain(x, channels, stride, name):
    """ReLU(3x3 convolution with bias), the same shapes."""
    x, padding = _padded(x, stride, name)
    x = layers.Conv2D(channels, 3, strides=stride, padding=padding, name=name)(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def _padded(x, stride, name):
    """What the 3x3 convolution sees, and its own padding."""
    if stride == 1:
        return x, "same"
    # "same" with a stride pads pictures of even size at the end only, and the centre of the 3x3
    # then lies beside the pixel that the 1x1 reads.
    return layers.ZeroPadding2D(1, name=f"{name}_pad")(x), "valid"


def _one_convolution(model, name):
    """Kernel `[3, 3, c, channels]` and bias `[channels]` that stand for a block's branches."""
    wide, wide_bias = _folded(
        model.get_layer(name).get_weights()[0], model.get_layer(f"{name}_norm")
    )
    point, point_bias = _folded(
        model.get_layer(f"{name}_pointwise").get_weights()[0],
        model.get_layer(f"{name}_pointwise_norm"),
    )
    kernel, bias = wide, wide_bias + point_bias
    kernel[1:2, 1:2] += point
    if any(layer.name == f"{name}_identity_norm" for layer in model.layers):
        identity = np.eye(kernel.shape[-1])[None, None]  # [1, 1, C, C]
        same, same_bias = _folded(identity, model.get_layer(f"{name}_identity_norm"))
        kernel[1:2, 1:2] += same
        bias = bias + same_bias
    return [kernel.astype("float32"), bias.astype("float32")]


def _folded(kernel, norm):
    """A kernel without bias and the BatchNorm after it, as one kernel and one bias."""
    scale, offset, mean, variance = (np.asarray(w, "float64") for w in norm.get_weights())
    scale = scale / np.sqrt(variance + norm.epsilon)
    return np.asarray(kernel, "float64") * scale, offset - mean * scale
