"""Every export of a run beside Keras: agreement, accuracy, time for one picture, size on disk.

    python benchmarks/export.py runs/nano --data cifar10

Needs tf2onnx, onnx, onnxruntime, and ai-edge-litert (or TensorFlow's own interpreter).
Prints a Markdown table.
"""

import argparse
import pathlib
import platform
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import keras
import numpy as np
import tensorflow as tf

from mixer_tf.batches import EvaluationBatches
from mixer_tf.export import export, size_on_disk
from mixer_tf.run_data import load_run_data
from mixer_tf.runs import Run
from mixer_tf.sampling import sample

KINDS = [
    ("saved_model", "float32"),
    ("onnx", "float32"),
    ("tflite", "float32"),
    ("tflite", "float16"),
    ("tflite", "int8"),
]


def runner(form, path, threads):
    """A function from one picture `[1, H, W, C]` to its logits, in the format's own runtime."""
    if form == "saved_model":
        loaded = tf.saved_model.load(str(path))
        return lambda image: loaded.serve(image).numpy()
    if form == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options)
        name = session.get_inputs()[0].name
        return lambda image: session.run(None, {name: image})[0]
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        Interpreter = tf.lite.Interpreter  # noqa: N806
    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    into = interpreter.get_input_details()[0]["index"]
    out = interpreter.get_output_details()[0]["index"]

    def run(image):
        interpreter.set_tensor(into, image)
        interpreter.invoke()
        return interpreter.get_tensor(out)

    return run


def measure(run, images):
    """Logits of all pictures, one by one, and the median milliseconds of one."""
    for image in images[:20]:
        run(image[None])
    logits, seconds = [], []
    for image in images:
        started = time.perf_counter()
        logits.append(run(image[None])[0])
        seconds.append(time.perf_counter() - started)
    return np.array(logits), 1000 * statistics.median(seconds)


def main():
    """Export, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--data")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    run = Run.open(arguments.run)
    config, model = run.config(), run.model()
    size = config.input_shape[:2]
    data = load_run_data(config, arguments.data)
    count = min(arguments.pictures, len(data.test))
    chosen = np.random.default_rng(0).permutation(len(data.test))[:count]
    split = data.test.take(chosen).no_larger(size)
    batches = EvaluationBatches(split, config.num_classes, count, size)
    images = np.asarray(batches[0][0])
    predict = tf.function(model)
    expected, milliseconds = measure(lambda image: predict(image).numpy(), images)

    def row(name, logits, milliseconds, bytes_on_disk):
        accuracy = 100 * np.mean(logits.argmax(axis=1) == split.labels)
        difference = np.abs(logits - expected).max()
        print(
            f"| {name} | {difference:.1e} | {accuracy:.2f} % | {milliseconds:.2f} ms "
            f"| {bytes_on_disk / 1e6:.2f} MB |"
        )

    print("| format | largest difference of logits | accuracy | one picture | on disk |")
    print("|---|---:|---:|---:|---:|")
    row("Keras, tf.function", expected, milliseconds, size_on_disk(run.best_file))
    with tempfile.TemporaryDirectory() as folder:
        for form, precision in KINDS:
            path = pathlib.Path(folder, f"{form}-{precision}").with_suffix(
                {"saved_model": "", "onnx": ".onnx", "tflite": ".tflite"}[form]
            )
            given = sample(data.train, size, 200)[0] if precision == "int8" else None
            export(model, path, form, precision, given)
            logits, milliseconds = measure(runner(form, path, arguments.threads), images)
            row(f"{form}, {precision}", logits, milliseconds, size_on_disk(path))
    print(
        f"\n{model.count_params():,} weights, {size[0]}x{size[1]} pictures, n = {count}, "
        f"{arguments.threads} thread(s), {platform.machine()}, TensorFlow {tf.__version__}, Keras "
        f"{keras.__version__}"
    )


if __name__ == "__main__":
    main()
