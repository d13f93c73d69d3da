"""Sharpness-aware minimization: a training step that looks for flat minima.

Foret et al. 2021, "Sharpness-Aware Minimization for Efficiently Improving
Generalization" (arXiv 2010.01412), Algorithm 1; Chen et al. 2022 (arXiv 2106.01548)
show that it helps Mixers most of all.
"""

import keras

from mixer_tf.training.step_metrics import measure


def sharpen(model, radius):
    """Let a model's training step use the gradient at the worst weights nearby.

    Each step computes the gradient g, moves the weights by `radius * g / |g|` (|g| over
    all weights together), computes the gradient there, and gives that one to the
    optimizer at the weights where it started. A step takes about twice the time.

    Both gradients see the same dropout masks. Metrics and the statistics of
    BatchNormalization come from the first pass. With several replicas of TensorFlow
    each moves by the gradient of its own part of the batch (the paper's m-sharpness), on JAX all
    move by that of the whole batch, which trains somewhat differently. Where a batch is computed
    in parts after each other (`Recipe.accumulate`), each part moves by its own. A gradient
    that overflows under mixed_float16 moves nothing; the loss scale then goes down
    as it always does.

    Args:
        model: a `keras.Model`, compiled or not; on TensorFlow or JAX.
        radius: rho of the paper; 0.05 there, more for Mixers.

    Raises:
        ValueError: `radius` is not above 0.
    """
    if radius <= 0:
        raise ValueError(f"The radius is {radius}; give a number above 0, such as 0.05.")
    step = {"tensorflow": _tensorflow_step, "jax": _jax_step}[keras.backend.backend()]
    model.train_step = step(model, radius)


def _perturbed(values, gradients, radius):
    """Weights moved by `radius` along their gradients, whose common scale does not matter."""
    ops = keras.ops
    norm = ops.sqrt(sum(ops.sum(ops.square(ops.cast(g, "float32"))) for g in gradients))
    share = radius / (norm + 1e-12)
    moved = [v + ops.cast(share * g, v.dtype) for v, g in zip(values, gradients)]
    return [ops.where(ops.isfinite(norm), m, v) for m, v in zip(moved, values)]


def _tensorflow_step(model, radius):
    import tensorflow as tf

    def train_step(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        weights = model.trainable_variables
        values = [tf.convert_to_tensor(v.value) for v in weights]
        others = [tf.convert_to_tensor(v.value) for v in model.non_trainable_variables]

        def loss_of(y_pred):
            loss = model.compute_loss(x, y, y_pred, sample_weight, training=True)
            return loss, model.optimizer.scale_loss(loss)

        with tf.GradientTape() as tape:
            y_pred = model(x, training=True)
            loss, scaled = loss_of(y_pred)
        moved = _perturbed(values, tape.gradient(scaled, [v.value for v in weights]), radius)
        with tf.GradientTape() as tape:
            tape.watch(moved)
            prediction, _ = model.stateless_call(moved, others, x, training=True)
            _, scaled = loss_of(prediction)
        model.optimizer.apply_gradients(zip(tape.gradient(scaled, moved), weights))
        loss *= tf.distribute.get_strategy().num_replicas_in_sync  # Keras shares it among them
        return measure(model, x, y, y_pred, sample_weight, loss)

    return train_step


def _jax_step(model, radius):
    import jax

    def train_step(state, data):
        weights, others, optimizer, metrics = state
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        gradient = jax.grad(model.compute_loss_and_updates, has_aux=True)

        def at(values):
            return gradient(
                values, others, metrics, x, y, sample_weight, True, optimizer_variables=optimizer
            )

        gradients, (loss, y_pred, new_others, metrics) = at(weights)
        sharp, _ = at(_perturbed(weights, gradients, radius))
        weights, optimizer = model.optimizer.stateless_apply(optimizer, sharp, weights)
        with keras.StatelessScope(list(zip(model.metrics_variables, metrics))) as scope:
            logs = measure(model, x, y, y_pred, sample_weight, loss)
        metrics = [scope.get_current_value(v) for v in model.metrics_variables]
        return logs, (weights, new_others, optimizer, metrics)

    return train_step
