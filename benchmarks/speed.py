"""How fast a Mixer is computed here, beside other ways and beside the machine's own limit.

    python benchmarks/speed.py --out runs/speed
    python benchmarks/speed.py --out runs/speed --torch-python OTHER/bin/python   # with timm

Each way runs in a process of its own and waits; in every round each is asked once, one
after another, so that what the machine does besides meets all of them. Not all ways fit into
memory at once: they race in groups, of which each has `mixer_tf` and the machine's limits in it.
Written are `speed.md`, `speed.json` and `speed.png`: medians over the rounds, and ratios of the
ways within each round. Ways whose packages are missing are left out, and named.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

from tqdm import tqdm

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from matplotlib.figure import Figure

from mixer_tf.figures.style import colour, save
from mixer_tf.variants import find_mixer
from mixer_tf.zoo import MODELS

WORKER = pathlib.Path(__file__).parent / "contenders.py"
LIMITS = ["float32 product", "bfloat16 product"]
KERAS = [
    "mixer_tf",
    "mixer_tf, whole batches",
    "mixer_tf, float32",
    "Keras layers, XLA",
    "Keras layers, XLA, mixed_bfloat16",
    "the ancestor's way",
]
TIMM = [
    "mixer_tf",
    "timm, float32",
    "timm, float32, compiled",
    "timm, bfloat16",
    "timm, bfloat16, compiled",
]
INFERENCE = [
    "inference: mixer_tf",
    "inference: timm, float32, not compiled",
    "inference: timm, bfloat16, compiled",
]
GROUPS = [[*LIMITS, *KERAS], [*LIMITS, *TIMM], [*LIMITS, *INFERENCE]]
PRODUCT = 2 * 2048**3  # floating-point operations of one


class Contender:
    """A process that times one way whenever it is asked."""

    def __init__(self, way, model, batch, python):
        self.way = way
        errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  a pipe would fill up unread
        self.process = subprocess.Popen(
            [python, str(WORKER), way, model, str(batch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        self.seconds = []
        self.missing = ""
        if self.process.stdout.readline().strip() != "ready":
            errors.seek(0)
            lines = errors.read().strip().splitlines()
            self.missing = lines[-1] if lines else "it ended without a word"

    def ask(self):
        """Time it once more."""
        try:
            self.process.stdin.write("again\n")
            self.process.stdin.flush()
            self.seconds.append(float(self.process.stdout.readline()))
        except (OSError, ValueError) as error:
            raise SystemExit(
                f"{self.way} ended in the middle of the race; was its memory taken? A smaller "
                "--batch needs less."
            ) from error

    def close(self):
        """End its process."""
        self.process.stdin.close()
        self.process.wait()


def race(ways, model, batch, rounds, torch_python):
    """`{way: [seconds of a step in each round]}` and `{way: why it is missing}`."""
    contenders, missing = [], {}
    for way in tqdm(ways, f"{model}: starting"):
        contender = Contender(way, model, batch, torch_python if "timm" in way else sys.executable)
        if contender.missing:
            missing[way] = contender.missing
        else:
            contenders.append(contender)
    for _ in tqdm(range(rounds), f"{model}: rounds"):
        for contender in contenders:
            contender.ask()
    for contender in contenders:
        contender.close()
    return {c.way: c.seconds for c in contenders}, missing


def operations(model):
    """Floating-point operations of one picture, forward and in a training step."""
    entry, mixer = MODELS[model], find_mixer(model)
    rows, columns = mixer.token_grid(entry.input_shape)
    pixels = mixer.patch_size[0] * mixer.patch_size[1] * entry.input_shape[2]
    stem = rows * columns * pixels * mixer.hidden_dim
    # The backward pass has two products for each one of the forward pass, but that nobody asks
    # for the gradient for the picture.
    return 2 * entry.macs, 2 * (3 * entry.macs - stem)


def summary(seconds, model, batch):
    """Rows of the table: way, images a second, ratio to ours, share of the float32 limit."""
    forward, training = operations(model)
    limit = [PRODUCT / s for s in seconds["float32 product"]]
    rows = []
    for way, times in seconds.items():
        if way in LIMITS:
            rows.append((way, None, None, statistics.median(PRODUCT / s for s in times)))
            continue
        first = "inference: mixer_tf" if way.startswith("inference") else "mixer_tf"
        work = batch * (forward if way.startswith("inference") else training)
        rows.append(
            (
                way,
                batch / statistics.median(times),
                statistics.median(t / o for t, o in zip(times, seconds[first])),
                statistics.median(work / t / top for t, top in zip(times, limit)),
            )
        )
    return rows


def table(rows, model, batch, rounds):
    """The rows as Markdown."""
    lines = [
        f"**{model}**, batch {batch}, medians of {rounds} rounds\n",
        "| way | images/s | speed of mixer_tf over this | share of the float32 limit |",
        "|---|---:|---:|---:|",
    ]
    for way, rate, ratio, share in rows:
        if rate is None:
            lines.append(f"| {way}, 2048 x 2048 | | | {share / 1e9:.0f} GFLOP/s |")
        else:
            lines.append(f"| {way} | {rate:.0f} | {ratio:.2f} | {100 * share:.0f} % |")
    return "\n".join(lines) + "\n"


def picture(results):
    """Bars of images a second, one panel for each model."""
    height = sum(1.2 + 0.28 * len(rows) for rows in results.values())
    figure = Figure(figsize=(9, height), layout="constrained")
    panels = figure.subplots(len(results), 1, squeeze=False)[:, 0]
    for panel, (model, rows) in zip(panels, results.items()):
        shown = [row for row in rows if row[1] is not None][::-1]
        colours = [colour(0) if "mixer_tf" in row[0] else "0.6" for row in shown]
        bars = panel.barh([row[0] for row in shown], [row[1] for row in shown], color=colours)
        panel.bar_label(bars, fmt="%.0f", padding=3)
        panel.set_title(model, loc="left")
        panel.set_xlabel("images a second")
        panel.spines[["top", "right"]].set_visible(False)
    return figure


def main():
    """Race, tabulate, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--models", nargs="+", default=["mixer_cifar_4", "mixer_nano"])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--torch-python", default=sys.executable)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    texts, results, times = [], {}, {}
    for model in arguments.models:
        rows, missing, times[model] = {}, {}, []
        for ways in GROUPS:
            found = race(ways, model, arguments.batch, arguments.rounds, arguments.torch_python)
            times[model].append(found[0])
            missing |= found[1]
            for row in summary(found[0], model, arguments.batch):
                rows.setdefault(row[0], row)  # of what is in several groups, the first
        results[model] = list(rows.values())
        texts.append(table(results[model], model, arguments.batch, arguments.rounds))
        texts += [f"Left out: {way} ({why})\n" for way, why in missing.items()]
        print(texts[-1 - len(missing)])
    from mixer_tf import runtime  # Keras only now: the contenders had the machine to themselves
    from mixer_tf.version import versions

    about = {"machine": runtime.choose("float32").device, **versions()}
    texts.append(", ".join(f"{name} {value}" for name, value in about.items()) + "\n")
    (arguments.out / "speed.md").write_text("\n".join(texts))
    (arguments.out / "speed.json").write_text(json.dumps({"about": about, "seconds": times}))
    save(picture(results), arguments.out / "speed.png")


if __name__ == "__main__":
    main()
