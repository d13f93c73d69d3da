"""The convolutional baselines: ResNet20 as published, and the bottleneck net called ResNet20 v2.

Both are written only with `keras.layers`, so they run wherever the Mixers run.
Convolutional networks have no fixed token grid: any picture size will do.
"""

import keras
from keras import layers


def build_resnet20(input_shape, num_classes, name="resnet20"):
    """ResNet20 for small pictures (He et al. 2015, arXiv 1512.03385, section 4.2).

    Three stages of three blocks at 16, 32 and 64 channels; convolutions without
    bias; shortcuts without weights (the paper's option A). 269,722 trainable
    weights for 32x32x3 and 10 classes. Keras's "same" padding puts the centre of a
    3x3 with stride 2 one pixel beside the one that the shortcut takes.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: width of the logits; 0 returns the pre-logits `[B, 64]`.
        name: of the model.

    Returns:
        A `keras.Model` from pictures `[B, height, width, channels]` in [0, 255]
        to float32 logits `[B, num_classes]`.
    """
    images = keras.Input(tuple(input_shape), name="images")
    x = rescale(images)
    x = layers.Activation("relu", name="stem_relu")(conv_norm(x, 16, 3, 1, "stem"))
    for stage, channels in enumerate((16, 32, 64)):
        for block in range(3):
            stride = 2 if stage and not block else 1
            x = _basic_block(x, channels, stride, f"stage_{stage}_block_{block}")
    return keras.Model(images, mean_and_head(x, num_classes), name=name)


def build_resnet20_v2(input_shape, num_classes, name="resnet20_v2"):
    """The bottleneck network that sayakpaul/MLP-Mixer-CIFAR10 compares against.

    Pre-activation residual units (He et al. 2016, arXiv 1603.05027) of a 1x1,
    a 3x3 and a 1x1 convolution, two in each of three stages. Its sources differ in
    details from version to version; these are the ones that give what its notebook's
    log says: 64 arrays to train and 571,969 weights, 7 of them of a Normalization
    layer, for which there is a rescaling here.

    Args and result: as for `build_resnet20`; the pre-logits are `[B, 256]`.
    """
    images = keras.Input(tuple(input_shape), name="images")
    x = rescale(images)
    x = _convolution(x, 16, 3, 1, "stem")
    x = _norm_relu(x, "stem")
    for stage, (narrow, wide) in enumerate(((16, 64), (64, 128), (128, 256))):
        for block in range(2):
            stride = 2 if stage and not block else 1
            x = _bottleneck(x, narrow, wide, stride, f"stage_{stage}_block_{block}")
    x = _norm_relu(x, "final")
    return keras.Model(images, mean_and_head(x, num_classes), name=name)


def rescale(images):
    """[0, 255] -> [-1, 1], in float32 so that no precision policy rounds the pixels."""
    return layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="rescale")(images)


def mean_and_head(x, num_classes):
    """Mean over places and the float32 logits: `[B, h, w, C] -> [B, classes]`."""
    x = layers.GlobalAveragePooling2D(name="pre_logits")(x)
    return layers.Dense(num_classes, dtype="float32", name="head")(x) if num_classes else x


def conv_norm(x, channels, size, stride, name, padding="same"):
    """A convolution without bias and its BatchNorm, `[B, h, w, c] -> [B, h', w', channels]`."""
    return batch_norm(_convolution(x, channels, size, stride, name, padding), f"{name}_norm")


def batch_norm(x, name):
    """BatchNorm with the constants of both papers' code."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def _basic_block(x, channels, stride, name):
    """Two 3x3 convolutions and a shortcut, `[B, h, w, c] -> [B, h/stride, w/stride, channels]`."""
    y = layers.Activation("relu", name=f"{name}_relu_0")(
        conv_norm(x, channels, 3, stride, f"{name}_conv_0")
    )
    y = conv_norm(y, channels, 3, 1, f"{name}_conv_1")
    if stride > 1:
        # Option A: every second pixel, the new channels zero. ZeroPadding3D on [h, w, c, 1]
        # pads channels without a transpose.
        x = layers.MaxPooling2D(1, strides=stride, name=f"{name}_subsample")(x)
        height, width, fewer = x.shape[1:]
        extra = channels - fewer
        x = layers.Reshape((height, width, fewer, 1), name=f"{name}_unfold")(x)
        x = layers.ZeroPadding3D(
            ((0, 0), (0, 0), (extra // 2, extra - extra // 2)), name=f"{name}_pad"
        )(x)
        x = layers.Reshape((height, width, channels), name=f"{name}_shortcut")(x)
    return layers.Activation("relu", name=name)(layers.Add(name=f"{name}_add")([x, y]))


def _convolution(x, channels, size, stride, name, padding="same"):
    """Without bias: the BatchNorm after it has one."""
    return layers.Conv2D(
        channels,
        size,
        strides=stride,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def _norm_relu(x, name):
    x = layers.BatchNormalization(name=f"{name}_norm")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def _bottleneck(x, narrow, wide, stride, name):
    """Pre-activation unit, `[B, h, w, c] -> [B, h/stride, w/stride, wide]`."""
    y = _convolution(_norm_relu(x, f"{name}_0"), narrow, 1, 1, f"{name}_conv_0")
    y = _convolution(_norm_relu(y, f"{name}_1"), narrow, 3, stride, f"{name}_conv_1")
    y = _convolution(_norm_relu(y, f"{name}_2"), wide, 1, 1, f"{name}_conv_2")
    if x.shape[-1] != wide:
        x = _convolution(x, wide, 1, stride, f"{name}_shortcut")
    return layers.Add(name=name)([x, y])
