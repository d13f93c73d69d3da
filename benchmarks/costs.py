"""What a run costs beside its steps: start-up, input pipeline, memory.

    MIXER_TF_DATA_DIR=FOLDER python benchmarks/costs.py --data cifar10

Prints Markdown. Each measurement is a process of its own; times are medians of `--rounds`.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent

FIRST_STEP = """
import numpy as np
from mixer_tf.data import Data, Split
from mixer_tf.recipes import RECIPES
from mixer_tf.train import train
import dataclasses, keras, pathlib, tempfile, time
class Stop(Exception): pass
class First(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None): raise Stop
split = Split(np.zeros((512, 32, 32, 3), "uint8"), np.arange(512) % 10)
data = Data("none", split, split, split, tuple("0123456789"))
try:
    train("mixer_nano", data, RECIPES["{recipe}"], pathlib.Path(tempfile.mkdtemp()) / "run",
          callbacks=lambda run: [First()], own_process=True, quiet=True)
except Stop:
    pass
"""
TRAINING = """
import dataclasses, pathlib, tempfile, keras
from mixer_tf.data import load_data
from mixer_tf.recipes import RECIPES
from mixer_tf.train import train
class Stop(Exception): pass
class Later(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 20: raise Stop
recipe = dataclasses.replace(RECIPES["cifar"], batch_size={batch})
try:
    train("{model}", load_data("{data}"), recipe, pathlib.Path(tempfile.mkdtemp()) / "run",
          callbacks=lambda run: [Later()], own_process=True, quiet=True)
except Stop:
    pass
"""
INFERENCE = """
import mixer_tf, numpy as np
model = mixer_tf.build("mixer_b16")
for _ in range(3):
    model(np.zeros((1, 224, 224, 3), "float32"), training=False)  # as `predict` does
"""
PIPELINE = """
import time, statistics, numpy as np
from mixer_tf.batches import TrainingBatches
from mixer_tf.data import Split
from mixer_tf.recipes import RECIPES
split = Split(np.random.default_rng(0).integers(0, 256, (20480, 32, 32, 3), dtype="uint8"),
              np.arange(20480) % 10)
batches = TrainingBatches(split, 10, {batch}, RECIPES["{recipe}"].augmentation, 0, ({size}, {size}))
for i in range(5):
    batches[i]
wall, cpu = [], time.process_time()
for i in range(5, 30):
    started = time.perf_counter()
    np.asarray(batches[i][0])
    wall.append(time.perf_counter() - started)
print({batch} / statistics.median(wall), {batch} * 25 / (time.process_time() - cpu))
"""


def run(code):
    """Seconds, what was printed, and the largest resident memory in bytes, of a fresh process."""
    arguments = code if isinstance(code, list) else ["-c", code]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, errors = process.stdout.read(), process.stderr.read()
    # of this child; RUSAGE_CHILDREN would keep the largest of all
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(errors.decode()[-2000:])
    return time.perf_counter() - started, out.decode(), usage.ru_maxrss * 1024


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    print("| start-up | seconds |\n|---|---:|")
    for name, code in {
        "`python -m mixer_tf --help`": ["-m", "mixer_tf", "--help"],
        "`import tensorflow` alone": "import tensorflow",
        "`import keras` alone": "import keras",
        "mixer_nano to the end of its first training step": FIRST_STEP.format(recipe="quick"),
    }.items():
        seconds = statistics.median(run(code)[0] for _ in range(arguments.rounds))
        print(f"| {name} | {seconds:.2f} |", flush=True)

    print("\n| pipeline | batch | pictures/s | pictures a CPU second |\n|---|---:|---:|---:|")
    for recipe in ("quick", "cifar"):
        for size in (32, 72):
            for batch in (128, 512):
                code = PIPELINE.format(recipe=recipe, size=size, batch=batch)
                rate, per_cpu = map(float, run(code)[1].split())
                print(
                    f"| {recipe}, {size}x{size} | {batch} | {rate:.0f} | {per_cpu:.0f} |",
                    flush=True,
                )

    print("\n| memory, largest resident | GB |\n|---|---:|")
    for model, batch in (("mixer_nano", 128), ("mixer_nano", 512), ("mixer_cifar_4", 512)):
        code = TRAINING.format(model=model, batch=batch, data=arguments.data)
        print(f"| training {model}, {arguments.data}, batch {batch} | {run(code)[2] / 1e9:.2f} |")
    print(f"| inference, mixer_b16, one picture | {run(INFERENCE)[2] / 1e9:.2f} |")


if __name__ == "__main__":
    main()
