"""A batch computed in parts, one on each core: TensorFlow on a CPU.

TensorFlow gives each product to all cores and lets them wait for each other at its
end; and what lies between the products of a large batch does not fit into a cache.
Here a step takes a batch in parts of some thousand tokens, as many at a time as there
are cores, each on one thread, and adds up their gradients. The mean over a batch is the
mean over its parts, so that a step stays the same but for rounding.
"""

import os

import keras
import tensorflow as tf

from mixer_tf.training.step_metrics import measure

TOKENS = 4096  # in a part: 64 pictures of 64 tokens, what measured best, see docs/speed.md


def part_count(batch_size, tokens, at_least=1):
    """Into how many equal parts to split a batch.

    Args:
        batch_size: pictures in a batch.
        tokens: of one picture.
        at_least: parts that can be computed at a time.

    Returns:
        The smallest number that divides the batch and makes parts small enough; 1 where
        they would be less than an eighth of that, when calling costs more than computing.
    """
    for count in range(at_least, batch_size + 1):
        if batch_size % count == 0 and batch_size // count * tokens <= TOKENS:
            return count if batch_size // count * tokens >= TOKENS / 8 else 1
    return 1


def cores():
    """Of the machine, as far as this process may use them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def one_thread_each():
    """Let operations run on one thread each, as many at a time as there are cores.

    Slower for models that are not split. TensorFlow takes this only before it has computed
    anything; later all stays as it is, and `parts_at_once` is 1.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(cores())
    except RuntimeError:
        pass


def parts_at_once():
    """How many parts to compute at a time: one on each core if `one_thread_each` was in time."""
    return cores() if tf.config.threading.get_intra_op_parallelism_threads() == 1 else 1


def split_steps(model, parts, at_once=1):
    """Let a model's `fit` and `evaluate` compute each batch in parts.

    Args:
        model: a `keras.Model` without weights that a forward pass changes, whose logits
            depend on one picture at a time; compiled or not, without `jit_compile`.
            It is then trained without `sample_weight` (ValueError).
        parts: of a training batch, whose size they divide.
        at_once: parts computed at a time; evaluation batches are split into so many.
    """
    if parts > 1:
        model.train_step = _train_step(model, parts, at_once)
    if at_once > 1:
        model.test_step = _test_step(model, at_once)


def _train_step(model, parts, at_once):
    def train_step(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if sample_weight is not None:
            raise ValueError("A step in parts takes no sample_weight; train the model as it is.")
        images = tf.reshape(x, [parts, -1, *x.shape[1:]])  # [B, ...] -> [parts, B / parts, ...]
        labels = tf.reshape(y, [parts, -1, *y.shape[1:]])
        weights = [v.value for v in model.trainable_variables]

        def compute(part, loss, predictions, *gradients):
            with tf.GradientTape() as tape:
                y_pred = model(images[part], training=True)
                share = model.compute_loss(images[part], labels[part], y_pred, None) / parts
            added = tape.gradient(share, weights, unconnected_gradients="zero")
            predictions = predictions.write(part, y_pred)
            return part + 1, loss + share, predictions, *map(tf.add, gradients, added)

        start = [0, 0.0, tf.TensorArray(model.compute_dtype, parts)]
        start += [tf.zeros(v.shape, v.dtype) for v in weights]
        _, loss, predictions, *gradients = tf.while_loop(
            lambda part, *_: part < parts, compute, start, parallel_iterations=at_once
        )
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return measure(model, x, y, predictions.concat(), None, loss)

    return train_step


def _test_step(model, at_once):
    def test_step(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        count = tf.shape(x)[0]
        filled = -(-count // at_once) * at_once  # the last batch may have any size
        split = tf.split(tf.gather(x, tf.range(filled) % count), at_once)
        y_pred = tf.concat([model(part, training=False) for part in split], 0)[:count]
        loss = model.compute_loss(x, y, y_pred, sample_weight, training=False)
        return measure(model, x, y, y_pred, sample_weight, loss)

    return test_step
