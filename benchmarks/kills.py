"""Kill a training at random moments, go on with it, compare its weights with the run never killed.

    python benchmarks/kills.py --kills 50

Each training is a process of its own, `train --save-every 1` on the digits, and dies by SIGKILL at
a moment drawn evenly from the time that the undisturbed one took. It then goes on with `--resume`
(or begins again, where it died before it had begun), every third time being killed once more.
Printed are how many ended with weights and states identical to the last bit, and how many kills
fell into the writing of a file.
"""

import argparse
import contextlib
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


def start(out, epochs):
    """A process that trains, or goes on where a run has begun."""
    resume = ["--resume"] if (out / "config.json").exists() else []
    flags = ["--data", "digits", "--epochs", str(epochs), "--batch-size", "128", "--seed", "3"]
    return subprocess.Popen(
        [sys.executable, "-m", "mixer_tf", "train", "--model", "mixer_cifar_2", *flags]
        + ["--image-size", "18", "--save-every", "1", *resume, "--out", str(out)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(process):
    """Wait for its end, which must be a good one."""
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()


def kill_after(seconds, out, epochs):
    """Start, wait, kill: whether it was still running, and what it was writing then."""
    process = start(out, epochs)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=seconds)
    alive = process.poll() is None
    process.kill()
    process.communicate()
    return alive, [path.name.split("-", 2)[2] for path in out.glob(".writing-*")]


def content(out):
    """Every array of the final state, and the bytes of the rows that are the same every time."""
    with np.load(out / "state.npz") as file:
        state = {name: file[name].tobytes() for name in file.files if name != "progress"}
    from mixer_tf import Run

    run = Run.open(out)
    for which in ("best", "last"):
        state[which] = b"".join(w.tobytes() for w in run.model(which).get_weights())
    history = run.history()
    state["epochs"] = [history["epoch"], history["val_loss"], history["val_accuracy"]]
    return state, run.result()["test_loss"]


def main():
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="Runs that are killed.")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draws = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name in ("warm", "straight"):  # the first one reads the libraries from the disk
            before = time.monotonic()
            finish(start(folder / name, options.epochs))
            lasts = time.monotonic() - before
        expected = content(folder / "straight")
        assert content(folder / "warm") == expected, "two undisturbed runs differ"
        same = kills = writing = 0
        for number in range(1, options.kills + 1):
            out = folder / f"run{number}"
            for _ in range(2 if number % 3 == 0 else 1):
                moment = draws.uniform(0, lasts)
                alive, unfinished = kill_after(moment, out, options.epochs)
                kills += alive
                writing += bool(unfinished)
                what = ", ".join(unfinished) or "nothing"
                print(f"run {number}: killed at {moment:.1f} of {lasts:.1f} s, writing {what}")
            finish(start(out, options.epochs))
            left = [path.name for path in out.iterdir() if path.name.startswith(".")]
            assert not left, left
            same += content(out) == expected
            print(f"run {number}: {same} of {number} identical", flush=True)
    print(
        f"{same} of {options.kills} runs identical to the undisturbed one after {kills} kills, "
        f"{writing} of them while a file was being written"
    )


if __name__ == "__main__":
    main()
