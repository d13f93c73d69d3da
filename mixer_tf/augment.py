"""Augmentation as a pure function of (seed, step), from Keras's own image layers.

Every random draw of a batch follows from the run's seed and the number of the
step alone, so a resumed run sees the very pictures it would have seen. It runs
batch by batch on the backend that Keras uses; nothing is done picture by
picture.
"""

import keras
import numpy as np
from keras import layers

from mixer_tf import stack
from mixer_tf.recipe import Augmentation

# A picture's group shares one pair of RandAugment operations; more groups, more variety a batch,
# and more calls of small kernels.
_GROUPS = 4


class Augmenter:
    """Applies an `Augmentation` to batches.

    Args:
        augmentation: what to apply.
        seed: of the run; the same seed and step give the same batch.
    """

    def __init__(self, augmentation: Augmentation, seed=0):
        self.augmentation = augmentation
        self.seed = seed
        a = augmentation
        # "nearest" moves whole pixels: this is the padded crop of the CIFAR recipes.
        shift = layers.RandomTranslation(
            a.shift, a.shift, fill_mode="constant", interpolation="nearest", dtype="float32"
        )
        self._shift = _Drawn(shift)
        self._flip = _Drawn(layers.RandomFlip("horizontal", dtype="float32"))
        self._rotate = _Drawn(layers.RandomRotation(a.rotation, dtype="float32"))
        self._zoom = _Drawn(layers.RandomZoom(a.zoom, a.zoom, dtype="float32"))
        operations = _operations(a.magnitude) if a.rand_augment else []
        self._operations = [_Drawn(layer) for layer in operations]
        self._mixups = []
        if a.mixup:
            self._mixups.append(_Drawn(layers.MixUp(a.mixup, dtype="float32")))
        if a.cutmix:
            self._mixups.append(_Drawn(layers.CutMix((a.cutmix, a.cutmix), dtype="float32")))

    def __call__(self, images, labels, step):
        """Augment one batch.

        Args:
            images: `[B, H, W, C]`, numbers in [0, 255].
            labels: `[B, classes]`, one-hot float32.
            step: number of the training step, counted over the whole run.

        Returns:
            Images `[B, H, W, C]` float32 in [0, 255] and labels `[B, classes]`,
            rows that sum to 1.
        """
        a = self.augmentation
        draws = np.random.default_rng((self.seed, step))
        images = np.asarray(images, "float32")
        if a.shift:
            images = self._shift(images, draws)
        if a.flip:
            images = self._flip(images, draws)
        if a.rotation:
            images = self._rotate(images, draws)
        if a.zoom:
            images = self._zoom(images, draws)
        if a.rand_augment:
            images = self._rand_augment(images, draws)
        if self._mixups and draws.random() < a.mix_probability:
            mix = self._mixups[draws.integers(len(self._mixups))]
            mixed = mix({"images": images, "labels": labels}, draws)
            images, labels = mixed["images"], mixed["labels"]
        return images, labels

    def _rand_augment(self, images, draws):
        # Keras's own RandAugment computes all eleven operations for every picture and keeps two,
        # eleven times the work; here only the chosen ones run, group by group.
        groups = np.array_split(np.arange(len(images)), _GROUPS)
        parts = []
        for group in (g for g in groups if len(g)):
            part = images[int(group[0]) : int(group[-1]) + 1]
            chosen = draws.choice(len(self._operations), self.augmentation.rand_augment, False)
            for number in chosen:
                part = self._operations[number](part, draws)
            parts.append(part)
        return keras.ops.concatenate(parts)


def _operations(magnitude):
    """RandAugment's operations (Cubuk et al. 2020, section 3) as Keras layers, at a strength.

    Magnitude 1 is the strongest that the paper's search space allows; 0 leaves a picture as it
    is, but for the last two, which have no strength.
    """
    m = magnitude

    class Solarization(layers.Solarization):
        """Keras's inverts what is above a number in [0, 255 m], so the more the smaller m is."""

        def get_random_transformation(self, *args, **kwargs):
            drawn = super().get_random_transformation(*args, **kwargs)
            return drawn and {**drawn, "thresholds": 256 - drawn["thresholds"]}

    # float32 whatever the policy: pictures are rounded once, by the model, if at all.
    plain = {"dtype": "float32"}
    moved = {"fill_mode": "constant", "interpolation": "nearest", "fill_value": 127.5, **plain}
    return [
        layers.RandomShear(0.3 * m, 0.3 * m, **moved),
        layers.RandomTranslation(0.3 * m, 0.3 * m, **moved),
        layers.RandomRotation(30 / 360 * m, **moved),
        layers.RandomBrightness(0.5 * m, **plain),
        layers.RandomColorDegeneration(0.9 * m, **plain),
        layers.RandomContrast(0.9 * m, **plain),
        layers.RandomSharpness((0.5 - 0.45 * m, 0.5 + 0.45 * m), **plain),
        Solarization(threshold_factor=(0.0, m), **plain),
        layers.RandomPosterization((round(8 - 4 * m), 8), **plain),
        layers.AutoContrast(**plain),
        layers.Equalization(**plain),
    ]


class _Drawn:
    """An image layer whose random state is set before each call, not by earlier calls."""

    def __init__(self, layer):
        self._layer = layer
        self._call = stack.traced(layer)

    def __call__(self, batch, draws):
        stack.reseed(self._layer, lambda: draws.integers(0, 2**31, size=2))
        return self._call(batch)
