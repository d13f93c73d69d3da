"""Train for many epochs and watch what grows: memory, open files; and whether events stay readable.

    python benchmarks/soak.py --epochs 400

The digits, a small Mixer, everything that the command shows in TensorBoard, the state saved every
ten steps. Memory is compared between the end of the first tenth of the epochs, when everything has
been called, and the last; open files likewise. All event files are read to their end after every
tenth of the epochs, while they are being written.
"""

import argparse
import os
import pathlib
import sys
import tempfile

import keras
import numpy as np
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from mixer_tf import MixerConfig, load_data  # noqa: E402
from mixer_tf.command_line.training import tensorboard_callbacks  # noqa: E402
from mixer_tf.recipe import Recipe  # noqa: E402
from mixer_tf.train import train  # noqa: E402


def memory():
    """Resident memory of this process in MB."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


class Watch(keras.callbacks.Callback):
    """Notes memory, open files and readable events of each epoch.

    Args:
        folder: of the run.
        every: epochs between two readings of the event files.
    """

    def __init__(self, folder, every):
        super().__init__()
        self.folder = folder
        self.every = every
        self.memory, self.files, self.events = [], [], []

    def on_epoch_end(self, epoch, logs=None):
        self.memory.append(memory())
        self.files.append(len(os.listdir("/proc/self/fd")))
        if (epoch + 1) % self.every == 0:
            found = self.folder.rglob("events.out.*")
            self.events.append(sum(len(list(RawEventFileLoader(str(p)).Load())) for p in found))
            print(
                f"epoch {epoch + 1}: {self.memory[-1]:.0f} MB, {self.files[-1]} files open, "
                f"{self.events[-1]:,} events readable",
                flush=True,
            )


def main():
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=400)
    options = parser.parse_args()
    tenth = max(1, options.epochs // 10)
    data = load_data("digits")
    recipe = Recipe(epochs=options.epochs, batch_size=128, ema=0.99)
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "run")
        watch = Watch(out, tenth)
        before = len(os.listdir("/proc/self/fd"))
        train(
            MixerConfig(2, 32, 16, 64, (4, 4)),
            data,
            recipe,
            out,
            save_every=10,
            quiet=True,
            callbacks=lambda run: [*tensorboard_callbacks(run, data), watch],
        )
        after = len(os.listdir("/proc/self/fd"))
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    early = np.median(watch.memory[tenth : 2 * tenth])
    late = np.median(watch.memory[-tenth:])
    steps = options.epochs * (len(data.train) // 128)
    print(
        f"{options.epochs} epochs, {steps:,} steps: memory {early:.0f} MB in the second tenth, "
        f"{late:.0f} MB in the last ({100 * (late / early - 1):+.1f} %); open files "
        f"{watch.files[tenth]} and {watch.files[-1]} while training, {before} before and {after} "
        f"after; events readable each time, {watch.events[-1]:,} in the end; {size / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
