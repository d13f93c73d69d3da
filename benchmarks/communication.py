"""From which batch on the network, not the device, decides how long a data-parallel step takes.

    python benchmarks/communication.py --hosts 16 --bandwidth 100 --latency 20 --tflops 100
    python benchmarks/communication.py --picture assets/scaling.png

A model, not a measurement. A step computes, then sums the gradients of all hosts by a ring
all-reduce (Patarasuk and Yuan 2009), one after the other as in
`mixer_tf.distributed.host_training`:

    communication = 2 (n - 1) / n * bytes / bandwidth + 2 (n - 1) * latency
    computation   = 6 * MACs * pictures per host / arithmetic per second

`bytes` is 4 for each weight (gradients are float32 under every precision policy), 6 MACs stands for
two floating-point operations, forwards once and backwards twice.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import numpy as np
from matplotlib.figure import Figure

from mixer_tf.figures.style import line, save
from mixer_tf.zoo import MODELS


def communication(weights, hosts, bandwidth, latency):
    """Seconds that the gradients of one step take.

    Args:
        weights: how many are trained.
        hosts: how many sum them.
        bandwidth: of each host's link, bits a second.
        latency: of one message, seconds.
    """
    return 2 * (hosts - 1) / hosts * 32 * weights / bandwidth + 2 * (hosts - 1) * latency


def computation(macs, pictures, flops):
    """Seconds that the arithmetic of one step takes on one host."""
    return 6 * macs * pictures / flops


def balanced(entry, hosts, bandwidth, latency, flops):
    """Pictures on each host at which a step communicates as long as it computes."""
    seconds = communication(entry.weights, hosts, bandwidth, latency)
    return seconds / computation(entry.macs, 1, flops)


def picture(options, link):
    """Share of a step that is arithmetic, over pictures on each host, for the paper's Mixers."""
    pictures = np.logspace(0, 4, 100)
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    networks = [name for name in MODELS if name.startswith("mixer_") and name[6] in "sblh"]
    for i, name in enumerate(networks):
        equal = balanced(MODELS[name], *link, options.tflops * 1e12)
        axes.plot(pictures, 100 * pictures / (pictures + equal), label=name, **line(i))
    axes.set(xscale="log", xlabel="pictures on each host")
    axes.set_ylabel("share of a step that is arithmetic (%)")
    axes.set_title(
        f"{options.hosts} hosts, {options.bandwidth:g} Gbit/s, {options.tflops:g} TFLOP/s each: "
        "a model, not a measurement",
        size=10,
    )
    axes.grid(alpha=0.3)
    title = "those of one patch size\nnearly coincide"
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), title=title)
    return figure


def main():
    """Print the table; draw the picture where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=16)
    parser.add_argument("--bandwidth", type=float, default=100, help="Gbit/s of each host's link")
    parser.add_argument("--latency", type=float, default=20, help="microseconds of one message")
    parser.add_argument("--tflops", type=float, default=100, help="that each host reaches")
    parser.add_argument("--picture", help="also draw it into this file")
    options = parser.parse_args()
    link = options.hosts, options.bandwidth * 1e9, options.latency * 1e-6
    print("| model | gradients | summed in | equal at | 90 % at |")
    print("|---|---:|---:|---:|---:|")
    for name, entry in MODELS.items():
        seconds = communication(entry.weights, *link)
        equal = balanced(entry, *link, options.tflops * 1e12)
        print(
            f"| {name} | {4e-6 * entry.weights:,.1f} MB | {1e3 * seconds:,.1f} ms "
            f"| {equal:,.0f} | {9 * equal:,.0f} |"
        )
    if options.picture:
        save(picture(options, link), options.picture)


if __name__ == "__main__":
    main()
