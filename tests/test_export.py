import collections
import importlib.util

import keras
import numpy as np
import pytest
from helpers import refused, without_xla

import mixer_tf
from mixer_tf import cli
from mixer_tf.export import export, size_on_disk
from mixer_tf.recipe import Recipe
from mixer_tf.runs import Run
from mixer_tf.sampling import sample
from mixer_tf.train import train

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="models are exported on TensorFlow"
)
onnx = pytest.mark.skipif(
    not all(importlib.util.find_spec(p) for p in ("tf2onnx", "onnx", "onnxruntime")),
    reason="needs tf2onnx, onnx and onnxruntime",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits):
    """A small Mixer trained on the digits."""
    config = mixer_tf.MixerConfig(2, 48, 24, 96, (4, 4))
    recipe = Recipe(epochs=10, batch_size=64, warmup_epochs=1, learning_rate=4e-3)
    folder = tmp_path_factory.mktemp("export") / "run"
    with pytest.MonkeyPatch.context() as patch:
        without_xla(patch)
        train(config, digits, recipe, folder, quiet=True)
    return folder


@pytest.fixture(scope="module")
def model(run):
    return Run.open(run).model()


@pytest.fixture(scope="module")
def pictures(digits):
    """All digits, the model's own logits and the right classes."""
    splits = (digits.train, digits.validation, digits.test)
    labels = np.concatenate([s.labels for s in splits])
    return np.concatenate([s.images for s in splits]).astype("float32"), labels


def tflite(path):
    """TFLite's own interpreter of a file."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter  # noqa: N806
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def run_tflite(interpreter, images):
    """Its logits, picture by picture."""
    into, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert (into["dtype"], out["dtype"]) == (np.float32, np.float32)
    logits = []
    for image in images:
        interpreter.set_tensor(into["index"], image[None])
        interpreter.invoke()
        logits.append(interpreter.get_tensor(out["index"])[0])
    return np.array(logits)


def test_saved_model_loads_without_keras(model, pictures, tmp_path):
    import tensorflow as tf

    images = pictures[0][:5]
    loaded = tf.saved_model.load(str(export(model, tmp_path / "saved", "saved_model")))
    assert np.abs(loaded.serve(images).numpy() - np.asarray(model(images))).max() < 1e-4
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]
    assert size_on_disk(tmp_path / "saved") > 4 * model.count_params()


@onnx
def test_onnx_agrees(model, pictures, tmp_path):
    import onnxruntime

    path = export(model, tmp_path / "model.onnx", "onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for images in (pictures[0][:1], pictures[0][:7]):  # any number of pictures
        logits = session.run(None, {session.get_inputs()[0].name: images})[0]
        assert np.abs(logits - np.asarray(model(images))).max() < 1e-4


def test_onnx_without_its_packages(model, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install tf2onnx onnx"):
        export(model, tmp_path / "model.onnx", "onnx")


def test_tflite_agrees(model, pictures, digits, tmp_path):
    images, labels = pictures
    expected = model.predict(images, verbose=0)
    accuracy = np.mean(expected.argmax(axis=1) == labels)
    assert accuracy > 0.9
    sizes, kinds = {}, {}
    for precision in ("float32", "float16", "int8"):
        path = tmp_path / f"{precision}.tflite"
        export(model, path, "tflite", precision, sample(digits.train, (16, 16), 200)[0])
        sizes[precision] = size_on_disk(path)
        interpreter = tflite(path)
        kinds[precision] = collections.Counter(
            np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details()
        )
        logits = run_tflite(interpreter, images)
        if precision == "float32":
            assert np.abs(logits - expected).max() < 1e-4
        assert abs(np.mean(logits.argmax(axis=1) == labels) - accuracy) < 0.01, precision
    assert sizes["float32"] > 1.4 * sizes["float16"] > 1.4 * sizes["int8"] * 0.8
    # What it computes in, too: with weights alone as int8 it would be four tensors.
    assert kinds["int8"]["int8"] > 2 * kinds["int8"]["float32"]
    assert not kinds["float32"]["int8"]
    assert kinds["float16"]["float16"]
    assert not kinds["float16"]["int8"]


def test_what_cannot_be_exported(model, tmp_path):
    path = tmp_path / "model"
    for words, arguments in {
        "no format 'torch'": ("torch",),
        "no precision 'int4'": ("tflite", "int4"),
        "float16 is for tflite": ("onnx", "float16"),
        "needs examples": ("tflite", "int8"),
    }.items():
        with pytest.raises(ValueError, match=words):
            export(model, path, *arguments)
    path.mkdir()
    with pytest.raises(ValueError, match="exists"):
        export(model, path, "saved_model")
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    config = mixer_tf.MixerConfig(1, 8, 4, 8, (4, 4))
    with pytest.raises(ValueError, match="float32"):
        export(mixer_tf.build(config, (8, 8, 3), 2), tmp_path / "b", "saved_model")


def test_what_does_not_go_together_is_refused_before_pictures_are_read(run, monkeypatch, capsys):
    monkeypatch.setattr("mixer_tf.run_data.load_run_data", lambda config: 1 / 0)
    line = refused(capsys, "export", run, "--format", "onnx", "--precision", "int8")
    assert line == "mixer_tf: onnx is written in float32 only; int8 is for tflite."


def test_command(run, tmp_path, capsys):
    out = tmp_path / "d.tflite"
    cli.main(["export", str(run), "--format", "tflite"])
    assert (run / "model-float32.tflite").stat().st_size > 1000
    assert "model-float32.tflite" in capsys.readouterr().out
    cli.main(["export", str(run), "--format", "tflite", "--precision", "int8", "--out", str(out)])
    assert "d.tflite" in capsys.readouterr().out
    assert out.stat().st_size > 1000
    line = refused(capsys, "export", run, "--format", "tflite", "--out", out)
    assert line == f"mixer_tf: {out} exists; give another name."


def test_a_repvgg_goes_out_fused(tmp_path):
    import tensorflow as tf

    model = mixer_tf.build("repvgg_a0", (16, 16, 3), 10)
    export(model, tmp_path / "out", "saved_model")
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    assert sum(int(np.prod(v.shape)) for v in loaded.variables) == 7_041_194
    images = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    np.testing.assert_allclose(loaded.serve(images), model(images), atol=1e-4, rtol=1e-4)
