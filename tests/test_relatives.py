"""gMixer, ResMLP and gMLP: exact counts, and the same logits as timm's."""

import keras
import numpy as np
import pytest
import timm_reference

import mixer_tf
from mixer_tf import zoo
from mixer_tf.exchange.convert import convert
from mixer_tf.exchange.timm_relatives import RelativeFile, fill_relative, scale_as_timm
from mixer_tf.relatives import Affine, build_relative
from mixer_tf.variants import RELATIVES, MixerConfig, RelativeConfig

SMALL = {name: RelativeConfig(name, 2, 12, (4, 4)) for name in ("gmixer", "resmlp", "gmlp")}


@pytest.mark.parametrize("name", RELATIVES)
def test_macs_equal_closed_form(name):
    config, s = RELATIVES[name], 196
    c = config.hidden_dim
    block = {  # tokens, then channels
        "gmixer": c * (s * c + c // 2 * s) + s * (c * 4 * c + 2 * c * c),
        "resmlp": c * s * s + 2 * s * c * 4 * c,
        "gmlp": 3 * c * s * s + s * (c * 6 * c + 3 * c * c),
    }
    macs = s * 768 * c + config.num_blocks * block[config.family] + 1000 * c
    assert mixer_tf.MODELS[name].macs == macs


def load(model, path, head="load"):
    with RelativeFile(path) as source:
        return fill_relative(model, source, head)


@pytest.mark.parametrize("family", ["gmixer", "resmlp", "gmlp"])
def test_logits_equal_timms(family, tmp_path):
    """Small networks that timm made, see `timm_reference`; it compares whole ones too."""
    pytest.importorskip("safetensors")
    expected = timm_reference.read(timm_reference.FOLDER / f"{family}.npz", tmp_path)
    config = RelativeConfig(family, 2, 16, (4, 4))
    model = mixer_tf.build(config, (16, 16, 3), 7)
    assert model.count_params() == expected["weights"]
    load(model, tmp_path / "w.safetensors")
    found = np.asarray(model(expected["images"]))
    assert np.abs(expected["logits"]).max() > 0.5
    assert np.abs(found - expected["logits"]).max() < 1e-4

    others = mixer_tf.build(config, (16, 16, 3), 3)
    with pytest.raises(ValueError, match="of another shape 2: head"):
        load(others, tmp_path / "w.safetensors")
    load(others, tmp_path / "w.safetensors", head="drop")
    assert not np.asarray(others(expected["images"])).any()


@pytest.mark.parametrize("family", SMALL)
def test_scaled_as_timm_scales(family):
    """Weights that expect ImageNet's means and deviations then say the same of plain pictures."""
    keras.utils.set_random_seed(1)
    model = build_relative(SMALL[family], (8, 8, 3), 0)
    stem = model.get_layer("stem")
    stem.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in stem.get_weights()])
    images = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)).astype("float32")
    scaled = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    if family == "gmlp":
        scaled = (images / 255 - 0.5) / 0.5
    expected = np.asarray(model((scaled.astype("float32") + 1) * 127.5))  # its own scaling undone
    if family != "gmlp":
        assert np.abs(np.asarray(model(images)) - expected).max() > 0.1
    scale_as_timm(model, family)
    np.testing.assert_allclose(np.asarray(model(images)), expected, atol=1e-4)


def test_a_converted_gmixer_takes_plain_pictures(tmp_path, monkeypatch):
    """timm's logits for numbers x are those here for the pictures that timm would scale to x."""
    pytest.importorskip("safetensors")
    expected = timm_reference.read(timm_reference.FOLDER / "gmixer.npz", tmp_path)
    small = RelativeConfig("gmixer", 2, 16, (4, 4))
    monkeypatch.setitem(zoo._PATCHED, "gmixer_24", small)
    files = tmp_path / "w.safetensors", tmp_path / "w.weights.h5"
    model = convert(*files, model="gmixer_24", image_size=16)
    x = expected["images"] / 127.5 - 1
    pictures = 255 * (x * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406])
    found = np.asarray(model(pictures.astype("float32")))
    assert np.abs(found - expected["logits"]).max() < 1e-4


@pytest.mark.parametrize("family", SMALL)
def test_fresh_gates_are_open_and_branches_quiet(family):
    """Before training a gMLP or gMixer gates by a constant, a ResMLP is nearly the identity."""
    model = build_relative(SMALL[family], (8, 8, 3), 0)
    stages = {n: model.get_layer(n).output for n in ("tokens", "block_0")}
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype("float32")
    seen = {n: np.asarray(v) for n, v in keras.Model(model.input, stages)(images).items()}
    if family == "resmlp":
        np.testing.assert_allclose(seen["block_0"], seen["tokens"], atol=1e-2)
        return
    gate = {"gmixer": "block_0_token_mixing_gate", "gmlp": "block_0_spatial_gate"}[family]
    opened = np.asarray(keras.Model(model.input, model.get_layer(gate).output)(images))
    expected = {"gmixer": 1 / (1 + np.exp(-1)), "gmlp": 1}[family]
    np.testing.assert_allclose(opened, expected, atol=1e-4)


@pytest.mark.parametrize("family", SMALL)
def test_trains_in_mixed_precision_and_reloads(family, tmp_path):
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    keras.utils.set_random_seed(0)
    model = mixer_tf.build(SMALL[family], (8, 8, 3), 2)
    images = np.random.default_rng(0).uniform(0, 255, (64, 8, 8, 3)).astype("float32")
    labels = (images[..., 0].mean((1, 2)) > images[..., 1].mean((1, 2))).astype("int32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    losses = model.fit(images, labels, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert keras.backend.standardize_dtype(model(images).dtype) == "float32"
    model.save_weights(tmp_path / "w.weights.h5")
    again = mixer_tf.build(SMALL[family], (8, 8, 3), 2)
    again.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_array_equal(np.asarray(again(images)), np.asarray(model(images)))


def test_affine():
    layer = Affine(0.5)
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    assert np.array_equal(layer(x), 0.5 * x)
    layer.set_weights([np.arange(4.0), np.ones(4)])
    np.testing.assert_allclose(layer(x), x * np.arange(4) + 1, rtol=1e-6)
    copy = Affine.from_config(Affine(0.1, offset=False, name="a").get_config())
    assert (copy.name, copy.initial, copy.offset) == ("a", 0.1, False)
    assert tuple(layer.compute_output_shape((None, 3, 4))) == (None, 3, 4)


def test_a_picture_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="30x32 is no whole number of 4x4 patches"):
        mixer_tf.build(SMALL["gmlp"], (30, 32, 3), 2)


def test_a_config_is_checked_as_a_mixers():
    """With the same words: `MixerConfig` is tested for what it accepts."""
    config = RelativeConfig("gmlp", 2, 12, 4)
    assert config == SMALL["gmlp"]
    assert mixer_tf.build(config, (8, 8, 3), 2).output_shape == (None, 2)
    good = {"num_blocks": 1, "hidden_dim": 8, "patch_size": (4, 4)}
    other = {"tokens_mlp_dim": 8, "channels_mlp_dim": 8}
    for change in (
        {"num_blocks": 0},
        {"hidden_dim": 8.5},
        {"patch_size": (4, 4, 4)},
        {"patch_size": 0},
        {"patch_size": (4, "4")},
    ):
        messages = []
        for kind, more in ((RelativeConfig, {"family": "gmlp"}), (MixerConfig, other)):
            with pytest.raises(ValueError, match="give ") as caught:
                kind(**{**good, **more, **change})
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
    with pytest.raises(ValueError, match="family is 'vit'; give one of gmixer, resmlp, gmlp"):
        RelativeConfig("vit", 2, 12)
