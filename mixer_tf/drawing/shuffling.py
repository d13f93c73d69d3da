"""Short trainings on pictures in several orders of pixels (the paper's Figure 4).

A Mixer has no order of patches, and none of the pixels in a patch: on pictures
permuted so, with initial weights permuted alike, every step of its training is
the same. Here this is tried, not told.
"""

import random

import keras
import numpy as np

from mixer_tf import figures, stack, stages, zoo
from mixer_tf.batches import EvaluationBatches
from mixer_tf.drawing.subject import NotHere

_STEPS, _BATCH = 40, 32
_MACS = 10**8  # of one picture; beyond, 40 steps take minutes on a CPU
ORDERS = ("as it is", "patches and pixels in them", "all pixels")


def short_trainings(subject):
    """Train the run's model anew for 40 steps on each order of pixels.

    Args:
        subject: of the run.

    Returns:
        `({order: example picture}, {order: [loss of each step]})`.

    Raises:
        NotHere: the model is too large, or its data cannot be read.
    """
    if zoo.count_macs(subject.model) > _MACS:
        raise NotHere("40 steps of a model of this size take minutes on a CPU.")
    model, patch = _fresh(subject)
    split = subject.data.train
    size = subject.config.input_shape[:2]
    count = subject.config.num_classes
    drawn = np.random.default_rng(0).integers(0, len(split), _STEPS * _BATCH)
    batches = EvaluationBatches(split.take(drawn), count, _BATCH, size)
    # Not Adam: it takes full steps along gradients that are nothing but rounding.
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, global_clipnorm=1.0)
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True))
    optimizer.build(model.trainable_variables)
    start, fresh = model.get_weights(), [np.array(v) for v in optimizer.variables]
    examples, curves = {}, {}
    for order in ORDERS:
        model.set_weights(start)
        if order == ORDERS[1]:
            carry_weights(model, patch, seed=0)
        for variable, value in zip(optimizer.variables, fresh):
            variable.assign(value)
        losses = []
        for step in range(_STEPS):
            images, labels = batches[step]
            images = _ordered(np.asarray(images), order, patch)
            model.reset_metrics()  # or older Keras gives the mean over all steps so far
            losses.append(float(model.train_on_batch(images, labels)))
        examples[order] = images[0]
        curves[order] = losses
    return examples, curves


def _fresh(subject):
    """The model with new weights, the same at each call, without dropout; the size of a patch."""
    config = subject.config
    try:
        mixer = stages.config_of(subject.model).without_dropout()
    except ValueError:
        mixer = None
    before = random.getstate()
    random.seed(0)  # Keras draws the seeds of its initializers from this stream
    try:
        with stack.policy("float32"):
            if mixer is None:
                return config.build(), _patch_for(config.input_shape)
            return zoo.build(mixer, config.input_shape, config.num_classes), mixer.patch_size
    finally:
        random.setstate(before)


def _patch_for(shape):
    """A patch for a network that has none: an eighth of the picture, where that is whole."""
    sides = [next(n for n in (8, 4, 2, 1) if side % n == 0) for side in shape[:2]]
    return shape[0] // sides[0], shape[1] // sides[1]


def _ordered(images, order, patch):
    if order == ORDERS[1]:
        return figures.shuffle_patches(images, patch)
    return figures.shuffle_pixels(images) if order == ORDERS[2] else images


def carry_weights(model, patch_size, seed):
    """Permute a Mixer's weights as `shuffle_patches` permutes its pictures.

    Afterwards the model answers to permuted pictures as it did to the pictures
    themselves. Any other model is left as it is.
    """
    try:
        blocks = stages.blocks(model)
    except ValueError:
        return
    stem = model.get_layer("stem")
    kernel, bias = stem.get_weights()
    down, across = patch_size
    rows, columns = stem.output.shape[1:3]
    patches, pixels = figures.shuffled_orders(rows * columns, down * across, seed)
    flat = kernel.reshape(down * across, *kernel.shape[2:])
    stem.set_weights([flat[pixels].reshape(kernel.shape), bias])
    for block in blocks:
        first, bias_0, second, bias_1 = block.token_mixing.get_weights()
        weights = [first[patches], bias_0, second[:, patches], bias_1[patches]]
        block.token_mixing.set_weights(weights)
