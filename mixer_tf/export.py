"""The way out to production: SavedModel, ONNX and TFLite.

Every format takes what the model takes, float32 pictures `[B, height, width,
channels]` in [0, 255], and gives float32 logits `[B, classes]`.
"""

import importlib.util
import pathlib
import tempfile
import warnings

import keras

from mixer_tf import stack
from mixer_tf.repvgg import fuse, has_branches
from mixer_tf.storage import files

FORMATS = ("saved_model", "onnx", "tflite")
PRECISIONS = ("float32", "float16", "int8")  # of TFLite's weights; int8: of its arithmetic too


def check(form, precision):
    """Refuse a format and a precision that are unknown or do not go together (ValueError)."""
    if form not in FORMATS:
        raise ValueError(f"There is no format {form!r}; there are: {', '.join(FORMATS)}.")
    if precision not in PRECISIONS:
        raise ValueError(f"There is no precision {precision!r}; give {', '.join(PRECISIONS)}.")
    if precision != "float32" and form != "tflite":
        raise ValueError(f"{form} is written in float32 only; {precision} is for tflite.")


def export(model, path, form, precision="float32", examples=None):
    """Write a model for another runtime, whole or not at all.

    Args:
        model: a `keras.Model` of this suite in float32, on TensorFlow; a RepVGG is
            fused first.
        path: of the folder (`saved_model`) or file (`onnx`, `tflite`) to write.
        form: one of `FORMATS`. A TFLite file takes one picture at a time.
        precision: one of `PRECISIONS`; other than float32 for TFLite only.
        examples: pictures `[N, height, width, channels]` like those to come, from
            which int8 takes the range of every value; about 200 will do.

    Returns:
        `path`.

    Raises:
        ValueError: the format or precision is unknown or does not go together,
            `path` exists, Keras runs on another backend, or a package is missing.
    """
    stack.only_keras_3("export")
    path = pathlib.Path(path)
    check(form, precision)
    if precision == "int8" and (examples is None or not len(examples)):
        raise ValueError("int8 needs examples: about 200 pictures of the training data.")
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"Keras runs on {keras.backend.backend()}; export with KERAS_BACKEND=tensorflow."
        )
    if any(layer.compute_dtype != "float32" for layer in model.layers):
        raise ValueError("The model does not compute in float32; build it so and load its weights.")
    if path.exists():
        raise ValueError(f"{path} exists; give another name.")
    if has_branches(model):
        model = fuse(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.remove_unfinished(path.parent, [path.name])
    if form == "saved_model":
        _saved_model(model, path)
    elif form == "onnx":
        _onnx(model, path)
    else:
        _tflite(model, path, precision, examples)
    return path


def _saved_model(model, path):
    with files.new_folder(path) as beside:
        model.export(beside, format="tf_saved_model", verbose=False)


def _onnx(model, path):
    for package in ("tf2onnx", "onnx"):
        if importlib.util.find_spec(package) is None:
            raise ValueError("Exporting to ONNX needs: pip install tf2onnx onnx.")
    with files.replacing(path) as beside, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Keras mends tf2onnx for numpy 2
        model.export(beside, format="onnx", verbose=False)


def _tflite(model, path, precision, examples):
    import tensorflow as tf

    one = [keras.InputSpec(shape=(1, *model.input_shape[1:]), dtype="float32")]
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, format="tf_saved_model", input_signature=one, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8":
            converter.representative_dataset = lambda: (
                [examples[i : i + 1].astype("float32")] for i in range(len(examples))
            )
        content = converter.convert()
    with files.replacing(path) as beside:
        beside.write_bytes(content)


def size_on_disk(path):
    """Bytes of a file, or of everything in a folder."""
    path = pathlib.Path(path)
    found = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in found)
