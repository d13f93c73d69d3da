"""Files that strangers wrote, and command lines that nobody meant."""

import json
import pickle
import random

import click
import h5py
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_tf import cli
from mixer_tf.exchange.timm_weights import TimmFile
from mixer_tf.storage import h5


def dense():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])


@pytest.fixture
def weights(tmp_path):
    """A file as Keras writes it, and the path of its one kernel inside."""
    path = tmp_path / "w.weights.h5"
    h5.save_weights(dense(), path)
    with h5py.File(path) as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
        (kernel,) = [name for name in names if file[name].shape == (3, 2)]
    return path, kernel


def refused(path, words):
    model = dense()
    before = model.get_weights()
    with pytest.raises(ValueError, match=words) as caught:
        h5.load_weights(model, path)
    assert len(str(caught.value).splitlines()) == 1
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_h5_round_trip(weights):
    path, _ = weights
    model = dense()
    h5.load_weights(model, path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(model.get_weights()[0], file[weights[1]][()])


def test_memory_that_is_full_is_no_damage(weights, monkeypatch):
    def full(path):
        raise MemoryError

    monkeypatch.setattr(h5, "check", full)
    with pytest.raises(MemoryError):
        h5.load_weights(dense(), weights[0])


def test_h5_that_reads_another_file(weights, tmp_path):
    """An external array would put 24 bytes of any file of this machine into the weights."""
    path, kernel = weights
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(24)))
    with h5py.File(path, "r+") as file:
        del file[kernel]
        file.create_dataset(kernel, (3, 2), "float32", external=[(str(secret), 0, 24)])
    refused(path, "lies in another file")
    with h5py.File(path, "r+") as file:
        del file[kernel]
        file[kernel] = h5py.ExternalLink(str(secret), "/x")
    refused(path, "link to somewhere else")
    with h5py.File(path, "r+") as file:
        del file[kernel]
        layout = h5py.VirtualLayout((3, 2), "float32")
        layout[:] = h5py.VirtualSource(str(secret), "x", (3, 2))
        file.create_virtual_dataset(kernel, layout)
    refused(path, "lies in another file")


def test_h5_that_declares_what_is_not_there(weights):
    path, kernel = weights
    with h5py.File(path, "r+") as file:
        del file[kernel]
        file.create_dataset(kernel, (50_000, 50_000), "float32")  # 10 GB in a file of kilobytes
    assert path.stat().st_size < 100_000
    refused(path, "declares 10,000,000,000 bytes")
    with h5py.File(path, "r+") as file:
        del file[kernel]
        file.create_dataset(kernel, (3000, 2000), "float32", compression="gzip", fillvalue=0)
    refused(path, "compressed")
    with h5py.File(path, "r+") as file:
        del file[kernel]
        file.create_dataset(kernel, data=[b"code"] * 6, dtype=h5py.string_dtype())
    refused(path, "not of numbers")
    with h5py.File(path, "r+") as file:
        file["again"] = file["/"]
    refused(path, "stands twice|not of numbers")


def test_code_in_a_model_file_is_not_run(tmp_path):
    """A whole Keras model with a Lambda, and a pickle, under the names of weights."""
    trace = tmp_path / "trace"

    class Exploding:
        def __reduce__(self):
            return open, (str(trace), "w")

    path = tmp_path / "lambda.weights.h5"
    code = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    config = {"class_name": "Lambda", "config": {"function": code}}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": [config]})
        file.create_group("model_weights")
    refused(path, "damaged or does not fit")
    path.write_bytes(pickle.dumps(Exploding()))
    refused(path, "damaged or does not fit")
    assert not trace.exists()


@settings(max_examples=100, deadline=None, database=None)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_safetensors_is_read_or_refused(tmp_path_factory, place, byte, cut):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    path = tmp_path_factory.mktemp("tensors") / "w.safetensors"
    save_file({"head.weight": np.ones((3, 2), "float32"), "head.bias": np.ones(3, "half")}, path)
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    path.write_bytes(content[:at] if cut else content[:at] + bytes([byte]) + content[at + 1 :])
    try:
        with TimmFile(path) as file:
            arrays = [file.read(name) for name in file.shapes]
    except ValueError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    else:
        assert all(np.isfinite(array).all() for array in arrays)


COMMANDS = cli.commands.commands
VALUES = [
    *("", "0", "-1", "1", "3", "1e9", "99999999999999999999", "nan", "x", "auto", "--", "-", "é\n"),
    *("digits", "cifar10", "mixer_nano", "resnet20", "stem", "onnx", "int8", "adamw", "quick"),
    *("nowhere", "nowhere.npz", "nowhere.zip", "w.weights.h5", "/dev/null", ".", "a\udcffb"),
]


def command_line(draws):
    """Mostly what a command knows, with any values; now and then anything at all."""
    name = draws.choice(sorted(COMMANDS))
    words = [name] if draws.random() < 0.95 else []
    parameters = COMMANDS[name].params
    for parameter in draws.sample(parameters, min(len(parameters), draws.randrange(5))):
        if isinstance(parameter, click.Option):
            words.append(draws.choice(parameter.opts))
        if not getattr(parameter, "is_flag", False):
            words.append(draws.choice(VALUES))
    if draws.random() < 0.3:
        words.insert(draws.randrange(len(words) + 1), draws.choice([*VALUES, "--help", "--bad"]))
    return words


def test_two_thousand_command_lines_end_with_one_line(tmp_path, monkeypatch):
    """A result, or exit code 2 and one line. What would work for long is held back."""
    monkeypatch.chdir(tmp_path)

    def hold(*_, **__):
        raise ValueError("this would have begun to work")

    for name in ("train.train", "train.resume", "compare.compare", "zoo.build"):
        monkeypatch.setattr(f"mixer_tf.{name}", hold)
    monkeypatch.setattr("mixer_tf.data._keras_datasets", hold)  # it would ask the network
    draws, runner, codes, held = random.Random(0), CliRunner(), {0: 0, 2: 0}, 0
    for _ in range(2000):
        words = command_line(draws)
        command = click.Command("main", callback=lambda words=words: cli.main(words))
        result = runner.invoke(command, [])
        assert result.exit_code in codes, (words, result.exit_code, result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit), words
        if result.exit_code == 2:
            assert result.output.splitlines()[-1].startswith("mixer_tf: "), words
            assert "Traceback" not in result.output
            held += "begun to work" in result.output
        codes[result.exit_code] += 1
    assert codes[0] > 100, codes
    assert held > 50
