"""From pictures to the batches that a model sees.

Batch `i` of a run is a pure function of (seed, i): which pictures, in which
order, how augmented. Nothing depends on how often something was called before,
so a run that is resumed at step `i` sees what it would have seen. Several
workers each take their rows of the very batch that one process would have.
"""

import time

import keras
import numpy as np

from mixer_tf import stack
from mixer_tf.augment import Augmenter
from mixer_tf.data import Split
from mixer_tf.distributed import batch_size as sizes
from mixer_tf.recipe import Augmentation


class _Batches(stack.PyDataset):
    """Batches, made by `_make`, that can be brought to rest.

    TensorFlow fetches ahead in a thread of its own. A process that ends while that thread is in
    Python waits for it for ever.
    """

    def __init__(self):
        super().__init__()
        self._last = None  # the newest batch
        self._making = self._resting = False
        self._ended = 0.0  # when a batch was last given, in seconds

    def __getitem__(self, index):
        self._making = True
        try:
            if not self._resting or self._last is None:
                self._last = self._make(index)
            return self._last
        finally:
            self._making, self._ended = False, time.monotonic()

    def rest(self):
        """Give no new batch any more, and wait until nobody fetches one. Call it after `fit`."""
        self._resting = True  # what is fetched ahead now is used by no one
        while self._making or time.monotonic() - self._ended < 0.05:
            time.sleep(0.01)


class TrainingBatches(_Batches):
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
        place: `(index, count)` of the worker whose rows of each batch these are.
        shares: parts of a batch that are augmented each on its own. MixUp and its
            kin pair pictures, so a worker must augment all of a share of which it
            has a row: with one share every worker augments the whole batch, with
            as many shares as workers each augments its own rows alone.
        accumulate: steps that one update adds up; an epoch holds a multiple of them, so
            that it has the pictures and updates that it would have in whole batches.
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
        place=(0, 1),
        shares=1,
        accumulate=1,
    ):
        super().__init__()
        check_batch(batch_size * accumulate, split)
        self.split = split
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.seed = seed
        self.first_step = first_step
        index, count = place
        rows = sizes.per_replica(batch_size, count)
        self._rows = range(index * rows, (index + 1) * rows)
        if augmentation in (None, Augmentation()):
            shares = count  # nothing is drawn: each takes its own rows
        self._share_size = sizes.per_replica(batch_size, shares)
        first, last = self._rows[0] // self._share_size, self._rows[-1] // self._share_size
        self._augment = {
            share: Augmenter(augmentation or Augmentation(), _seed(seed, share, shares))
            for share in range(first, last + 1)
        }
        self._resize = _resizing(split, image_size)
        self._order = (-1, None)  # of the epoch asked for last

    @property
    def steps_per_epoch(self):
        """Batches in one pass over the pictures."""
        return len(self.split) // (self.batch_size * self.accumulate) * self.accumulate

    @property
    def num_batches(self):
        """None: without end. Keras shuffles the batches of a data set that has one."""

    def indices(self, step):
        """Which pictures the batch of a step holds on all workers together, `[batch_size]`."""
        epoch, place = divmod(step, self.steps_per_epoch)
        known, order = self._order  # read once and written at once: several threads may ask
        if epoch != known:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.split))
            self._order = epoch, order
        return order[place * self.batch_size : (place + 1) * self.batch_size]

    def _make(self, index):
        step = self.first_step + index
        indices = self.indices(step)
        size = self._share_size
        parts = [
            self._augmented(indices[share * size : (share + 1) * size], augment, step)
            for share, augment in self._augment.items()
        ]
        images, labels = parts[0]
        if len(parts) > 1:
            images, labels = (keras.ops.concatenate(part) for part in zip(*parts))
        if len(self._rows) < len(images):
            start = self._rows[0] - min(self._augment) * size
            images = images[start : start + len(self._rows)]
            labels = labels[start : start + len(self._rows)]
        return self._resize(images), labels

    def _augmented(self, chosen, augment, step):
        labels = _one_hot(self.split.labels[chosen], self.num_classes)
        return augment(self.split.images[chosen], labels, step)


def check_batch(batch_size, split):
    """Refuse a batch of more pictures than there are (ValueError)."""
    if batch_size > len(split):
        raise ValueError(
            f"batch_size is {batch_size}, but there are {len(split)} training pictures; "
            f"give at most {len(split)}."
        )


class EvaluationBatches(_Batches):
    """Every picture once, in order, unchanged but for its size.

    Args:
        split, num_classes, image_size, place: as for `TrainingBatches`.
        batch_size: pictures a step, rounded up to a multiple of `replicas`.
        replicas: devices that share each batch. The last one is filled up for them
            with pictures of weight 0, the others weigh so much more that the means
            over all batches stay those of the pictures alone.
    """

    def __init__(
        self,
        split: Split,
        num_classes,
        batch_size=256,
        image_size=None,
        replicas=1,
        place=(0, 1),
    ):
        super().__init__()
        self.split = split
        self.num_classes = num_classes
        self.batch_size = -(-batch_size // replicas) * replicas
        self.filled = -(-len(split) // replicas) * replicas  # pictures, with those of weight 0
        self.place = place
        self._resize = _resizing(split, image_size)

    def __len__(self):
        return -(-len(self.split) // self.batch_size)

    def _make(self, index):
        places = np.arange(self.filled)[index * self.batch_size :][: self.batch_size]
        worker, count = self.place
        places = np.split(places, count)[worker]
        real = places < len(self.split)
        part = np.where(real, places, 0)
        images = self._resize(self.split.images[part].astype("float32"))
        labels = _one_hot(self.split.labels[part], self.num_classes)
        if self.filled == len(self.split):
            return images, labels
        return images, labels, (real * (self.filled / len(self.split))).astype("float32")


def _resizing(split, image_size):
    """A function that brings `[B, H, W, C]` to the size a model takes."""
    if image_size is None or tuple(image_size) == split.images.shape[1:3]:
        return lambda images: images
    return keras.layers.Resizing(*image_size, interpolation="bilinear", dtype="float32")


def _seed(seed, share, shares):
    """The seed that a share of each batch is augmented by."""
    if shares == 1:
        return seed
    return int(np.random.SeedSequence((seed, shares, share)).generate_state(1)[0])


def _one_hot(labels, num_classes):
    """`[B] -> [B, classes]` float32."""
    hot = np.zeros((len(labels), num_classes), "float32")
    hot[np.arange(len(labels)), labels] = 1
    return hot
