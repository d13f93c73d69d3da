"""Some pictures of a split, for what does not need all of them."""

import numpy as np

from mixer_tf.batches import EvaluationBatches

_NUMBERS = 2**26  # in all pictures of a sample together, 256 MiB


def sample(split, image_size, count=1000):
    """Some pictures of a split, evenly spaced, so that sorted classes all have their part.

    Args:
        split: a `Split`.
        image_size: `(height, width)` they are resized to.
        count: at most so many, and of large pictures fewer.

    Returns:
        `(images [N, height, width, channels] float32 in [0, 255], labels [N])`.
    """
    count = min(count, len(split), max(1, _NUMBERS // (int(np.prod(image_size)) * 3)))
    part = split.take(np.linspace(0, len(split) - 1, count).round().astype(int))
    part = part.no_larger(image_size)
    images, _ = EvaluationBatches(part, int(part.labels.max()) + 1, len(part), image_size)[0]
    return np.asarray(images), part.labels
