"""Throughput of one process and of several, each on a core of its own where there are enough.

    python benchmarks/scaling.py --workers 1 2 4

Strong scaling on this machine's loopback: the same batch, shared by more processes. It shows what
synchronizing costs, not what a network costs. A Mixer alone in a process trains in fused blocks,
which several replicas do not have; ResNet20 computes the same way in both. Linux only (taskset).
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from kill_worker import free_addresses

ROOT = pathlib.Path(__file__).parent.parent


def rate(count, batch, model, epochs):
    """Pictures a second of `count` processes together: the median epoch, the first left out."""
    addresses = free_addresses(count)
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "run"
        processes = []
        for index in range(count):
            task = {"type": "worker", "index": index}
            config = json.dumps({"cluster": {"worker": addresses}, "task": task})
            core = str(index % os.cpu_count())
            command = ["taskset", "-c", core, sys.executable, "-m", "mixer_tf", "train"]
            command += ["--model", model, "--data", "digits", "--precision", "float32"]
            command += ["--batch-size", str(batch), "--epochs", str(epochs), "--out", str(out)]
            processes.append(
                subprocess.Popen(
                    command, cwd=ROOT, env={**os.environ, "TF_CONFIG": config},
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )
            )  # fmt: skip
        codes = [process.wait() for process in processes]
        if any(codes):
            raise SystemExit(f"a process of {count} failed; run one of them by hand")
        rows = (out / "history.csv").read_text().splitlines()
        column = rows[0].split(",").index("images_per_second")
        rates = sorted(float(row.split(",")[column]) for row in rows[2:])
        return rates[len(rates) // 2]


def main():
    """Print a row for each number of processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    print("| processes | pictures/s | of ideal |\n|---:|---:|---:|")
    first = None
    for count in options.workers:
        found = rate(count, options.batch_size, options.model, options.epochs)
        first = first or found / count
        cores = min(count, os.cpu_count())
        print(f"| {count} | {found:,.0f} | {found / first / cores:.2f} |", flush=True)


if __name__ == "__main__":
    main()
