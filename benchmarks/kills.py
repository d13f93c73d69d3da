"""Kill a training at random moments, go on with it, compare its weights with the run never killed.

    python benchmarks/kills.py --kills 50

Trains a small Mixer on the digits (augmentation, dropout, averaged weights, the state saved at
every step) in a process that dies by SIGKILL at a moment drawn evenly from the time that the
undisturbed one took. Another process then goes on with what it finds; every third run is killed
once more. Printed are how many ended with weights, states and history identical to the last bit,
and how many kills fell into the writing of a file.
"""

import argparse
import os
import pathlib
import random
import signal
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import mixer_tf.train as training  # noqa: E402
from mixer_tf import MixerConfig, Run, load_data  # noqa: E402
from mixer_tf.recipe import Augmentation, Recipe  # noqa: E402

MODEL = MixerConfig(1, 16, 8, 16, (4, 4), dropout=0.1)


def start(out, data, recipe):
    """A process that trains, or goes on where a run has begun; its number.

    It begins as a copy of this one, which has imported everything and computed nothing.
    """
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        if (out / "config.json").exists():
            training.resume(out, data, save_every=1, quiet=True)
        else:
            training.train(MODEL, data, recipe, out, seed=3, save_every=1, quiet=True)
        code = 0
    finally:
        os._exit(code)


def finish(number):
    """Wait for the end of a process, which must be a good one."""
    _, status = os.waitpid(number, 0)
    if status:
        raise RuntimeError(f"a training ended with {os.waitstatus_to_exitcode(status)}")


def kill_after(seconds, number):
    """Whether the process was still there to be killed."""
    time.sleep(seconds)
    os.kill(number, signal.SIGKILL)
    _, status = os.waitpid(number, 0)
    return os.WIFSIGNALED(status)


def content(out):
    """Everything of an ended run that must be the same every time."""
    run = Run(out)
    with np.load(run.state_file) as file:
        found = {name: file[name].tobytes() for name in file.files if name != "progress"}
    for which in ("best", "last"):
        found[which] = [w.tobytes() for w in run.model(which).get_weights()]
    history = run.history()
    found["history"] = [history[name] for name in ("epoch", "val_loss", "val_accuracy")]
    return {**found, "test_loss": run.result()["test_loss"]}


def main():
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="Runs that are killed.")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draws = random.Random(options.seed)
    augmentation = Augmentation(shift=0.1, mixup=0.2)
    recipe = Recipe(options.epochs, 128, warmup_epochs=1, ema=0.9, augmentation=augmentation)
    data = load_data("digits")
    kills = writing = run = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        before = time.monotonic()
        finish(start(folder / "straight", data, recipe))
        lasts = time.monotonic() - before
        while run < options.kills:
            out = folder / f"run{run}"
            killed = 0
            for _ in range(2 if run % 3 == 2 else 1):
                moment = draws.uniform(0, lasts)
                if kill_after(moment, start(out, data, recipe)):
                    killed += 1
                    unfinished = [path.name.split("-", 2)[2] for path in out.glob(".writing-*")]
                    writing += bool(unfinished)
                    what = ", ".join(unfinished) or "nothing"
                    print(f"run {run}: killed at {moment:.1f} s, writing {what}", flush=True)
            finish(start(out, data, recipe))
            if killed:
                kills += killed
                run += 1
            else:  # this machine was faster for once: the run had ended before
                out.rename(folder / f"ended{time.monotonic_ns()}")
        expected = content(folder / "straight")  # now that no process is forked any more
        runs = [folder / f"run{number}" for number in range(options.kills)]
        hidden = [path for out in runs for path in out.glob(".*")]
        same = sum(content(out) == expected for out in runs)
    print(
        f"{same} of {len(runs)} runs identical to the undisturbed one after {kills} kills, "
        f"{writing} of them while a file was being written; {len(hidden)} files left over"
    )


if __name__ == "__main__":
    main()
