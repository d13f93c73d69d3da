"""What a Mixer's blocks do: units as opposite pairs, one changed patch, how far tokens mix."""

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mixer_tf.figures import style, tiles

_MOST_PAIRS = 64  # more would be too small to see
_ACROSS = 8


def token_mixing(trained, control, title):
    """Units of a token-mixing MLP as opposite pairs, beside an untrained control.

    After the paper's Figure 5. Each pair is scaled by its own largest absolute
    weight; zero is white.

    Args:
        trained, control: `Pairs` of the trained kernel and of a fresh one.
        title: stands above.

    Returns:
        A Figure, the cosine of each pair below it. Of more than 64 pairs the 64
        most opposite are drawn, in order of frequency.
    """
    # One picture and plain text on fixed places: drawn every epoch, this must cost little.
    down = -(-min(len(trained.cosines), _MOST_PAIRS) // _ACROSS)
    sheets = [_sheet_of_pairs(pairs) for pairs in (trained, control)]
    cell = sheets[0][1]
    panel = 5.6  # inches
    tall = panel * (down * cell[0]) / (_ACROSS * cell[1])
    high = tall + 0.75  # with the titles
    figure = Figure(figsize=(2 * panel + 0.6, high))
    names = ("trained", "untrained control (Glorot)")
    for i, (pairs, (sheet, cell, shown), name) in enumerate(zip((trained, control), sheets, names)):
        left = (0.2 + i * (panel + 0.2)) / figure.get_figwidth()
        box = (left, 0.1 / high, panel / figure.get_figwidth(), tall / high)
        axes = figure.add_axes(box)
        axes.imshow(sheet, interpolation="nearest", aspect="auto")
        axes.axis("off")
        for k, cosine in enumerate(pairs.cosines[shown]):
            row, column = divmod(k, _ACROSS)
            axes.text(
                (column + 0.5) * cell[1],
                (row + 1) * cell[0] - 2,
                f"{cosine:.2f}".replace("-", "−"),
                size=7,
                ha="center",
                va="bottom",
            )
        count = len(pairs.cosines)
        of = f" of all {count} (drawn: the {len(shown)} lowest)" if len(shown) < count else ""
        mean = f"{pairs.cosines.mean():.2f}".replace("-", "−")
        axes.set_title(f"{name}: mean cosine {mean}{of}", size=10)
    figure.suptitle(title, size=11, y=1 - 0.1 / high, va="top")
    return figure


def _sheet_of_pairs(pairs):
    """`(sheet [H, W, 3], (height, width) of a cell in pixels, numbers of the pairs shown)`."""
    shown = np.sort(np.argsort(pairs.cosines, kind="stable")[:_MOST_PAIRS])
    values = np.asarray(pairs.tiles, "float64")[shown]  # [P, 2, h, w]
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    largest = np.abs(values).max(axis=(1, 2, 3), keepdims=True)
    # Purple and orange differ in lightness and for every kind of colour vision.
    colours = matplotlib.colormaps["PuOr_r"](0.5 + 0.5 * values / np.where(largest > 0, largest, 1))
    down, across = tiles.magnification(*values.shape[2:])
    colours = colours[..., :3].repeat(down, axis=2).repeat(across, axis=3)
    count, _, height, width, _ = colours.shape
    side = max(height, width // 2)
    gap = max(3, width // 8)  # within a pair; between pairs it is wider
    cell = (side + max(12, side // 2), 2 * width + gap + max(8, width // 2))
    rows = -(-count // _ACROSS)
    sheet = np.ones((rows * cell[0], _ACROSS * cell[1], 3))
    for k, (one, other) in enumerate(colours):
        row, column = divmod(k, _ACROSS)
        y, x = row * cell[0], column * cell[1] + (cell[1] - 2 * width - gap) // 2
        sheet[y : y + height, x : x + width] = one
        sheet[y : y + height, x + width + gap : x + 2 * width + gap] = other
    return sheet, cell, shown


def one_patch(picture, changed, panels):
    """What moves in a Mixer where one patch of the picture is changed.

    Args:
        picture, changed: `[H, W, channels]` uint8, before and after.
        panels: `(title, difference)` in the order of computation, each difference
            `[tokens, C]`: absolute change of each number of the table of tokens.

    Returns:
        A Figure: the two pictures, and a map a panel, a row each token and a column each
        channel, all on one logarithmic scale; what moved by less than a thousandth of the
        largest change is white.
    """
    across = 3
    rows = -(-len(panels) // across)
    figure = Figure(figsize=(12, 2.2 + 3.1 * rows), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(2.0, 3.1 * rows))
    for axes, image, title in zip(above.subplots(1, 2), (picture, changed), ("picture", "changed")):
        axes.imshow(tiles.as_rgb(image), interpolation="nearest")
        axes.set_title(title, size=10)
        axes.axis("off")
    largest = max(float(np.max(d)) for _, d in panels) or 1.0
    scale = LogNorm(largest / 1000, largest)
    colours = matplotlib.colormaps["viridis_r"].with_extremes(under="white", bad="white")
    grid = below.subplots(rows, across, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.axis("off")
    for axes, (title, difference) in zip(grid, panels):
        drawn = np.asarray(difference, "float64")  # [tokens, C], a row each token
        image = axes.imshow(drawn, norm=scale, cmap=colours, aspect="auto", interpolation="nearest")
        moved = int((drawn.max(1) > largest / 1000).sum())
        axes.set_title(f"{title}\n{moved} of {len(drawn)} tokens moved", size=10)
        axes.set(xlabel="channel", ylabel="token")
        style.whole_numbers(axes)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    below.colorbar(image, ax=list(grid[: len(panels)]), label="absolute change", extend="min")
    return figure


def mixing_distances(distances, untrained, uniform):
    """How far over the picture each block's token mixing reaches.

    Args:
        distances: `[blocks]`, see `mixing_distance`.
        untrained: `[blocks, draws]`, the same of fresh weights.
        uniform: mean distance between two places of the grid.

    Returns:
        A Figure; the unit is the side of a token.
    """
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.subplots()
    blocks = np.arange(len(distances))
    axes.plot(blocks, distances, marker="o", label="trained", **style.line(0))
    middle = np.mean(untrained, axis=1)
    spread = np.abs(np.stack([np.min(untrained, axis=1), np.max(untrained, axis=1)]) - middle)
    axes.errorbar(
        blocks,
        middle,
        spread,
        color=style.colour(1),
        linestyle="--",
        marker="s",
        capsize=4,
        label="untrained (range of draws)",
    )
    axes.axhline(uniform, color="0.4", linestyle=":", label="equal weights everywhere")
    axes.set(xlabel="block", ylabel="mean distance (tokens)")
    axes.set_ylim(0, 1.1 * max(uniform, np.max(distances), np.max(untrained)))
    axes.set_xticks(blocks)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure
