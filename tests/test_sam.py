"""Sharpness-aware minimization against its closed form on a quadratic function."""

import keras
import numpy as np
import pytest

from mixer_tf.training.sam import sharpen

CURVATURE = np.array([1.0, 4.0, 0.5, 9.0], "float32")
START = np.array([1.0, -0.5, 2.0, 0.25], "float32")


def quadratic(dtype="float32"):
    """A model whose loss is sum(CURVATURE * w^2) / 2, at the weights START."""
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(1, use_bias=False, dtype=dtype)(inputs)
    model = keras.Model(inputs, outputs)
    model.set_weights([START[:, None]])
    # Picture i sees weight i alone: half the square of its output is CURVATURE_i * w_i^2 / 2.
    x = np.diag(np.sqrt(CURVATURE))

    def loss(y_true, y_pred):
        return keras.ops.sum(0.5 * keras.ops.square(keras.ops.cast(y_pred, "float32")), -1) * 4.0

    return model, x, loss


def step(weights, radius, rate):
    """One step of the paper's Algorithm 1 with plain gradient descent."""
    gradient = CURVATURE * weights
    moved = weights + radius * gradient / np.linalg.norm(gradient)
    return weights - rate * CURVATURE * moved


@pytest.mark.parametrize("jit", [False, True])
def test_steps_are_the_papers(jit):
    model, x, loss = quadratic()
    sharpen(model, 0.3)
    model.compile(keras.optimizers.SGD(0.05), loss, jit_compile=jit)
    expected = START
    for _ in range(3):
        logs = model.train_on_batch(x, np.zeros((4, 1)), return_dict=True)
        expected = step(expected, 0.3, 0.05)
        np.testing.assert_allclose(model.get_weights()[0][:, 0], expected, rtol=1e-5)
    assert np.isfinite(logs["loss"])
    model, x, loss = quadratic()
    sharpen(model, 0.3)
    model.compile(keras.optimizers.SGD(0.0), loss)
    seen = model.fit(x, np.zeros((4, 1)), batch_size=4, verbose=0).history["loss"][0]
    # the loss that is shown is the one at the weights, not at the perturbed ones
    assert seen == pytest.approx(float(np.sum(CURVATURE * START**2) / 2), rel=1e-5)


def test_the_loss_scale_of_float16_changes_nothing():
    results = []
    for scale in (1.0, 2.0**15):
        model, x, loss = quadratic()
        sharpen(model, 0.3)
        inner = keras.optimizers.SGD(0.05)
        model.compile(keras.optimizers.LossScaleOptimizer(inner, initial_scale=scale), loss)
        model.train_on_batch(x, np.zeros((4, 1)))
        results.append(model.get_weights()[0][:, 0])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6)
    np.testing.assert_allclose(results[0], step(START, 0.3, 0.05), rtol=1e-5)


def test_a_gradient_that_overflows_leaves_the_weights():
    model, x, loss = quadratic("mixed_float16")
    sharpen(model, 0.3)
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.05), initial_scale=2.0**30
    )
    model.compile(optimizer, loss)
    before = model.get_weights()[0]
    model.train_on_batch(x, np.zeros((4, 1)))
    np.testing.assert_array_equal(model.get_weights()[0], before)
    assert float(optimizer.dynamic_scale) == 2.0**29


def test_both_passes_drop_the_same_units():
    """With radius -> 0 both gradients are one: equal to the plain step only if masks are."""
    weights = []
    for radius in (0.0, 1e-6):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [keras.Input((20,)), keras.layers.Dropout(0.5, seed=3), keras.layers.Dense(1)]
        )
        model.set_weights([np.ones((20, 1)), np.zeros(1)])
        if radius:
            sharpen(model, radius)
        model.compile(keras.optimizers.SGD(0.1), "mse")
        for _ in range(2):
            model.train_on_batch(np.ones((8, 20)), np.zeros((8, 1)))
        weights.append(model.get_weights()[0])
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-4)


def test_a_radius_of_nothing_is_refused():
    with pytest.raises(ValueError, match="radius is 0"):
        sharpen(quadratic()[0], 0)
