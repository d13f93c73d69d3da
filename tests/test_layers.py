"""The blocks against an independent numpy reference, and the contract of a Keras layer."""

import keras
import numpy as np
import pytest

from mixer_tf.layers import MixerBlock, MlpBlock


def norm(x, scale, offset, epsilon=1e-6):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(x.var(-1, keepdims=True) + epsilon) * scale + offset


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def reference_block(x, w):
    """Eq. 1 of the paper in float64; `w` in the order of the layer's weights."""
    (s0, o0, a0, b0, a1, b1, s1, o1, c0, d0, c1, d1) = [np.asarray(v, "float64") for v in w]
    tokens = np.swapaxes(norm(x, s0, o0), 1, 2)
    x = x + np.swapaxes(gelu(tokens @ a0 + b0) @ a1 + b1, 1, 2)
    return x + gelu(norm(x, s1, o1) @ c0 + d0) @ c1 + d1


def randomised(layer, seed=0):
    """All weights non-zero, biases too: a bias on the wrong axis must show."""
    draws = np.random.default_rng(seed)
    weights = [draws.normal(0, 0.5, w.shape).astype("float32") for w in layer.get_weights()]
    layer.set_weights(weights)
    return weights


@pytest.mark.parametrize(
    ("tokens", "channels", "tokens_mlp_dim", "channels_mlp_dim"),
    [
        (64, 64, 64, 64),  # all equal: the case where EinsumDense adds its bias wrongly
        (64, 64, 32, 128),
        (32, 64, 64, 32),
        (49, 16, 8, 24),
        (1, 3, 2, 5),
    ],
)
def test_block_equals_numpy(tokens, channels, tokens_mlp_dim, channels_mlp_dim):
    x = np.random.default_rng(1).normal(size=(3, tokens, channels))
    block = MixerBlock(tokens_mlp_dim, channels_mlp_dim)
    block.build((None, tokens, channels))
    weights = randomised(block)
    expected = reference_block(x, weights)
    found = np.array(block(x.astype("float32")))
    np.testing.assert_allclose(
        found / np.abs(expected).max(), expected / np.abs(expected).max(), atol=1e-5
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_block_under_each_policy(policy):
    x = np.random.default_rng(1).normal(size=(2, 16, 8)).astype("float32")
    block = MixerBlock(8, 16, dtype=policy)
    block.build((None, 16, 8))
    draws = np.random.default_rng(0)
    weights = [draws.normal(0, 0.2, w.shape).astype("float32") for w in block.get_weights()]
    block.set_weights(weights)
    y = block(x)
    assert np.array(y).dtype.name == policy.replace("mixed_", "")
    assert all(w.dtype == "float32" for w in block.get_weights())
    error = np.abs(np.array(y).astype("float32") - reference_block(x, weights)).max()
    assert error < {"float32": 1e-5, "mixed_float16": 1e-2, "mixed_bfloat16": 8e-2}[policy]


def make_layers():
    return {
        "mlp": (MlpBlock(6, activation="relu", dropout=0.25), (4, 5)),
        "block": (MixerBlock(6, 7, dropout=0.1, drop_path=0.2, epsilon=1e-5), (9, 5)),
    }


@pytest.mark.parametrize("name", ["mlp", "block"])
def test_layer_contract(name, tmp_path):
    """Shape, config, saving, training, in anyone's model."""
    layer, shape = make_layers()[name]
    x = np.random.default_rng(0).normal(size=(8, *shape)).astype("float32")
    assert tuple(layer.compute_output_shape((None, *shape))) == (None, *shape)

    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()

    inputs = keras.Input(shape)
    model = keras.Model(inputs, keras.layers.Flatten()(layer(inputs)))
    model.compile("sgd", "mse")
    before = [w.copy() for w in layer.get_weights()]
    model.fit(x, np.ones((8, np.prod(shape))), verbose=0)
    assert any(not np.array_equal(a, b) for a, b in zip(before, layer.get_weights()))

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    model.save_weights(tmp_path / "model.weights.h5")
    loaded.set_weights([np.zeros_like(w) for w in loaded.get_weights()])
    loaded.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_stochastic_depth_drops_whole_pictures():
    keras.utils.set_random_seed(0)
    block = MixerBlock(4, 4, drop_path=0.5)
    x = np.random.default_rng(0).normal(size=(400, 3, 4)).astype("float32")
    block.build(x.shape)
    randomised(block)
    for _ in range(3):
        y = np.array(block(x, training=True))
    kept = np.abs(y - x).max(axis=(1, 2)) > 0  # one of the two branches, or both
    assert abs(kept.mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 400)
    np.testing.assert_array_equal(y[~kept], x[~kept])
    first = np.array(block(x))
    np.testing.assert_array_equal(first, np.array(block(x)))


def test_dropout_is_active_only_in_training():
    keras.utils.set_random_seed(0)
    mlp = MlpBlock(50, dropout=0.5)
    x = np.ones((1, 200), "float32")
    mlp.build(x.shape)
    outputs = np.array(mlp(x, training=True))
    assert abs((outputs == 0).mean() - 0.5) < 4 * np.sqrt(0.25 / 200)
    assert (np.array(mlp(x)) != 0).all()


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="mlp_dim is 0"):
        MlpBlock(0)
    with pytest.raises(ValueError, match="tokens_mlp_dim is 0"):
        MixerBlock(0, 4)
    with pytest.raises(ValueError, match="channels_mlp_dim is 2.5"):
        MixerBlock(4, 2.5)
    with pytest.raises(ValueError, match="fixed number of tokens"):
        MixerBlock(4, 4).build((None, None, 8))


@pytest.mark.parametrize("wrong", [None, "8", 8.5, -1, float("nan"), float("inf"), [8]])
def test_hidden_units_that_are_no_whole_number(wrong):
    with pytest.raises(ValueError, match=r"mlp_dim is .*; give a whole number of at least 1"):
        MlpBlock(wrong)
    assert MlpBlock(np.int64(8)).mlp_dim == MlpBlock(8.0).mlp_dim == 8
