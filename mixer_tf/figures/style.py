"""What all figures share: colours, lines, and the ways out of a Figure.

Models are told apart by colour, line and marker together, so that the figures
can be read without colour vision and in print.
"""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's palette, which stays distinct under the common colour deficiencies.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")


def colour(i):
    """Colour of the i-th model or class."""
    return COLOURS[i % len(COLOURS)]


def line(i):
    """Colour and line style of the i-th model, for `plot`."""
    return {"color": colour(i), "linestyle": _STYLES[i % len(_STYLES)]}


def marker(i):
    """Marker of the i-th model or class."""
    return _MARKERS[i % len(_MARKERS)]


def short(text, length=22):
    """A text that fits its place, as it is: what is longer ends in an ellipsis."""
    text = "".join(c if c.isprintable() else " " for c in str(text))
    text = " ".join(text.split())
    text = text if len(text) <= length else text[: length - 1] + "…"
    text = f" {text}" if text.startswith("_") else text  # else matplotlib leaves it out of legends
    return text.replace("$", r"\$")  # between two of them matplotlib reads mathematics


def whole_numbers(axes):
    """Ticks of the x axis at whole numbers only, also where there is a single one."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    low, high = axes.get_xlim()
    if high - low < 1:
        axes.set_xlim(low - 0.5, high + 0.5)


def save(figure, path):
    """Write a Figure as PNG."""
    figure.savefig(path, dpi=150, format="png")


def to_image(figure, dpi=100):
    """A Figure as pixels, `[H, W, 3]` uint8."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
