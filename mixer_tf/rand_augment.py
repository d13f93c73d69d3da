"""RandAugment's operations as Keras image layers, as the paper means them.

Four of Keras's layers do something else (3.13 to 3.15): solarization inverts the more the weaker
it is, contrast is only ever raised, sharpness darkens the border, and equalization takes one
histogram for all pictures of a batch. Keras 2.15 has none of them: this file is for Keras 3.
"""

from keras import layers, ops


class Sharpness(layers.RandomSharpness):
    """Keras's blurs with black around the picture; here with the picture's own border."""

    def transform_images(self, images, *args, **kwargs):
        # [B, H, W, C] -> [B, H + 2, W + 2, C] -> [B, H, W, C]
        wide = ops.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), "symmetric")
        return super().transform_images(wide, *args, **kwargs)[:, 1:-1, 1:-1]


class Solarization(layers.Solarization):
    """Keras's inverts what is above a number in [0, 255 m], so the more the smaller m is."""

    def get_random_transformation(self, *args, **kwargs):
        drawn = super().get_random_transformation(*args, **kwargs)
        return drawn and {**drawn, "thresholds": 256 - drawn["thresholds"]}


class Equalization(layers.Equalization):
    """Each channel of each picture by its own histogram, in the steps of Pillow's `equalize`."""

    def transform_images(self, images, *args, **kwargs):
        height, width, channels = images.shape[1:]
        # [B, H, W, C] -> [B, C, H, W] -> [B * C, H * W]
        pixels = ops.transpose(images, (0, 3, 1, 2))
        pixels = ops.reshape(pixels, (-1, height * width))
        values = ops.cast(ops.clip(pixels, 0, 255), "int32")
        # One row after the other: counting each by itself takes JAX a call a row.
        rows = ops.shape(values)[0]
        numbered = ops.reshape(values + 256 * ops.arange(rows, dtype="int32")[:, None], (-1,))
        counts = ops.reshape(
            ops.bincount(numbered, minlength=256 * rows), (-1, 256)
        )  # [B * C, 256]
        brightest = ops.take_along_axis(counts, ops.max(values, 1, keepdims=True), 1)
        step = (height * width - brightest) // 255  # 0 where there is next to nothing to spread
        below = ops.cumsum(counts, 1) - counts
        table = ops.clip((step // 2 + below) // ops.maximum(step, 1), 0, 255)
        spread = ops.cast(ops.take_along_axis(table, values, 1), pixels.dtype)
        spread = ops.where(step > 0, spread, pixels)
        # [B * C, H * W] -> [B, C, H, W] -> [B, H, W, C]
        spread = ops.reshape(spread, (-1, channels, height, width))
        return ops.transpose(spread, (0, 2, 3, 1))


def operations(magnitude):
    """RandAugment's operations (Cubuk et al. 2020, section 3) as Keras layers, at a strength.

    Not as there: a picture's strength is drawn between none and `magnitude`, in both
    directions; shear and translation move along both axes; the identity is left out. And as
    Keras has them: brightness is added to a picture instead of multiplied, contrast is about
    the mean of each channel instead of the grey picture's, posterization takes at least one bit.

    Args:
        magnitude: 1 is the strongest that the paper's search space allows; 0 leaves a picture
            as it is, but for the last two operations, which have no strength.

    Returns:
        Eleven layers for pictures `[B, H, W, C]`, numbers in [0, 255].
    """
    m = magnitude
    # float32 whatever the policy: pictures are rounded once, by the model, if at all.
    plain = {"dtype": "float32"}
    moved = {"fill_mode": "constant", "interpolation": "nearest", "fill_value": 127.5, **plain}
    return [
        layers.RandomShear(0.3 * m, 0.3 * m, **moved),
        layers.RandomTranslation(0.3 * m, 0.3 * m, **moved),
        layers.RandomRotation(30 / 360 * m, **moved),
        layers.RandomBrightness(0.5 * m, **plain),
        layers.RandomColorDegeneration(0.9 * m, **plain),
        layers.RandomContrast((0.9 * m, 0.9 * m), **plain),  # one number only raises it
        Sharpness((0.5 - 0.45 * m, 0.5 + 0.45 * m), **plain),
        Solarization(threshold_factor=(0.0, m), **plain),
        layers.RandomPosterization((round(8 - 4 * m), 8), **plain),
        layers.AutoContrast(**plain),
        Equalization(**plain),
    ]
