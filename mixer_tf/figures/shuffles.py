"""The paper's Figure 4: which shuffling of pixels a Mixer does not notice."""

import numpy as np
from matplotlib.figure import Figure

from mixer_tf.figures import style
from mixer_tf.figures.tiles import as_rgb


def shuffle_patches(images, patch_size, seed=0):
    """Permute the patches of pictures, and the pixels within all patches alike.

    One permutation of patches and one of the pixels in a patch, both by seed,
    the same for every picture. A Mixer's training is unchanged by it: its first
    layer has no order of pixels, its token mixing no order of tokens.

    Args:
        images: `[N, H, W, channels]`.
        patch_size: `(height, width)`.
        seed: decides both permutations.

    Returns:
        The permuted pictures, of the same shape and dtype.

    Raises:
        ValueError: the pictures are no whole number of patches.
    """
    images = np.asarray(images)
    count, height, width, channels = images.shape
    down, across = patch_size
    if height % down or width % across:
        raise ValueError(
            f"Pictures of {height}x{width} are no whole number of {down}x{across} patches."
        )
    rows, columns = height // down, width // across
    patches, pixels = shuffled_orders(rows * columns, down * across, seed)
    # [N, rows, down, columns, across, c] -> [N, patch, pixel, c]
    table = images.reshape(count, rows, down, columns, across, channels).transpose(0, 1, 3, 2, 4, 5)
    table = table.reshape(count, rows * columns, down * across, channels)
    table = table[:, patches][:, :, pixels]
    table = table.reshape(count, rows, columns, down, across, channels).transpose(0, 1, 3, 2, 4, 5)
    return table.reshape(images.shape)


def shuffle_pixels(images, seed=0):
    """Permute all pixels of pictures, every picture alike.

    Pixels leave their patches, so a Mixer's patches hold what does not belong together.

    Args:
        images: `[N, H, W, channels]`.
        seed: decides the permutation.

    Returns:
        The permuted pictures, of the same shape and dtype.
    """
    images = np.asarray(images)
    count, height, width, channels = images.shape
    order = np.random.default_rng((seed, 1)).permutation(height * width)
    return images.reshape(count, -1, channels)[:, order].reshape(images.shape)


def shuffled_orders(patches, pixels, seed):
    """The permutations of `shuffle_patches`: place i holds what stood at `order[i]`."""
    draws = np.random.default_rng((seed, 0))
    return draws.permutation(patches), draws.permutation(pixels)


def shuffle_invariance(pictures, curves, ylabel="accuracy (%)", xlabel="epoch"):
    """Curves of trainings on pictures in several orders of pixels.

    Args:
        pictures: `{order: [H, W, channels]}` in [0, 255], one example an order.
        curves: `{model: {order: [value of each epoch or step]}}`, recorded.
        ylabel, xlabel: of the curves.

    Returns:
        A Figure: an example of each order above, one panel a model below.
    """
    orders = list(pictures)
    figure = Figure(figsize=(max(7.5, 4.6 * len(curves)), 6.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 2))
    for axes, order in zip(above.subplots(1, len(orders), squeeze=False)[0], orders):
        image = np.clip(np.asarray(pictures[order], "float64") / 255, 0, 1)
        axes.imshow(as_rgb(image))
        axes.set_title(order, size=10)
        axes.axis("off")
    panels = below.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for axes, (model, lines) in zip(panels, curves.items()):
        for i, (order, values) in enumerate(lines.items()):
            # The first is drawn wide, so that a line that coincides with it is seen on top.
            kind = {"lw": 6, "alpha": 0.35} if not i else {"lw": 1.6}
            axes.plot(np.arange(1, len(values) + 1), values, label=order, **style.line(i), **kind)
        axes.set(xlabel=xlabel, title=model)
        style.whole_numbers(axes)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    panels[0].set_ylabel(ylabel)
    return figure
