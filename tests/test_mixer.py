"""The whole network: stages, shapes, precision, what is refused."""

import keras
import numpy as np
import pytest
import reference_mixer
from test_layers import randomised

import mixer_tf
from mixer_tf import MixerConfig
from mixer_tf.mixer import build_mixer
from mixer_tf.stages import config_of

SMALL = MixerConfig(2, 12, 6, 10, (4, 4))


def named(model):
    """Its weights under Google's names, in the order in which layers hold them."""
    norm, dense = ("scale", "bias"), ("kernel", "bias")
    mlps = [
        f"{mlp}_mixing/Dense_{i}/{x}" for mlp in ("token", "channel") for i in (0, 1) for x in dense
    ]
    block = (
        [f"LayerNorm_0/{x}" for x in norm]
        + mlps[:4]
        + [f"LayerNorm_1/{x}" for x in norm]
        + mlps[4:]
    )
    found = {}
    for layer in model.layers:
        parts = {"pre_head_layer_norm": norm, "stem": dense, "head": dense}.get(layer.name, block)
        at = layer.name.replace("block_", "MixerBlock_")
        found |= {f"{at}/{x}": w for x, w in zip(parts, layer.get_weights())}
    return found


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (SMALL, (16, 16, 3)),
        (SMALL, (8, 20, 1)),
        (MixerConfig(2, 8, 6, 10, (1, 16), final_norm=False), (16, 16, 3)),
        (MixerConfig(1, 8, 6, 10, (2, 8)), (4, 16, 5)),
        (MixerConfig(2, 4, 4, 4, (8, 8)), (16, 16, 3)),  # tokens == channels == hidden units
    ],
)
def test_logits_equal_numpy(config, shape):
    model = build_mixer(config, shape, 7)
    randomised(model)
    images = np.random.default_rng(2).uniform(0, 255, (3, *shape)).astype("float32")
    expected = reference_mixer.logits(named(model), images)
    found = model.predict(images, verbose=0)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["mixer", "resnet20", "resnet20_v2", "repvgg_a0"])
def test_logits_are_float32_under_every_policy(policy, name):
    keras.mixed_precision.set_global_policy(policy)
    model = mixer_tf.build(SMALL if name == "mixer" else name, (16, 16, 3), 5)
    logits = model(np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype("uint8"))
    assert np.array(logits).dtype == "float32"
    assert tuple(logits.shape) == (2, 5)
    assert model.get_layer("rescale").compute_dtype == "float32"


def test_stages_bear_the_promised_names():
    model = build_mixer(SMALL, (16, 16, 3), 5)
    names = [layer.name for layer in model.layers][1:]
    assert names == [
        *("rescale", "stem", "tokens", "block_0", "block_1"),
        *("pre_head_layer_norm", "pre_logits", "head"),
    ]
    block = model.get_layer("block_0")
    for mixing in (block.token_mixing, block.channel_mixing):
        assert mixing.dense_0.kernel.shape[1] == mixing.mlp_dim == mixing.dense_1.kernel.shape[0]
    assert block.token_mixing.dense_0.kernel.shape == (16, 6)
    assert block.channel_mixing.dense_0.kernel.shape == (12, 10)


def test_num_classes_zero_gives_pre_logits():
    model = build_mixer(SMALL, (16, 16, 3), 0)
    assert model.output_shape == (None, 12)


def test_stochastic_depth_grows_linearly():
    config = MixerConfig(5, 4, 4, 4, (4, 4), stochastic_depth=0.2)
    model = build_mixer(config, (8, 8, 3), 2)
    rates = [model.get_layer(f"block_{i}").drop_path for i in range(5)]
    np.testing.assert_allclose(rates, [0, 0.05, 0.1, 0.15, 0.2])


def test_stem_norm_and_head_dropout():
    config = MixerConfig(2, 12, 6, 10, (4, 4), stem_norm=True, head_dropout=0.5)
    model = build_mixer(config, (16, 16, 3), 5)
    assert config_of(model) == config
    images = np.random.default_rng(0).uniform(0, 255, (3, 16, 16, 3)).astype("float32")
    tokens = np.asarray(mixer_tf.features(model)(images)["tokens"])
    np.testing.assert_allclose(tokens.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(tokens.var(-1), 1, atol=1e-3)

    bare = build_mixer(config, (16, 16, 3), 0)  # no head, and nothing dropped before it
    bare.set_weights(model.get_weights()[:-2])
    kernel, bias = model.get_layer("head").get_weights()
    expected = np.asarray(bare(images)) @ kernel + bias
    np.testing.assert_allclose(np.asarray(model(images)), expected, atol=1e-5)
    assert np.abs(np.asarray(model(images, training=True)) - expected).max() > 0.01


def test_dropped_tokens_leave_the_mean_where_it_is():
    """Each number of a token is kept with three quarters' chance, and then grows by a third."""
    config = MixerConfig(1, 12, 6, 10, (4, 4), token_dropout=0.25)
    model = build_mixer(config, (16, 16, 3), 0)
    assert config_of(model) == config
    images = np.random.default_rng(0).uniform(0, 255, (1, 16, 16, 3)).astype("float32")
    tokens = np.asarray(mixer_tf.features(model)(images)["pre_head_layer_norm"])
    np.testing.assert_allclose(np.asarray(model(images)), tokens.mean(1), atol=1e-6)
    drawn = np.asarray(model(np.repeat(images, 400, axis=0), training=True))
    spread = np.sqrt((tokens[0] ** 2).sum(0) * (1 / 3)) / 16  # of a mean of 16 dropped numbers
    np.testing.assert_allclose(drawn.std(0), spread, rtol=0.2)
    assert (np.abs(drawn.mean(0) - tokens.mean(1)[0]) < 5 * spread / 20).all()


def test_patch_size_as_one_number():
    assert MixerConfig(1, 2, 3, 4, 8).patch_size == (8, 8)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((33, 32, 3), "32x32, 36x32"), ((3, 3, 3), "4x4"), ((30, 34, 3), "28x32, 32x36")],
)
def test_a_picture_that_does_not_divide_is_refused_with_sizes_that_do(shape, sizes):
    with pytest.raises(ValueError, match=f"sizes that are: .*{sizes}"):
        build_mixer(SMALL, shape, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_blocks": 0}, "num_blocks is 0"),
        ({"hidden_dim": 1.5}, "hidden_dim is 1.5"),
        ({"patch_size": (4, 0)}, "patch_size"),
        ({"patch_size": (4, 4, 4)}, "patch_size"),
        ({"patch_size": 4.0}, "patch_size"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"stochastic_depth": -0.1}, "stochastic_depth is -0.1"),
        ({"head_dropout": 1}, "head_dropout is 1"),
        ({"epsilon": 0}, "epsilon is 0"),
    ],
)
def test_bad_configs_are_refused(change, words):
    good = {"num_blocks": 1, "hidden_dim": 2, "tokens_mlp_dim": 3, "channels_mlp_dim": 4}
    with pytest.raises(ValueError, match=words):
        MixerConfig(**{**good, **change})
