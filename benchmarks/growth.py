"""How a Mixer's cost grows with picture size, depth, width and batch.

    python benchmarks/growth.py --out runs/growth

The paper claims cost linear in the number of patches (section 2), unlike attention's
square: with C, D_S and D_C fixed, time and multiply-accumulates over the number of tokens
should be a straight line. Written are `growth.md` and `growth.png`, with the exponent of
each curve, by least squares on logarithms; 1 is linear.
"""

import argparse
import dataclasses
import itertools
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from mixer_tf import runtime, zoo
from mixer_tf.figures.style import line, marker, save
from mixer_tf.recipe import Recipe
from mixer_tf.training import cpu_step
from mixer_tf.variants import MixerConfig
from mixer_tf.version import versions

BASE = MixerConfig(4, 128, 64, 512, (4, 4))
SIDE, BATCH = 32, 64


def cases():
    """`{what grows: (name of the axis, [(value, config, side, batch)])}`."""
    change = dataclasses.replace
    return {
        "picture size": (
            "tokens",
            [((s // 4) ** 2, BASE, s, BATCH) for s in (16, 24, 32, 48, 64, 96, 128)],
        ),
        "depth": (
            "blocks",
            [(n, change(BASE, num_blocks=n), SIDE, BATCH) for n in (1, 2, 4, 8, 16)],
        ),
        "width": (
            "channels C (D_S = C / 2, D_C = 4 C)",
            [
                (
                    c,
                    change(BASE, hidden_dim=c, tokens_mlp_dim=c // 2, channels_mlp_dim=4 * c),
                    SIDE,
                    BATCH,
                )
                for c in (32, 64, 128, 256, 512)
            ],
        ),
        "batch": ("pictures", [(b, BASE, SIDE, b) for b in (8, 16, 32, 64, 128, 256, 512)]),
    }


def training_step(config, side, batch, chosen):
    """One step as `train` takes it, and the multiply-accumulates of its forward pass."""
    keras.backend.clear_session()
    model = zoo.build(config, (side, side, 3), 10)
    macs = zoo.count_macs(model) * batch
    fused = cpu_step.prepare(model, Recipe(batch_size=batch), chosen)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile("adamw", loss, jit_compile=not fused)
    model.make_train_function()
    draws = np.random.default_rng(0)
    images = tf.constant(draws.uniform(0, 255, (batch, side, side, 3)).astype("float32"))
    labels = tf.constant(np.eye(10, dtype="float32")[draws.integers(0, 10, batch)])
    data = itertools.repeat((images, labels))
    return lambda: float(np.asarray(model.train_function(iter(data))["loss"])), macs


def median_seconds(step, rounds):
    """Median time of a step over `rounds`, after three that do not count."""
    times = []
    for _i in range(rounds + 3):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return statistics.median(times[3:])


def exponent(values, costs):
    """Slope of log cost over log value."""
    return float(np.polyfit(np.log(values), np.log(costs), 1)[0])


def main():
    """Measure, tabulate, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    chosen = runtime.choose()

    figure = Figure(figsize=(10, 7), layout="constrained")
    lines = ["| what grows | | seconds a step | forward GMAC |", "|---|---:|---:|---:|"]
    slopes = []
    for panel, (title, (axis, points)) in zip(figure.subplots(2, 2).flat, cases().items()):
        values, seconds, work = [], [], []
        for value, config, side, batch in points:
            step, macs = training_step(config, side, batch, chosen)
            values.append(value)
            seconds.append(median_seconds(step, arguments.rounds))
            work.append(macs)
            lines.append(f"| {title} | {value} | {seconds[-1]:.4f} | {macs / 1e9:.3f} |")
        slope, slope_of_work = exponent(values, seconds), exponent(values, work)
        # the larger half, where the fixed cost of a step no longer counts
        half = len(values) // 2
        large = exponent(values[half:], seconds[half:])
        slopes.append(
            f"- {title}: time grows as its power {slope:.2f} ({large:.2f} over the larger half), "
            f"multiply-accumulates as its power {slope_of_work:.2f}"
        )
        panel.loglog(values, seconds, marker=marker(0), label="measured", **line(0))
        scaled = np.array(work) * seconds[-1] / work[-1]
        label = "multiply-accumulates,\nscaled to the last"
        panel.loglog(values, scaled, marker=marker(1), label=label, **line(1))
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.set_xticks(values, [str(v) for v in values], minor=False)
        panel.minorticks_off()
        panel.set(title=title, xlabel=axis, ylabel="seconds a training step")
        panel.legend()
    about = {"machine": chosen.describe(), **versions()}
    text = "\n".join(
        [
            f"Training step of {BASE}, {SIDE}x{SIDE} pictures, batch {BATCH}, one thing changed at "
            f"a time; medians of {arguments.rounds} steps.\n",
            *slopes,
            "",
            *lines,
            "",
            ", ".join(f"{name} {value}" for name, value in about.items()),
        ]
    )
    (arguments.out / "growth.md").write_text(text + "\n")
    print(text)
    save(figure, arguments.out / "growth.png")


if __name__ == "__main__":
    main()
