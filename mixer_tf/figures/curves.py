"""Runs side by side: learning curves, accuracy against cost, one page of a comparison."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from mixer_tf.figures import style


def comparison(runs, data_name):
    """Several trained models on one page.

    Args:
        runs: dicts, one a model, with `name`, `history` (`{column: [value of each
            epoch]}`) and `result` (as in `result.json`), `macs` (of one picture).
        data_name: of the data set, for the title.

    Returns:
        A Figure: validation accuracy by epoch, test accuracy with its standard
        error, and the cost of each model.
    """
    below = 0.8 + 0.33 * len(runs)  # inches for the table
    figure = Figure(figsize=(10, 5 + below), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(4.6, below), width_ratios=(1.5, 1))
    curves, bars = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    table = figure.add_subplot(grid[1, :])
    names = [style.short(run["name"]) for run in runs]
    *others, last = names
    together = f"{', '.join(others)} and {last}" if others else last
    if len(together) > 60:  # more has no room above the panels; the legend names them
        together = f"{len(names)} models"
    figure.suptitle(f"{together} on {style.short(data_name)}, same recipe", size=13)

    gap = "\n" if len(runs) > 3 else " "  # beside each other there is no room for one line
    for i, (name, run) in enumerate(zip(names, runs)):
        accuracy = 100 * np.asarray(run["history"]["val_accuracy"])
        epochs = np.arange(1, len(accuracy) + 1)
        marker = style.marker(i)
        curves.plot(epochs, accuracy, marker=marker, markersize=4, label=name, **style.line(i))

        result = run["result"]
        test, error = 100 * result["test_accuracy"], 100 * result["test_standard_error"]
        bars.errorbar(
            i, test, error, color=style.colour(i), marker=marker, markersize=9, capsize=6, lw=2
        )
        bars.annotate(
            f"{test:.1f}{gap}± {error:.1f} %",
            (i, test + error),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
            size=10 if len(runs) < 5 else 8,
        )
    curves.set(xlabel="epoch", ylabel="validation accuracy (%)", title="While training")
    style.whole_numbers(curves)
    curves.grid(alpha=0.3)
    curves.legend(loc="lower right")

    bars.set(title="On the test set (± standard error)", ylabel="test accuracy (%)")
    slant = {"rotation": 20, "ha": "right"} if len(runs) > 3 else {}
    bars.set_xticks(range(len(runs)), names, **slant)
    bars.set_xlim(-0.6, len(runs) - 0.4)
    bars.margins(y=0.5)
    low, high = bars.get_ylim()  # wide enough for the numbers above, so perhaps beyond 100 %
    bars.set_yticks([t for t in bars.get_yticks() if max(low, 0) <= t <= min(high, 100)])
    bars.grid(axis="y", alpha=0.3)

    table.axis("off")
    rows = [
        [
            name,
            f"{run['result']['parameters']:,}",
            f"{run['macs'] / 1e6:.1f} M",
            f"{run['result']['images_per_second']:,.0f}",
            f"{run['result']['train_seconds']:,.0f} s",
        ]
        for name, run in zip(names, runs)
    ]
    columns = ["model", "weights", "MACs per picture"]
    columns += ["pictures/s (median epoch)", "time, all included"]
    drawn = table.table(
        rows,
        colLabels=columns,
        loc="center",
        cellLoc="center",
        edges="horizontal",
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(10)
    drawn.scale(1, 1.5)
    devices = "; ".join(sorted({run["result"]["device"] for run in runs}))
    figure.text(
        0.995, 0.005, style.short(devices, 120), ha="right", va="bottom", size=8, color="0.4"
    )
    return figure


def learning_curves(runs):
    """Loss and accuracy by epoch, of any number of runs.

    Args:
        runs: dicts, one a run, with `name` and `history` (`{column: [value of
            each epoch]}` with `loss`, `accuracy`, `val_loss`, `val_accuracy`).

    Returns:
        A Figure: solid on validation data, dotted with hollow markers in training.
    """
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for i, run in enumerate(runs):
        name = style.short(run["name"])
        for axes, column, scale in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
            epochs = np.arange(1, len(run["history"]["val_" + column]) + 1)
            held_out = scale * np.asarray(run["history"]["val_" + column])
            training = scale * np.asarray(run["history"][column])
            look = {"color": style.colour(i), "marker": style.marker(i), "markersize": 4}
            look["markevery"] = max(1, len(epochs) // 15)
            axes.plot(epochs, training, **look, linestyle=":", lw=1.5, markerfacecolor="white")
            axes.plot(epochs, held_out, **look, label=name)
    loss.set(ylabel="loss", title="Loss")
    accuracy.set(ylabel="accuracy (%)", title="Accuracy")
    for axes in (loss, accuracy):
        axes.set_xlabel("epoch")
        style.whole_numbers(axes)
        axes.grid(alpha=0.3)
    accuracy.plot([], [], color="0.4", marker="o", markersize=4, label="solid: validation")
    hollow = {"marker": "o", "markersize": 4, "markerfacecolor": "white"}
    accuracy.plot([], [], color="0.4", linestyle=":", **hollow, label="dotted, hollow: training")
    figure.legend(
        *accuracy.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    return figure


def accuracy_against_cost(runs):
    """Test accuracy against weights and against seconds of training.

    Args:
        runs: dicts, one a run, with `name` and `result` (as in `result.json`).

    Returns:
        A Figure with one marker a run and its standard error; both costs are on
        a logarithmic scale.
    """
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    costs = (("parameters", "weights"), ("train_seconds", "seconds of training"))
    for axes, (column, label) in zip(panels, costs):
        for i, run in enumerate(runs):
            result = run["result"]
            axes.errorbar(
                result[column],
                100 * result["test_accuracy"],
                100 * result["test_standard_error"],
                color=style.colour(i),
                marker=style.marker(i),
                markersize=9,
                capsize=5,
                linestyle="none",
                label=style.short(run["name"]),
            )
        axes.set(xscale="log", xlabel=label)
        axes.grid(alpha=0.3, which="both")
        axes.margins(x=0.25, y=0.25)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(NullFormatter())
        values = [run["result"][column] for run in runs]
        narrow = max(values) < 10 * min(values)
        if narrow:  # a decade alone has no two ticks to read from
            axes.set_xlim(min(values) / 3, max(values) * 3)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
    panels[0].set_ylabel("test accuracy (%) ± standard error")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    devices = sorted({run["result"]["device"] for run in runs})
    figure.suptitle("trained on " + "; ".join(style.short(d, 90) for d in devices), size=9)
    return figure
