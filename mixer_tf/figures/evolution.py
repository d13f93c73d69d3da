"""The stem's filters: as they are, over the epochs, and in motion."""

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from mixer_tf.figures import tiles


def projections(kernel, title):
    """Every filter of a stem (the paper's Figure 7).

    Args:
        kernel: `[height, width, channels, C]`; filters are drawn in the order
            of the last axis.
        title: stands above.

    Returns:
        A Figure.
    """
    sheet = tiles.sheet_of_filters(kernel)
    figure = Figure(figsize=(7, 0.4 + 7 * sheet.shape[0] / sheet.shape[1]), layout="constrained")
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    axes.set_title(title, size=11)
    axes.axis("off")
    return figure


def evenly(numbers, most):
    """Places of at most `most` numbers, evenly spaced in value, the first and the last among them.

    Args:
        numbers: `[N]`, rising, such as epochs with gaps between them.
        most: at least 2.
    """
    numbers = np.asarray(numbers)
    wanted = np.linspace(numbers[0], numbers[-1], min(len(numbers), most))
    return np.unique([np.abs(numbers - number).argmin() for number in wanted])


def evolution(kernels, epochs, filters=None):
    """How chosen filters came to be: a row for each filter, a column for each epoch.

    Args:
        kernels: `[E, height, width, channels, C]`, one kernel a recorded epoch.
        epochs: `[E]`, their names (0 before training, 1 after the first epoch).
        filters: numbers of the filters to draw, on the last axis, from the top; by
            default ten, evenly spaced.

    Returns:
        A Figure with at most twelve columns. All pictures of a row share one
        scale, the largest absolute weight of that filter in any epoch, so that
        growth shows as contrast.
    """
    kernels = np.asarray(kernels, "float64")
    filters = evenly(range(kernels.shape[-1]), 10) if filters is None else np.asarray(filters)
    columns = evenly(epochs, 12)
    chosen = kernels[columns][..., filters]  # [E', h, w, c, F]
    largest = _largest(kernels[..., filters])
    small = np.stack([tiles.filter_tiles(k, largest) for k in chosen], 1)  # [F, E', h, w, 3]
    zoom = tiles.magnification(*small.shape[2:4])
    height, width = small.shape[2] * zoom[0] + 2, small.shape[3] * zoom[1] + 2
    sheet = tiles.stitch(
        small.reshape(-1, *small.shape[2:]), columns=len(columns), gap=2, zoom=zoom
    )

    inches = np.clip(0.7 * max(1, width / height), 0.7, 1.1)
    figure = Figure(
        figsize=(1.3 + inches * len(columns), 1.2 + inches * height / width * len(filters)),
        layout="constrained",
    )
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    axes.set_xticks(
        [(i + 0.5) * width - 1 for i in range(len(columns))], np.asarray(epochs)[columns]
    )
    axes.set_yticks([(i + 0.5) * height - 1 for i in range(len(filters))], filters)
    axes.set(xlabel="epoch", ylabel="filter")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _largest(kernels):
    """Largest absolute finite weight of each filter over all epochs, `[F]`."""
    return np.abs(np.where(np.isfinite(kernels), kernels, 0)).max(axis=(0, 1, 2, 3))


def animation(kernels, epochs, path):
    """Write the filters over the epochs as an animated GIF.

    Args:
        kernels: `[E, height, width, channels, C]`.
        epochs: `[E]`, their names.
        path: of the file. At most 30 epochs are shown, evenly.
    """
    kernels = np.asarray(kernels, "float64")
    largest = _largest(kernels)
    frames = []
    for i in evenly(epochs, 30):
        sheet = np.round(255 * tiles.sheet_of_filters(kernels[i], largest)).astype("uint8")
        frame = np.full((sheet.shape[0] + 24, max(sheet.shape[1], 96), 3), 255, "uint8")
        frame[24:, : sheet.shape[1]] = sheet
        picture = Image.fromarray(frame)
        font = ImageFont.load_default(14)
        ImageDraw.Draw(picture).text((4, 3), f"epoch {epochs[i]}", fill="black", font=font)
        frames.append(picture.quantize(128, dither=Image.Dither.NONE))
    times = [400] * (len(frames) - 1) + [2500]  # milliseconds; rests on the last
    frames[0].save(
        path, format="GIF", save_all=True, append_images=frames[1:], duration=times, loop=0
    )
