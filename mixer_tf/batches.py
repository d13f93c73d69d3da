"""From pictures to the batches that a model sees.

Batch `i` of a run is a pure function of (seed, i): which pictures, in which
order, how augmented. Nothing depends on how often something was called before,
so a run that is resumed at step `i` sees what it would have seen.
"""

import keras
import numpy as np

from mixer_tf.augment import Augmentation, Augmenter
from mixer_tf.data import Split


class TrainingBatches(keras.utils.PyDataset):
    """The training batches of a run, one after another, without end.

    Give it to `fit` together with `steps_per_epoch`, which marks where one pass
    over the pictures ends:

        model.fit(batches, steps_per_epoch=batches.steps_per_epoch, epochs=epochs)

    Args:
        split: pictures and labels.
        num_classes: width of the one-hot labels.
        batch_size: pictures a step; the last, incomplete batch of an epoch is
            left out (its pictures come in other epochs, in another order).
        augmentation: what each batch passes through; nothing if left out.
        seed: decides order and augmentation.
        image_size: `(height, width)` the model takes; augmented pictures are
            resized to it.
        first_step: number of the step to begin with.
    """

    def __init__(
        self,
        split: Split,
        num_classes,
        batch_size,
        augmentation=None,
        seed=0,
        image_size=None,
        first_step=0,
    ):
        super().__init__()
        if batch_size > len(split):
            raise ValueError(
                f"batch_size is {batch_size}, but there are {len(split)} training pictures; "
                f"give at most {len(split)}."
            )
        self.split = split
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.seed = seed
        self.first_step = first_step
        self._augment = Augmenter(augmentation or Augmentation(), seed)
        self._resize = _resizing(split, image_size)

    @property
    def steps_per_epoch(self):
        """Batches in one pass over the pictures."""
        return len(self.split) // self.batch_size

    @property
    def num_batches(self):
        """None: without end. Keras shuffles the batches of a data set that has one."""

    def indices(self, step):
        """Which pictures the batch of a step holds, `[batch_size]`."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.split))
        return order[place * self.batch_size : (place + 1) * self.batch_size]

    def __getitem__(self, index):
        step = self.first_step + index
        chosen = self.indices(step)
        labels = _one_hot(self.split.labels[chosen], self.num_classes)
        images, labels = self._augment(self.split.images[chosen], labels, step)
        return self._resize(images), labels


class EvaluationBatches(keras.utils.PyDataset):
    """Every picture once, in order, unchanged but for its size.

    Args: as for `TrainingBatches`.
    """

    def __init__(self, split: Split, num_classes, batch_size=256, image_size=None):
        super().__init__()
        self.split = split
        self.num_classes = num_classes
        self.batch_size = batch_size
        self._resize = _resizing(split, image_size)

    @property
    def num_batches(self):
        return -(-len(self.split) // self.batch_size)

    def __getitem__(self, index):
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        labels = _one_hot(self.split.labels[part], self.num_classes)
        return self._resize(self.split.images[part].astype("float32")), labels


def _resizing(split, image_size):
    """A function that brings `[B, H, W, C]` to the size a model takes."""
    if image_size is None or tuple(image_size) == split.images.shape[1:3]:
        return lambda images: images
    return keras.layers.Resizing(*image_size, interpolation="bilinear", dtype="float32")


def _one_hot(labels, num_classes):
    """`[B] -> [B, classes]` float32."""
    return np.eye(num_classes, dtype="float32")[labels]
