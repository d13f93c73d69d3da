import dataclasses
import io
import os
import pathlib
import pickle
import re
import tracemalloc
import zipfile

import numpy as np
import pytest
import reference_mixer
from helpers import run_python
from hypothesis import given, settings
from hypothesis import strategies as st

import mixer_tf
from mixer_tf.checkpoints import table
from mixer_tf.storage import npz
from mixer_tf.training import starting_weights
from mixer_tf.variants import VARIANTS

CONFIG = mixer_tf.MixerConfig(2, 12, 6, 20, (4, 4))
WEIGHTS = reference_mixer.random_weights(2, 12, 8, 6, 20, (4, 4), 5)


PAPER = [name for name in VARIANTS if re.fullmatch(r"mixer_[sblh]\d\d", name)]
# blocks, channels, tokens, D_S, D_C, patch, classes, final norm: the paper's Table 1 at 224 px,
# and the Mixer whose tokens are the rows of a 32x32 picture.
SIZES = {
    "mixer_s32": (8, 512, 49, 256, 2048, (32, 32), 1000, True),
    "mixer_b16": (12, 768, 196, 384, 3072, (16, 16), 1000, True),
    "mixer_rows": (12, 512, 32, 512, 512, (1, 32), 10, False),
}


def small(classes=5):
    return mixer_tf.build(CONFIG, (16, 8, 3), classes)


@pytest.fixture
def good(tmp_path):
    np.savez(tmp_path / "good.npz", **WEIGHTS)
    return tmp_path / "good.npz"


def refused(model, path, *words, **options):
    """The one line that a file is refused with; the model must not have changed."""
    before = [np.asarray(v).copy() for v in model.weights]
    files = sorted(p.name for p in path.parent.iterdir())
    with pytest.raises(ValueError) as caught:  # noqa: PT011, the words are checked below
        mixer_tf.load_npz(model, path, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    assert all(np.array_equal(a, b) for a, b in zip(before, model.weights))
    assert sorted(p.name for p in path.parent.iterdir()) == files
    return message


@pytest.mark.parametrize("name", SIZES)
def test_logits_equal_the_reference_and_bytes_survive_the_round_trip(name, tmp_path):
    weights = reference_mixer.random_weights(*SIZES[name])
    np.savez(tmp_path / "in.npz", **weights)
    model = mixer_tf.load_npz(mixer_tf.build(name), tmp_path / "in.npz")
    images = np.random.default_rng(1).uniform(0, 255, (2, *model.input_shape[1:]))
    images = images.astype("float32")
    expected = reference_mixer.logits(weights, images)
    np.testing.assert_allclose(model(images), expected, rtol=0, atol=1e-4)
    mixer_tf.save_npz(model, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as out:
        assert set(out.files) == set(weights)
        for key, array in weights.items():
            assert out[key].dtype == array.dtype
            assert out[key].tobytes() == array.tobytes(), key


@pytest.mark.parametrize("name", PAPER)
def test_every_weight_of_every_paper_variant_has_its_key(name):
    """All its blocks and its patch; how wide they are makes no difference."""
    config = dataclasses.replace(VARIANTS[name], hidden_dim=8, tokens_mlp_dim=4, channels_mlp_dim=8)
    model = mixer_tf.build(config, mixer_tf.MODELS[name].input_shape, 1000)
    weights = table(model)
    assert len(weights) == len(model.weights)
    assert {id(v) for v in weights.values()} == {id(v) for v in model.weights}


def test_file_of_the_suite_is_readable_by_numpy_and_reproducible(tmp_path):
    model = small()
    mixer_tf.save_npz(model, tmp_path / "a.npz")
    mixer_tf.save_npz(model, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert set(file.files) == set(WEIGHTS)


def test_half_floats_and_doubles_load(tmp_path):
    for dtype in ("float16", "float64", ">f4"):
        np.savez_compressed(tmp_path / "w.npz", **{k: v.astype(dtype) for k, v in WEIGHTS.items()})
        model = mixer_tf.load_npz(small(), tmp_path / "w.npz")
        kernel = np.asarray(model.get_layer("head").kernel)
        assert np.allclose(kernel, WEIGHTS["head/kernel"], atol=1e-3)


def test_bfloat16_and_fortran_order_load(tmp_path):
    top_half = {k: (v.view("uint32") >> 16).astype("uint16") for k, v in WEIGHTS.items()}
    np.savez(tmp_path / "b.npz", **{k: v.view("V2") for k, v in top_half.items()})
    model = mixer_tf.load_npz(small(), tmp_path / "b.npz")
    assert np.allclose(model.get_layer("head").kernel, WEIGHTS["head/kernel"], rtol=1e-2)
    np.savez(tmp_path / "f.npz", **{k: np.asfortranarray(v) for k, v in WEIGHTS.items()})
    model = mixer_tf.load_npz(small(), tmp_path / "f.npz")
    assert np.array_equal(model.get_layer("head").kernel, WEIGHTS["head/kernel"])


def test_all_that_does_not_fit_is_listed_at_once(tmp_path):
    weights = dict(WEIGHTS)
    del weights["stem/bias"], weights["MixerBlock_1/LayerNorm_0/scale"]
    weights["MixerBlock_2/LayerNorm_0/scale"] = weights["strange"] = np.ones(12, "float32")
    weights["MixerBlock_0/token_mixing/Dense_0/kernel"] = np.ones((9, 6), "float32")
    np.savez(tmp_path / "w.npz", **weights)
    message = refused(small(), tmp_path / "w.npz", "missing 2", "unknown 2", "another shape 1")
    for word in (
        "stem/bias",
        "MixerBlock_1/LayerNorm_0/scale",
        "strange",
        "MixerBlock_2",
        "(9, 6)",
    ):
        assert word in message
    assert "resize" in message


def test_head_of_another_width_only_where_asked(good):
    refused(small(7), good, "head/kernel (12, 5), not (12, 7)", "head/bias", "head='drop'")
    refused(small(0), good, "head/kernel", "head='drop'")
    model = mixer_tf.load_npz(small(7), good, head="drop")
    images = np.random.default_rng(0).uniform(0, 255, (2, 16, 8, 3)).astype("float32")
    assert not np.asarray(model(images)).any()
    assert np.array_equal(model.get_layer("stem").kernel, WEIGHTS["stem/kernel"])
    mixer_tf.load_npz(small(0), good, head="drop")
    refused(small(), good, "'maybe'", head="maybe")


def test_no_mixer_is_refused(good, tmp_path):
    model = mixer_tf.build("resnet20")
    with pytest.raises(ValueError, match="no Mixer of this suite"):
        mixer_tf.load_npz(model, good)
    with pytest.raises(ValueError, match="no Mixer of this suite"):
        mixer_tf.save_npz(model, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_nan_and_infinite_weights(tmp_path):
    for value in (np.nan, np.inf):
        weights = {k: v.copy() for k, v in WEIGHTS.items()}
        weights["head/bias"][3] = value  # the last array: those before must not be loaded
        np.savez(tmp_path / "w.npz", **weights)
        refused(small(), tmp_path / "w.npz", "'head/bias'", "1 of 5", "NaN or infinite")
    weights = {k: v.astype("float64") for k, v in WEIGHTS.items()}
    weights["head/bias"][0] = 1e300
    np.savez(tmp_path / "w.npz", **weights)
    refused(small(), tmp_path / "w.npz", "NaN or infinite in float32")


@pytest.mark.parametrize("dtype", ["int32", "complex64", "U3", "bool", "V4"])
def test_wrong_dtype(tmp_path, dtype):
    np.savez(tmp_path / "w.npz", **{**WEIGHTS, "head/bias": np.zeros(5, dtype)})
    refused(small(), tmp_path / "w.npz", "'head/bias' is of dtype", "float32")


class Exploding:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_pickles_are_never_opened(tmp_path):
    trace = tmp_path / "trace"
    objects = np.empty(5, object)
    objects[0] = Exploding(trace)
    np.savez(tmp_path / "w.npz", **{**WEIGHTS, "head/bias": objects})
    refused(small(), tmp_path / "w.npz", "'head/bias' is of dtype object")
    (tmp_path / "p.npz").write_bytes(pickle.dumps(Exploding(trace)))
    refused(small(), tmp_path / "p.npz", "no readable .npz file")
    assert not trace.exists()


def forged(path, name, header, data=b"", method=zipfile.ZIP_STORED):
    """An `.npz` whose one member says in its header what it likes."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, header)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(f"{name}.npy", stream.getvalue() + data)


def test_large_declarations_cost_nothing(tmp_path):
    header = {"descr": "<f4", "fortran_order": False, "shape": (50_000, 50_000)}
    forged(tmp_path / "big.npz", "head/kernel", header)
    assert (tmp_path / "big.npz").stat().st_size < 1024
    refused(small(), tmp_path / "big.npz", "(50000, 50000)", "10,000,000,000 bytes", "damaged")
    bomb = tmp_path / "bomb.npz"  # 64 MB of zeros in 64 kB, all of them declared
    header["shape"] = (16, 1 << 20)
    forged(bomb, "head/kernel", header, bytes(1 << 26), zipfile.ZIP_DEFLATED)
    model = small()
    tracemalloc.start()
    try:
        for path in (tmp_path / "big.npz", bomb):
            with pytest.raises(ValueError, match="head/kernel"):
                mixer_tf.load_npz(model, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6, "opening such a file must not allocate what it declares"


def test_a_small_file_that_would_become_a_large_model_is_refused(tmp_path):
    units = 1 << 20  # of token mixing, over 64 tokens: 256 MB of zeros, which compress
    bomb = tmp_path / "bomb.npz"
    header = {"descr": "<f4", "fortran_order": False, "shape": (64, units)}
    name = "MixerBlock_0/token_mixing/Dense_0/kernel"
    forged(bomb, name, header, bytes(4 * 64 * units), zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 300_000
    refused(small(), bomb, "declares 268,435,", "be compressed as far")
    with pytest.raises(ValueError, match="be compressed as far"):
        starting_weights.adapted("mixer_nano", (32, 32, 3), bomb)


@pytest.mark.parametrize(
    "text", ["{'descr': '<f4', 'shape': (((", "-" * 9000 + "1", "{}", "\xff", "{'descr': [0]}", "'"]
)
def test_headers_that_are_no_headers(tmp_path, text):
    header = text.encode("latin1").ljust(9999) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("head/bias.npy", content)
    refused(small(), tmp_path / "w.npz", "'head/bias' is no readable numpy array")


def test_path_out_of_the_archive_is_an_unknown_name(tmp_path):
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    np.savez(folder / "w.npz", **{**WEIGHTS, "../../evil": np.ones(3, "float32")})
    refused(small(), folder / "w.npz", "unknown 1: '../../evil'")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["deep", "er", "w.npz"]


def test_a_name_standing_twice(tmp_path):
    header = {"descr": "<f4", "fortran_order": False, "shape": (1,)}
    forged(tmp_path / "w.npz", "a", header, bytes(4))
    with (
        zipfile.ZipFile(tmp_path / "w.npz", "a") as archive,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        archive.writestr("a.npy", b"")
    refused(small(), tmp_path / "w.npz", "'a' twice")


def test_missing_file_and_folder(tmp_path):
    refused(small(), tmp_path / "no.npz", "There is no file")
    (tmp_path / "folder.npz").mkdir()
    refused(small(), tmp_path / "folder.npz", "There is no file")


def test_truncated_anywhere(good, tmp_path):
    whole = good.read_bytes()
    model = small()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        (tmp_path / "w.npz").write_bytes(whole[:length])
        refused(model, tmp_path / "w.npz")


@settings(max_examples=150, deadline=None, database=None)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), drop=st.booleans())
def test_a_changed_byte_never_gives_other_than_one_line(tmp_path_factory, place, byte, drop):
    folder = tmp_path_factory.mktemp("bytes")
    np.savez(folder / "w.npz", **{k: WEIGHTS[k] for k in ("stem/bias", "head/bias")})
    whole = bytearray((folder / "w.npz").read_bytes())
    at = int(place * len(whole))
    whole[at : at + 1] = b"" if drop else bytes([byte])
    (folder / "w.npz").write_bytes(whole)
    try:
        with npz.NpzFile(folder / "w.npz") as file:
            arrays = {name: file.read(name) for name in file.shapes}
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, WEIGHTS[name])  # a checksum tells of any other
    except ValueError as error:
        lines = str(error).splitlines()
    else:
        lines = ["read"]
    assert len(lines) == 1


def test_failed_writing_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "w.npz").write_bytes(b"old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mixer_tf.storage.npz.npy.write_array", full)
    with pytest.raises(OSError, match="No space"):
        mixer_tf.save_npz(small(), tmp_path / "w.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["w.npz"]
    assert (tmp_path / "w.npz").read_bytes() == b"old"


def test_loading_keeps_below_one_and_a_half_models(tmp_path):
    if not pathlib.Path("/proc/self/status").exists():
        pytest.skip("needs Linux's account of memory")
    code = (
        "import sys, mixer_tf\n"
        "from helpers import peak\n"
        "mixer_tf.build('mixer_cifar_2')\n"
        "before = peak()\n"
        "model = mixer_tf.build('mixer_b16')\n"
        "mixer_tf.save_npz(model, sys.argv[1])\n"
        "mixer_tf.load_npz(model, sys.argv[1])\n"
        "print((peak() - before) / (4 * model.count_params()))"
    )
    assert float(run_python(code, tmp_path / "b16.npz").stdout.split()[-1]) < 1.5


def test_the_message_for_another_network_is_short_and_says_nothing_of_pictures(tmp_path):
    """Weights of another network, which `resize` would not make fit."""
    other = reference_mixer.random_weights(9, 16, 10, 6, 20, (4, 4), 5)  # 10 tokens, not 8
    np.savez(tmp_path / "w.npz", **other)
    message = refused(small(), tmp_path / "w.npz", "unknown 84: ", " and 78 more; of another")
    assert "resize" not in message
    assert len(message) < 1200
    taller = reference_mixer.random_weights(2, 12, 10, 6, 20, (4, 4), 5)
    np.savez(tmp_path / "w.npz", **taller)
    refused(small(), tmp_path / "w.npz", "of another shape 6: ", "then resize")
    wider = reference_mixer.random_weights(2, 12, 8, 7, 20, (4, 4), 5)  # more hidden units
    np.savez(tmp_path / "w.npz", **wider)
    assert "resize" not in refused(small(), tmp_path / "w.npz", "of another shape 6: ")
