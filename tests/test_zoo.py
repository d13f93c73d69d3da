"""Every model has its published number of weights."""

import math

import numpy as np
import pytest

import mixer_tf
from mixer_tf import zoo
from mixer_tf.variants import VARIANTS

# Published counts: the paper's Table 1 rebuilt exactly; MLP-Mixer-CIFAR10's README less the 7
# of its Normalization; omihub777/MLP-Mixer-CIFAR; the model zoo's row mixer and RepVGG;
# He et al. 2015; timm's gmixer_24_224, resmlp_12_224 and gmlp_s16_224.
PUBLISHED = {
    "mixer_s32": 19_104_624,
    "mixer_s16": 18_528_264,
    "mixer_b32": 60_293_428,
    "mixer_b16": 59_880_472,
    "mixer_l32": 206_939_264,
    "mixer_l16": 208_196_168,
    "mixer_h14": 432_350_952,
    "mixer_cifar_2": 116_490,
    "mixer_cifar_4": 200_202,
    "mixer_cifar_6": 283_914,
    "mixer_cifar_8": 367_626,
    "mixer_cifar_10": 451_338,
    "mixer_nano": 1_132_170,
    "mixer_nano_7": 991_626,
    "mixer_rows": 6_782_858,
    "resnet20": 269_722,  # those that are trained
    "resnet20_v2": 571_962,  # 571,969 less 7 for Normalization
    "repvgg_a0": 7_840_778,  # those that are trained
    "gmixer_24": 24_721_096,
    "resmlp_12": 15_350_872,
    "gmlp_s16": 19_422_656,
}
ONLY_TRAINED = ("resnet20", "repvgg_a0")


def test_no_model_is_missing_from_the_table():
    assert set(PUBLISHED) == set(mixer_tf.MODELS)
    assert set(VARIANTS) <= set(mixer_tf.MODELS)


@pytest.mark.parametrize(
    "name", [n for n in PUBLISHED if n not in ("mixer_l32", "mixer_l16", "mixer_h14")]
)
def test_weights_equal_the_published_count(name):
    model = mixer_tf.build(name)
    trained = sum(math.prod(w.shape) for w in model.trainable_weights)
    assert (trained if name in ONLY_TRAINED else model.count_params()) == PUBLISHED[name]
    assert model.count_params() == mixer_tf.MODELS[name].weights
    assert zoo.count_macs(model) == mixer_tf.MODELS[name].macs


def closed_form(name):
    """Weights and multiply-accumulates of a Mixer from its sizes alone."""
    c, entry = VARIANTS[name], mixer_tf.MODELS[name]
    height, width, channels = entry.input_shape
    tokens = (height // c.patch_size[0]) * (width // c.patch_size[1])
    patch = c.patch_size[0] * c.patch_size[1] * channels
    tm, cm, dim = c.tokens_mlp_dim, c.channels_mlp_dim, c.hidden_dim
    block = 2 * tokens * tm + tm + tokens + 2 * dim * cm + cm + dim + 4 * dim
    weights = (patch + 1) * dim + c.num_blocks * block + (dim + 1) * entry.num_classes
    weights += 2 * dim if c.final_norm else 0
    macs = tokens * patch * dim + c.num_blocks * 2 * tokens * dim * (tm + cm)
    return weights, macs + dim * entry.num_classes


@pytest.mark.parametrize("name", VARIANTS)
def test_table_equals_closed_form(name):
    """Also for the networks that are too large to build in a test of every day."""
    entry = mixer_tf.MODELS[name]
    assert closed_form(name) == (entry.weights, entry.macs)
    assert entry.weights == PUBLISHED[name]


def test_the_ancestors_baseline_has_as_many_arrays_as_its_log_says():
    """`batch_all_reduce: 64 all-reduces`, says ResNet20.ipynb of MLP-Mixer-CIFAR10."""
    assert len(mixer_tf.build("resnet20_v2", (72, 72, 3)).trainable_variables) == 64


def test_resnet20_macs():
    """He et al.: 3x3 convolutions at 32, 16 and 8 pixels, and the head."""
    stage = [6 * 16 * 16, 16 * 32 + 5 * 32 * 32, 32 * 64 + 5 * 64 * 64]
    macs = 32 * 32 * 9 * 3 * 16 + sum(9 * n * (32 >> i) ** 2 for i, n in enumerate(stage)) + 640
    assert mixer_tf.MODELS["resnet20"].macs == macs


def test_resnet20_shortcut_subsamples_and_pads():
    """With silent convolutions only the shortcuts are left: every fourth pixel, zeros around."""
    model = mixer_tf.build("resnet20", (32, 32, 3), 0)
    for layer in model.layers:
        if layer.name.endswith("conv_1_norm"):
            layer.gamma.assign(np.zeros(layer.gamma.shape))
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    import keras

    stem = keras.Model(model.input, model.get_layer("stem_relu").output)
    expected = stem.predict(images, verbose=0)[:, ::4, ::4].mean((1, 2))
    found = model.predict(images, verbose=0)
    np.testing.assert_allclose(found[:, 24:40], expected, rtol=1e-5)
    assert not found[:, :24].any()
    assert not found[:, 40:].any()


def test_convolutional_networks_take_any_picture_size():
    for name in ("resnet20", "resnet20_v2", "repvgg_a0"):
        model = mixer_tf.build(name, (21, 30, 1), 3)
        assert model.predict(np.zeros((1, 21, 30, 1)), verbose=0).shape == (1, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mixer_b17",), "did you mean .*mixer_b16"),
        (("lstm",), "there are: mixer_s32"),
        (("mixer_nano", (32, 32)), r"input_shape is \(32, 32\)"),
        (("mixer_nano", 32), r"input_shape is \(32,\)"),
        (("mixer_nano", (32, 32, 3), -1), "num_classes is -1"),
        ((VARIANTS["mixer_nano"],), "needs input_shape"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        mixer_tf.build(*arguments)


def test_numbers_that_were_counted_in_an_array_are_whole_numbers():
    """Such as `labels.max() + 1`."""
    one, two, four, eight = np.arange(9)[[1, 2, 4, 8]]
    config = mixer_tf.MixerConfig(one, eight, four, eight, four)
    assert config == mixer_tf.MixerConfig(1, 8, 4, 8, (4, 4))
    assert all(type(n) is int for n in (config.num_blocks, config.hidden_dim, *config.patch_size))
    model = mixer_tf.build(config, (eight, eight, two + one), two)
    assert model.output_shape == (None, 2)
    with pytest.raises(ValueError, match="num_classes is 2.5"):
        mixer_tf.build(config, (8, 8, 3), 2.5)


@pytest.mark.parametrize("name", VARIANTS)
def test_weights_can_be_counted_before_a_model_is_made(name):
    entry = zoo.MODELS[name]
    count = VARIANTS[name].count_weights(entry.input_shape, entry.num_classes)
    assert count == entry.weights == PUBLISHED[name]
