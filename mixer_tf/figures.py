"""Arrays in, matplotlib Figures out. Nothing here knows Keras.

Models are told apart by colour and by line style together, so that the figures
can be read without colour vision and in print.
"""

import numpy as np
from matplotlib.figure import Figure

# Okabe and Ito's palette, which stays distinct under the common colour deficiencies.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def save(figure, path):
    """Write a Figure as PNG."""
    figure.savefig(path, dpi=150, format="png")


def filter_tiles(kernel):
    """Each stem filter as a small picture, scaled by itself.

    Args:
        kernel: `[height, width, channels, C]`, the stem's weights.

    Returns:
        `[C, height, width, 3]` float in [0, 1]. Zero is mid-grey; the largest
        absolute weight of a filter reaches 0 or 1. Filters over 3 channels are
        shown in colour, any other number by the mean over channels.
    """
    tiles = np.moveaxis(np.asarray(kernel, "float64"), -1, 0)  # [h, w, c, C] -> [C, h, w, c]
    if tiles.shape[-1] != 3:
        tiles = np.repeat(tiles.mean(-1, keepdims=True), 3, axis=-1)
    largest = np.abs(tiles).max(axis=(1, 2, 3), keepdims=True)
    return 0.5 + 0.5 * tiles / np.where(largest > 0, largest, 1)


def stitch(tiles, columns=None, gap=1, zoom=1):
    """Lay small pictures out in a grid.

    Args:
        tiles: `[N, height, width, 3]` in [0, 1].
        columns: pictures a row; about square if left out.
        gap: white pixels between pictures.
        zoom: each pixel becomes `zoom` x `zoom`.

    Returns:
        `[H, W, 3]` float in [0, 1].
    """
    tiles = np.asarray(tiles).repeat(zoom, axis=1).repeat(zoom, axis=2)
    count, height, width, _ = tiles.shape
    columns = columns or int(np.ceil(np.sqrt(count * height / width)))
    rows = -(-count // columns)
    sheet = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for i, tile in enumerate(tiles):
        row, column = divmod(i, columns)
        y, x = row * (height + gap), column * (width + gap)
        sheet[y : y + height, x : x + width] = tile
    return sheet


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
    figure = Figure(figsize=(10, 6.2), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(3.2, 1), width_ratios=(1.5, 1))
    curves, bars = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    table = figure.add_subplot(grid[1, :])
    figure.suptitle(f"{' and '.join(r['name'] for r in runs)} on {data_name}, same recipe", size=13)

    lowest = 100.0
    for i, run in enumerate(runs):
        accuracy = 100 * np.asarray(run["history"]["val_accuracy"])
        epochs = np.arange(1, len(accuracy) + 1)
        style = {"color": COLOURS[i % len(COLOURS)], "linestyle": _STYLES[i % len(_STYLES)]}
        marker = _MARKERS[i % len(_MARKERS)]
        curves.plot(epochs, accuracy, marker=marker, markersize=4, label=run["name"], **style)
        lowest = min(lowest, np.median(accuracy))

        result = run["result"]
        test, error = 100 * result["test_accuracy"], 100 * result["test_standard_error"]
        bars.errorbar(
            i, test, error, color=style["color"], marker=marker, markersize=9, capsize=6, lw=2
        )
        bars.annotate(
            f"{test:.1f} ± {error:.1f} %",
            (i, test),
            xytext=(12, 0),
            textcoords="offset points",
            va="center",
        )
    curves.set(xlabel="epoch", ylabel="validation accuracy (%)", title="While training")
    curves.xaxis.get_major_locator().set_params(integer=True)
    curves.grid(alpha=0.3)
    curves.legend(loc="lower right")

    bars.set(title="On the test set (± standard error)", ylabel="test accuracy (%)")
    bars.set_xticks(range(len(runs)), [run["name"] for run in runs])
    bars.set_xlim(-0.5, len(runs) - 0.2)
    bars.margins(y=0.5)
    bars.grid(axis="y", alpha=0.3)

    table.axis("off")
    rows = [
        [
            run["name"],
            f"{run['result']['parameters']:,}",
            f"{run['macs'] / 1e6:.1f} M",
            f"{run['result']['images_per_second']:,.0f}",
            f"{run['result']['train_seconds']:,.0f} s",
        ]
        for run in runs
    ]
    drawn = table.table(
        rows,
        colLabels=["model", "weights", "MACs per picture", "pictures/s trained", "training time"],
        loc="center",
        cellLoc="center",
        edges="horizontal",
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(10)
    drawn.scale(1, 1.5)
    device = runs[0]["result"]["device"]
    figure.text(0.995, 0.005, device, ha="right", va="bottom", size=8, color="0.4")
    return figure
