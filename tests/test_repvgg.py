"""RepVGG-A0: its published counts, and a fused form that answers as the trained one does."""

import keras
import numpy as np
import pytest

import mixer_tf
from mixer_tf import zoo
from mixer_tf.repvgg import build_repvgg_a0

# (channels in, channels out, pixels on a side) of every 3x3 convolution on 32x32 pictures
WIDTHS = [48, *[48] * 2, *[96] * 4, *[192] * 14, 1280]
SIDES = [32, *[16] * 2, *[8] * 4, *[4] * 14, 2]
CONVOLUTIONS = list(zip([3, *WIDTHS], WIDTHS, SIDES))
HEAD = 1280 * 10 + 10


def test_counts_by_hand():
    """A stage's first block has no identity: that is what the published 7,840,778 counts."""
    identities = sum(cin for cin, out, side in CONVOLUTIONS if cin == out) - 48
    norms = 2 * 2 * sum(WIDTHS) + 2 * identities
    trained = sum(10 * cin * out for cin, out, _ in CONVOLUTIONS) + norms + HEAD
    fused = sum(9 * cin * out + out for cin, out, _ in CONVOLUTIONS) + HEAD
    assert (trained, fused) == (7_840_778, 7_041_194)
    macs = sum(10 * cin * out * side**2 for cin, out, side in CONVOLUTIONS) + 12_800
    assert mixer_tf.MODELS["repvgg_a0"].macs == macs
    assert mixer_tf.MODELS["repvgg_a0"].weights == trained + norms  # mean and variance each
    deployed = build_repvgg_a0((32, 32, 3), 10, fused=True)
    assert deployed.count_params() == fused
    assert zoo.count_macs(deployed) == 9 * (macs - 12_800) // 10 + 12_800


def logits_of(model, images):
    return np.asarray(model(images, training=False))


def test_fused_after_training(digits):
    """After real steps, in which every BatchNorm moved its mean and variance, scale and offset."""
    keras.utils.set_random_seed(0)
    images = digits.train.images[:32].astype("float32")
    labels = digits.train.labels[:32]
    model = mixer_tf.build("repvgg_a0", images.shape[1:], 10)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.2  # two steps give the statistics that hundreds would
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.02), loss, jit_compile=False)
    model.fit(images, labels, batch_size=16, verbose=0)
    norm = model.get_layer("stage_2_block_5_identity_norm").get_weights()
    for weight, fresh in zip(norm, (1, 0, 0, 1)):
        assert np.abs(weight - fresh).min() > 0

    keras.mixed_precision.set_global_policy("mixed_bfloat16")  # of the program, not of the model
    try:
        fused = mixer_tf.fuse(model)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    expected, found = logits_of(model, images), logits_of(fused, images)
    scale = np.abs(expected).max()
    assert scale > 1
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-5)
    kinds = {type(layer) for layer in fused.layers}
    assert not kinds & {keras.layers.BatchNormalization, keras.layers.Add}
    assert all(
        layer.kernel_size == (3, 3) and layer.use_bias
        for layer in fused.layers
        if isinstance(layer, keras.layers.Conv2D)
    )


@pytest.mark.parametrize(("size", "classes"), [((21, 30, 1), 3), ((8, 8, 3), 0)])
def test_fused_with_any_statistics_and_size(size, classes):
    """Scales of both signs, and sides that a stride of 2 does not divide."""
    model = mixer_tf.build("repvgg_a0", size, classes)
    draws = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            width = layer.gamma.shape
            scale = draws.uniform(0.2, 0.6, width) * draws.choice([-1, 1], width)
            rest = [draws.normal(0, 0.5, width), draws.normal(0, 2, width)]
            layer.set_weights([scale, *rest, draws.uniform(0.5, 4, width)])
    images = draws.uniform(0, 255, (3, *size)).astype("float32")
    expected, found = logits_of(model, images), logits_of(mixer_tf.fuse(model), images)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-5)


def test_what_has_no_branches_is_refused():
    for model in (mixer_tf.build("resnet20"), build_repvgg_a0((8, 8, 3), 2, fused=True)):
        with pytest.raises(ValueError, match="no branches to fuse"):
            mixer_tf.fuse(model)
