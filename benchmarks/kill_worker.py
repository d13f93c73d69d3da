"""Kill a worker of a training over several processes again and again; compare what comes out.

    python benchmarks/kill_worker.py --workers 2 --kills 10

Trains a small Mixer on the digits in one process, then in several on the loopback, then in several
of which one, chosen by chance, is killed (SIGKILL) at a moment chosen by chance; all are started
again together. Prints the largest difference of the final states (weights and the optimizer's
moments), how long the others took to end, and their exit code and last line.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent


def work(out, epochs):
    """One worker, or the only process: train, or go on where a state was saved."""
    sys.path.insert(0, str(ROOT))
    from mixer_tf import MixerConfig
    from mixer_tf.distributed import hosts
    from mixer_tf.distributed.cluster import TRY_AGAIN, WorkerLost

    hosts.join()
    from mixer_tf.data import load_data
    from mixer_tf.recipe import Augmentation, Recipe
    from mixer_tf.train import resume, train

    data = load_data("digits")
    data = dataclasses.replace(data, train=data.train.take(slice(0, 960)))
    recipe = Recipe(
        epochs, 24, warmup_epochs=1, augmentation=Augmentation(shift=0.1, mixup=0.2), ema=0.9
    )
    try:
        if (pathlib.Path(out) / "config.json").exists():
            resume(out, data, save_every=7)
        else:
            model = MixerConfig(2, 16, 8, 16, (4, 4))
            train(model, data, recipe, out, seed=3, precision="float32", save_every=7)
    except WorkerLost as error:
        print(f"mixer_tf: {error}", file=sys.stderr, flush=True)
        os._exit(TRY_AGAIN)


def free_addresses(count):
    """Addresses of this machine on which nobody listens."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in servers]
    for server in servers:
        server.close()
    return addresses


def start(count, out, epochs):
    """All workers, as processes of this machine."""
    addresses = free_addresses(count)
    processes = []
    for index in range(count):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        if count > 1:
            environment["TF_CONFIG"] = json.dumps(
                {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            )
        command = [sys.executable, __file__, "--work", str(out), "--epochs", str(epochs)]
        with open(f"{out}.{index}.log", "w") as log:
            processes.append(subprocess.Popen(command, env=environment, stderr=log))
    return processes


def wait(processes, seconds=300):
    """Their exit codes."""
    return [process.wait(seconds) for process in processes]


def final_state(out):
    """Every variable at the end of a run."""
    with np.load(out / "state.npz") as file:
        return [file[name] for name in file.files if name.startswith("v")]


def difference(one, other):
    """Largest absolute difference of two states."""
    return max(float(np.abs(a.astype("float64") - b).max()) for a, b in zip(one, other))


def losses(out):
    """`loss` of each epoch."""
    rows = (out / "history.csv").read_text().splitlines()
    column = rows[0].split(",").index("loss")
    return np.array([float(row.split(",")[column]) for row in rows[1:]])


def main():
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.epochs)
        return
    draws = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        wait(start(1, folder / "one", options.epochs))
        wait(start(options.workers, folder / "straight", options.epochs))
        one, straight = folder / "one", folder / "straight"
        written = [(straight / name).stat().st_mtime for name in ("config.json", "state.npz")]
        lasts = written[1] - written[0]  # the first step's compilation included
        print(
            f"{options.workers} workers against 1 process, {options.epochs} epochs: losses differ "
            f"by {np.abs(losses(one) - losses(straight)).max():.1e}, states by "
            f"{difference(final_state(one), final_state(straight)):.1e}",
            flush=True,
        )
        for kill in range(options.kills):
            out = folder / f"kill{kill}"
            processes = start(options.workers, out, options.epochs)
            while not (out / "config.json").exists():
                time.sleep(0.05)
            moment = draws.uniform(0, lasts)
            time.sleep(moment)
            victim = draws.randrange(options.workers)
            processes[victim].kill()
            killed = time.monotonic()
            codes = wait(processes)
            ended = time.monotonic() - killed
            others = [i for i in range(options.workers) if i != victim]
            line = pathlib.Path(f"{out}.{others[0]}.log").read_text().splitlines()[-1]
            again = wait(start(options.workers, out, options.epochs))
            apart = difference(final_state(straight), final_state(out))
            print(
                f"kill {kill + 1}: worker {victim} after {moment:.1f} of {lasts:.1f} s; exit codes "
                f"{codes}, the last after {ended:.1f} s ({line!r}); started again: {again}, states "
                f"differ by {apart:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
