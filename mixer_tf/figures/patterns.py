"""What is measured in weights before anything is drawn. Pure numpy.

Units of a token-mixing MLP and the stem's filters are small pictures; here are
their spatial frequency, their most opposite partners (the paper's Figure 5),
and how far over the picture a token-mixing MLP reaches.
"""

import typing

import numpy as np


def spatial_frequency(tiles):
    """Mean spatial frequency of small pictures, weighted by power.

    The two-dimensional Fourier transform of each picture is taken channel by
    channel; the result is the mean distance from frequency zero, each
    coefficient counting by its power.

    Args:
        tiles: `[N, height, width]` or `[N, height, width, channels]`.

    Returns:
        `[N]`, cycles per pixel in [0, 0.71]; 0 for a picture that is constant,
        zero or not finite.
    """
    tiles = np.nan_to_num(np.asarray(tiles, "float64"), nan=0.0, posinf=0.0, neginf=0.0)
    if tiles.ndim == 3:
        tiles = tiles[..., None]
    power = (np.abs(np.fft.fft2(tiles, axes=(1, 2))) ** 2).sum(-1)  # [N, h, w]
    rows, columns = np.fft.fftfreq(tiles.shape[1]), np.fft.fftfreq(tiles.shape[2])
    radius = np.hypot(rows[:, None], columns[None])
    total = power.sum((1, 2))
    return (power * radius).sum((1, 2)) / np.where(total > 0, total, 1)


def largest_kernel(weights):
    """Of a layer's arrays the one whose filters are drawn: a branched stem holds several.

    Args:
        weights: arrays of any shapes.

    Returns:
        `[height, width, channels, C]` float32, the one of most pixels; None where no array has
        four axes.
    """
    kernels = [array for array in weights if array.ndim == 4]
    if not kernels:
        return None
    return np.asarray(max(kernels, key=lambda array: array.shape[0] * array.shape[1]), "float32")


def by_frequency(kernel):
    """Order of a stem's filters, lowest spatial frequency first.

    Args:
        kernel: `[height, width, channels, C]`.

    Returns:
        `[C]`, numbers of filters.
    """
    return np.argsort(spatial_frequency(np.moveaxis(kernel, -1, 0)), kind="stable")


def opposite_pairs(units):
    """Pair each unit with its most opposite partner, one to one.

    Greedy: of all pairs still free the one with the lowest cosine is taken
    first. With an odd number of units one is left over.

    Args:
        units: `[N, features]`.

    Returns:
        `(pairs [N // 2, 2], cosines [N // 2])`, the most opposite pair first.
    """
    units = np.nan_to_num(np.asarray(units, "float64"), nan=0.0, posinf=0.0, neginf=0.0)
    lengths = np.linalg.norm(units, axis=1, keepdims=True)
    units = units / np.where(lengths > 0, lengths, 1)
    first, second = np.triu_indices(len(units), 1)
    cosines = (units @ units.T)[first, second]
    free = np.ones(len(units), bool)
    pairs, values = [], []
    for k in np.argsort(cosines, kind="stable"):
        i, j = first[k], second[k]
        if free[i] and free[j]:
            free[i] = free[j] = False
            pairs.append((i, j))
            values.append(cosines[k])
    return np.array(pairs, int).reshape(-1, 2), np.clip(np.array(values, float), -1, 1)


class Pairs(typing.NamedTuple):
    """Opposite pairs of units, lowest spatial frequency first."""

    members: np.ndarray  # [P, 2], columns of the kernel
    tiles: np.ndarray  # [P, 2, rows, columns], both units on the token grid
    cosines: np.ndarray  # [P], -1 where one is the other's negative
    frequencies: np.ndarray  # [P], cycles per token


def pairs_of(kernel, grid):
    """The units of a token-mixing MLP as opposite pairs, sorted by frequency.

    Args:
        kernel: `[tokens, D_S]`, the first Dense kernel; unit j is column j.
        grid: `(rows, columns)` of tokens.

    Returns:
        `Pairs`. A pair's frequency is that of the difference of its two
        normalised units: where they are opposite, noise averages out.

    Raises:
        ValueError: the grid has another number of tokens than the kernel.
    """
    kernel = np.asarray(kernel, "float64")
    rows, columns = grid
    if kernel.ndim != 2 or kernel.shape[0] != rows * columns:
        raise ValueError(
            f"A kernel of shape {kernel.shape} does not fit a grid of {rows} x {columns} tokens; "
            f"its first axis must be {rows * columns}."
        )
    pairs, cosines = opposite_pairs(kernel.T)
    tiles = kernel.T[pairs].reshape(-1, 2, rows, columns)
    lengths = np.sqrt((tiles**2).sum((2, 3), keepdims=True))
    normal = tiles / np.where(lengths > 0, lengths, 1)
    frequencies = spatial_frequency(normal[:, 0] - normal[:, 1])
    order = np.argsort(frequencies, kind="stable")
    return Pairs(pairs[order], tiles[order], cosines[order], frequencies[order])


def fresh_kernel(shape, seed=0):
    """A Dense kernel that was never trained: Glorot-uniform, Keras's default.

    Source: Glorot and Bengio 2010, eq. 16: uniform in ± sqrt(6 / (inputs + outputs)).
    """
    limit = np.sqrt(6 / sum(shape))
    return np.random.default_rng(seed).uniform(-limit, limit, shape)


def mixing_distance(first, second, grid):
    """How far over the picture a token-mixing MLP reaches, in tokens.

    The weight from input token s to output token t is |(W0 W1)[s, t]|, the MLP
    without its nonlinearity; the residual path is left out. The result is the
    distance between s and t on the token grid, averaged with these weights over
    the inputs and then equally over the outputs.

    Args:
        first: W0 `[tokens, D_S]`.
        second: W1 `[D_S, tokens]`.
        grid: `(rows, columns)` of tokens.

    Returns:
        The mean distance, in sides of a token. Equal weights everywhere give
        the mean distance between two places of the grid.
    """
    places = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1).reshape(-1, 2)
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)  # [S, S]
    weight = np.abs(np.asarray(first, "float64") @ np.asarray(second, "float64"))
    total = weight.sum(0)
    return float(np.mean((weight * distance).sum(0) / np.where(total > 0, total, 1)))


def fresh_distances(shapes, grid, seed=0, draws=5):
    """`mixing_distance` of MLPs that were never trained, `[draws]`.

    Args:
        shapes: of the two kernels.
        grid: `(rows, columns)` of tokens.
        seed: give each block another, or all of them have the same control.
        draws: how many MLPs.
    """
    kernels = ([fresh_kernel(s, (seed, d, k)) for k, s in enumerate(shapes)] for d in range(draws))
    return np.array([mixing_distance(first, second, grid) for first, second in kernels])
