import dataclasses
import json
import pathlib

import numpy as np
import pytest
import reference_mixer
import timm_reference
from helpers import refused

import mixer_tf
from mixer_tf import cli, zoo
from mixer_tf.checkpoints import fill
from mixer_tf.exchange.convert import convert
from mixer_tf.exchange.timm_weights import TimmFile
from mixer_tf.recipe import Recipe
from mixer_tf.run_config import RunConfig
from mixer_tf.runs import Run
from mixer_tf.training import starting_weights

HERE = pathlib.Path(__file__).parent


def weights_of(path):
    with np.load(path) as file:
        return {name: file[name].tobytes() for name in file.files}


def test_npz_to_keras_and_back_keeps_every_byte(tmp_path):
    weights = reference_mixer.random_weights(2, 128, 64, 64, 128, (9, 9), 6)
    np.savez(tmp_path / "in.npz", **weights)
    h5, back = str(tmp_path / "w.weights.h5"), str(tmp_path / "new" / "out.npz")
    cli.main(["convert", str(tmp_path / "in.npz"), h5, "--model", "mixer_cifar_2"])
    cli.main(["convert", h5, back, "--model", "mixer_cifar_2", "--classes", "6"])
    assert weights_of(back) == weights_of(tmp_path / "in.npz")


def test_a_run_knows_its_model(tmp_path):
    config = mixer_tf.MixerConfig(1, 8, 4, 16, (4, 4))
    about = ("digits", Recipe(), 0, "float32", "")
    described = RunConfig(config, (8, 8, 1), ("a", "b"), *about)
    run = Run.create(tmp_path / "run", described)
    model = described.build()
    model.save_weights(run.best_file)
    convert(run.folder, tmp_path / "out.npz")
    mixer_tf.save_npz(model, tmp_path / "direct.npz")
    assert weights_of(tmp_path / "out.npz") == weights_of(tmp_path / "direct.npz")
    exact = dataclasses.replace(described, model=dataclasses.replace(config, activation="gelu"))
    other = Run.create(tmp_path / "other", exact)
    exact.build().save_weights(other.best_file)
    with pytest.raises(ValueError, match="has activation gelu; Google's .npz has no place for"):
        convert(other.folder, tmp_path / "never.npz")
    assert not (tmp_path / "never.npz").exists()
    kept = run.best_file.read_bytes()
    with pytest.raises(ValueError, match="model.weights.h5 exists; give another name"):
        convert(tmp_path / "direct.npz", run.best_file, "mixer_nano")
    assert run.best_file.read_bytes() == kept
    with pytest.raises(ValueError, match="run says itself what --model and --image-size would"):
        convert(run.folder, tmp_path / "no.npz", model="mixer_nano", image_size=16)
    with pytest.raises(ValueError, match="direct.npz says itself what --classes would"):
        convert(tmp_path / "direct.npz", tmp_path / "no.weights.h5", "mixer_nano", num_classes=2)


def test_what_cannot_be_converted(tmp_path, capsys):
    np.savez(tmp_path / "w.npz", **reference_mixer.random_weights(1, 8, 4, 4, 8, (4, 4), 3))
    np.savez(tmp_path / "wide.npz", **{"head/bias": np.zeros(200_000, "float32")})
    other = mixer_tf.build("mixer_nano", num_classes=7)
    other.save_weights(tmp_path / "nano.weights.h5")
    for name in ("w.bin", "w.safetensors"):
        (tmp_path / name).write_bytes(b"something else")
    about = ("digits", Recipe(), 0, "float32", "")
    Run.create(tmp_path / "run.of.one", RunConfig("resmlp_12", (224, 224, 3), ("a", "b"), *about))
    there = sorted(tmp_path.iterdir())
    known = ["--model", "mixer_nano"]
    for words, arguments in {
        "give --model": ["w.npz", "o.npz"],
        "give --classes and --image-size": ["nano.weights.h5", "o.npz", *known],
        "no Mixer 'resnet20'": ["w.npz", "o.npz", "--model", "resnet20"],
        "name ending in": ["w.npz", "o.keras", *known],
        "no file to read": ["w.bin", "o.npz", *known],
        "Mixers alone, not gmlp_s16": ["w.npz", "o.weights.h5", "--model", "gmlp_s16"],
        "Mixers alone, not resmlp_12": ["w.safetensors", "o.npz", "--model", "resmlp_12"],
        "There is no file": ["no.weights.h5", "o.npz", *known],
        "There is no file and no run": ["no.such.run", "o.npz"],
        "Mixers alone, not resmlp_12; give a .safetensors or a run": ["run.of.one", "o.npz"],
        "200,000 classes": ["wide.npz", "o.npz", *known],
        "does not fit": ["w.npz", "o.npz", *known],
    }.items():
        arguments = [str(tmp_path / a) if "." in a else a for a in arguments]
        assert words in refused(capsys, "convert", *arguments)
    assert sorted(tmp_path.iterdir()) == there


CONFIG = mixer_tf.MixerConfig(2, 24, 12, 96, (8, 8), activation="gelu")


def timm_state(seed=0):
    """A state dict as timm names it, with random weights in PyTorch's layout."""
    draws = np.random.default_rng(seed)
    shapes = {"stem.proj.weight": (24, 3, 8, 8), "stem.proj.bias": (24,)}
    for i in range(2):
        shapes |= {f"blocks.{i}.norm{j}.{k}": (24,) for j in (1, 2) for k in ("weight", "bias")}
        for mlp, width, hidden in (("mlp_tokens", 16, 12), ("mlp_channels", 24, 96)):
            shapes[f"blocks.{i}.{mlp}.fc1.weight"] = (hidden, width)
            shapes[f"blocks.{i}.{mlp}.fc1.bias"] = (hidden,)
            shapes[f"blocks.{i}.{mlp}.fc2.weight"] = (width, hidden)
            shapes[f"blocks.{i}.{mlp}.fc2.bias"] = (width,)
    shapes |= {"norm.weight": (24,), "norm.bias": (24,), "head.weight": (7, 24), "head.bias": (7,)}
    return {name: draws.normal(0, 0.3, shape).astype("float32") for name, shape in shapes.items()}


def load(model, path):
    with TimmFile(path) as source:
        return fill(model, source)


def test_timm_names_and_layout(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    state = timm_state()
    save_file(state, tmp_path / "w.safetensors")
    model = load(mixer_tf.build(CONFIG, (32, 32, 3), 7), tmp_path / "w.safetensors")
    block = model.get_layer("block_1")
    assert np.array_equal(
        np.asarray(model.get_layer("stem").kernel),
        state["stem.proj.weight"].transpose(2, 3, 1, 0),
    )
    assert np.array_equal(
        np.asarray(block.token_mixing.dense_0.kernel), state["blocks.1.mlp_tokens.fc1.weight"].T
    )
    assert np.array_equal(np.asarray(block.layer_norm_1.gamma), state["blocks.1.norm2.weight"])

    del state["norm.bias"]
    save_file({**state, "extra": np.ones(2, "float32")}, tmp_path / "x.safetensors")
    with pytest.raises(
        ValueError, match=r"missing 1: pre_head_layer_norm/bias; unknown 1: 'extra'"
    ):
        load(model, tmp_path / "x.safetensors")
    state = timm_state()
    state["head.bias"][0] = np.nan
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="NaN"):
        load(model, tmp_path / "x.safetensors")
    save_file({**timm_state(), "head.bias": np.zeros(7, "int32")}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="int32"):
        load(model, tmp_path / "x.safetensors")


def test_hostile_safetensors(tmp_path):
    pytest.importorskip("safetensors")
    model = mixer_tf.build(CONFIG, (32, 32, 3), 7)
    declared = {
        "head.bias": {"dtype": "F32", "shape": [50_000, 50_000], "data_offsets": [0, 10**10]}
    }
    header = json.dumps(declared).encode()
    for content in (b"", b"x" * 100, len(header).to_bytes(8, "little") + header, b"\xff" * 8):
        (tmp_path / "w.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match="no readable .safetensors") as caught:
            load(model, tmp_path / "w.safetensors")
        assert "\n" not in str(caught.value)


def test_a_file_of_timms_is_begun_with_and_converted(tmp_path, monkeypatch):
    """By the ways that `--pretrained` and `convert` take."""
    pytest.importorskip("safetensors")
    expected = timm_reference.read(timm_reference.FOLDER / "mixer.npz", tmp_path)
    path = tmp_path / "w.safetensors"
    config = mixer_tf.MixerConfig(2, 16, 8, 64, (4, 4), activation="gelu")
    begun = mixer_tf.build(starting_weights.adapted(config, (16, 16, 3), path), (16, 16, 3), 3)
    starting_weights.load(begun, path)
    monkeypatch.setitem(zoo._PATCHED, "mixer_nano", config)
    whole = convert(path, tmp_path / "w.weights.h5", "mixer_nano", image_size=16)
    assert np.abs(np.asarray(whole(expected["images"])) - expected["logits"]).max() < 1e-4
    for name in ("stem", "block_0", "block_1", "pre_head_layer_norm"):
        both = (model.get_layer(name).get_weights() for model in (begun, whole))
        for mine, right in zip(*both):
            np.testing.assert_array_equal(mine, right)


@pytest.mark.parametrize("name", ["mixer", "mixer_stem_norm"])
def test_logits_equal_timms(name, tmp_path):
    """Small networks that timm made, see `timm_reference`."""
    pytest.importorskip("safetensors")
    expected = timm_reference.read(timm_reference.FOLDER / f"{name}.npz", tmp_path)
    stem_norm = name.endswith("norm")
    config = mixer_tf.MixerConfig(2, 16, 8, 64, (4, 4), activation="gelu", stem_norm=stem_norm)
    model = load(mixer_tf.build(config, (16, 16, 3), 7), tmp_path / "w.safetensors")
    assert model.count_params() == expected["weights"]
    assert np.abs(expected["logits"]).max() > 0.5
    assert np.abs(np.asarray(model(expected["images"])) - expected["logits"]).max() < 1e-4
