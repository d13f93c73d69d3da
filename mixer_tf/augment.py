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

# Pictures of a group share their RandAugment operations, not their strengths; more groups, more
# variety a batch, and more calls of small kernels.
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
        self._operations = []
        if a.rand_augment:
            from mixer_tf.rand_augment import operations  # Keras 2.15 lacks what it builds on

            self._operations = [_Drawn(layer) for layer in operations(a.magnitude)]
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
        # Keras's own RandAugment computes all its operations for every picture and keeps the drawn
        # ones, many times the work; here only the chosen ones run, group by group.
        groups = np.array_split(np.arange(len(images)), _GROUPS)
        parts = []
        for group in (g for g in groups if len(g)):
            part = images[int(group[0]) : int(group[-1]) + 1]
            chosen = draws.choice(len(self._operations), self.augmentation.rand_augment, False)
            for number in chosen:
                part = self._operations[number](part, draws)
            parts.append(part)
        return keras.ops.concatenate(parts)


class _Drawn:
    """An image layer whose random state is set before each call, not by earlier calls."""

    def __init__(self, layer):
        self._layer = layer
        self._call = stack.traced(layer)

    def __call__(self, batch, draws):
        stack.reseed(self._layer, lambda: draws.integers(0, 2**31, size=2))
        return self._call(batch)
