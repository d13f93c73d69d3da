"""Fused blocks against `layers.MixerBlock`, which is what they must compute."""

import keras
import numpy as np
import pytest

import mixer_tf
from mixer_tf.training.sam import sharpen

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="fused blocks are TensorFlow's"
)
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    from mixer_tf.training import fused_blocks

CONFIG = {
    "num_blocks": 2,
    "hidden_dim": 24,
    "tokens_mlp_dim": 10,
    "channels_mlp_dim": 40,
    "patch_size": (4, 2),
}


def pair(seed=0, **changes):
    """Two models with the same random weights (biases and gains too), the second fused."""
    config = mixer_tf.MixerConfig(**{**CONFIG, **changes})
    models = [mixer_tf.build(config, (8, 12, 3), 5) for _ in range(2)]
    draws = np.random.default_rng(seed)
    for variable in models[0].trainable_variables:
        variable.assign(variable + 0.3 * draws.standard_normal(variable.shape))
    models[1].set_weights(models[0].get_weights())
    return models


def values_and_gradients(model, images, seed=7, training=True):
    """Logits and the gradient of a fixed function of them for every weight, under one seed."""
    keras.utils.set_random_seed(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout) and layer.rate:
            layer.seed_generator.state.assign([seed, 0])

    with tf.GradientTape() as tape:
        logits = model(images, training=training)
        value = tf.reduce_sum(logits * tf.cos(tf.range(5, dtype="float32")))
    gradients = tape.gradient(value, [v.value for v in model.trainable_variables])
    return logits.numpy(), [g.numpy() for g in gradients]


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


def assert_alike(model, gradients, expected, tolerance):
    """Each gradient within a share of its norm.

    The last bias of a token MLP moves all channels of a token alike, which the next norm
    takes out again: its gradient is 0, and what is computed is rounding. It counts against
    the norm of a typical gradient.
    """
    typical = np.median([np.linalg.norm(e) for e in expected])
    for variable, mine, right in zip(model.trainable_variables, gradients, expected):
        size = max(np.linalg.norm(right), 0.1 * typical)
        assert np.linalg.norm(mine - right) < tolerance * size, variable.path


@pytest.fixture
def images():
    return np.random.default_rng(1).uniform(0, 255, (6, 8, 12, 3)).astype("float32")


@pytest.mark.parametrize("depth", [0.0, 0.5])
def test_values_and_gradients_are_the_blocks_own(images, depth):
    plain, quick = pair(stochastic_depth=depth)
    fused_blocks.fuse_blocks(quick)
    logits, gradients = values_and_gradients(plain, images)
    fused_logits, fused_gradients = values_and_gradients(quick, images)
    assert relative(fused_logits, logits) < 1e-5
    assert_alike(plain, fused_gradients, gradients, 1e-5)


def test_bfloat16_rounds_operands_and_nothing_else(images):
    plain, quick = pair()
    fused_blocks.fuse_blocks(quick, "bfloat16")
    logits, gradients = values_and_gradients(plain, images)
    fused_logits, fused_gradients = values_and_gradients(quick, images)
    # bfloat16 has 8 bits: each rounding is off by up to 0.4 %, and a result by a few of them.
    assert 1e-5 < relative(fused_logits, logits) < 3e-2
    assert_alike(plain, fused_gradients, gradients, 5e-2)
    # Outside of training nothing is rounded.
    expected = values_and_gradients(plain, images, training=False)[0]
    assert relative(values_and_gradients(quick, images, training=False)[0], expected) < 1e-5


def test_operands_are_rounded_to_the_nearest():
    """By addition and shift, which is faster than TensorFlow's cast, and as near."""
    tf = pytest.importorskip("tensorflow")
    numbers = np.random.default_rng(0).standard_normal(100_000).astype("float32")
    both = (fused_blocks._rounded(tf.constant(numbers), tf.bfloat16), tf.cast(numbers, tf.bfloat16))
    mine, cast = (np.abs(np.asarray(tf.cast(half, tf.float32)) - numbers) for half in both)
    np.testing.assert_array_equal(mine, cast)  # only ties may differ in sign


def test_trains_with_fit_and_any_batch_size(images):
    plain, quick = pair()
    fused_blocks.fuse_blocks(quick)
    labels = np.eye(5, dtype="float32")[[0, 1, 2, 3, 4, 0]]
    losses = []
    for model in (plain, quick):
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.01), loss, jit_compile=False)
        model.fit(images, labels, batch_size=4, epochs=2, shuffle=False, verbose=0)
        losses.append(model.evaluate(images, labels, verbose=0))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_sharp_step_is_the_same(images):
    """Its second pass has weights of its own, which no compiled part may take from the first."""
    plain, quick = pair()
    fused_blocks.fuse_blocks(quick)
    labels = np.eye(5, dtype="float32")[[0, 1, 2, 3, 4, 0]]
    for model in (plain, quick):
        sharpen(model, 0.5)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=False)
        for _ in range(2):
            model.train_on_batch(images, labels)
    for mine, right in zip(quick.trainable_variables, plain.trainable_variables):
        np.testing.assert_allclose(mine, right, atol=2e-5, rtol=1e-4, err_msg=right.path)


@pytest.mark.parametrize(
    ("changes", "reason"), [({"dropout": 0.1}, "dropout"), ({"activation": "relu"}, "relu")]
)
def test_says_what_it_cannot_fuse(changes, reason):
    model = mixer_tf.build(mixer_tf.MixerConfig(**{**CONFIG, **changes}), (8, 12, 3), 5)
    with pytest.raises(ValueError, match=reason):
        fused_blocks.fuse_blocks(model)


def test_other_models_and_policies_stay_as_they_are():
    assert "no Mixer" in fused_blocks.why_not(mixer_tf.build("resnet20", (8, 8, 3), 5))
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        assert "bfloat16" in fused_blocks.why_not(pair()[0])
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
