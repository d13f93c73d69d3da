"""Weights as small pictures, and small pictures as one sheet. Pixels only, no matplotlib."""

import numpy as np

_NOT_FINITE = (1.0, 0.0, 1.0)  # magenta: no other weight is drawn in it


def as_rgb(images):
    """`[..., channels] -> [..., 3]` of the same type: three as they are, else their mean, grey."""
    images = np.asarray(images)
    if images.shape[-1] == 3:
        return images
    return np.repeat(images.mean(-1, keepdims=True), 3, axis=-1).astype(images.dtype)


def filter_tiles(kernel, largest=None):
    """Each stem filter as a small picture, scaled by itself.

    Args:
        kernel: `[height, width, channels, C]`, the stem's weights.
        largest: `[C]`, the absolute weight that becomes black or white; by
            default the largest of each filter.

    Returns:
        `[C, height, width, 3]` float in [0, 1]. Zero is mid-grey; the largest
        absolute weight of a filter reaches 0 or 1. Filters over 3 channels are
        shown in colour, any other number by the mean over channels. Weights
        that are not finite are magenta.
    """
    tiles = np.moveaxis(np.asarray(kernel, "float64"), -1, 0)  # [h, w, c, C] -> [C, h, w, c]
    tiles = as_rgb(tiles)
    finite = np.isfinite(tiles)
    tiles = np.where(finite, tiles, 0)
    if largest is None:
        largest = np.abs(tiles).max(axis=(1, 2, 3))
    largest = np.asarray(largest, "float64").reshape(-1, 1, 1, 1)
    tiles = np.clip(0.5 + 0.5 * tiles / np.where(largest > 0, largest, 1), 0, 1)
    return np.where(finite.all(-1, keepdims=True), tiles, _NOT_FINITE)


def magnification(height, width):
    """How much to enlarge a small picture, `(down, across)`.

    About 32 x 32 pixels; a strip (a patch of one row) is stretched across its
    narrow side to a quarter of its long one, so that something can be seen.
    """
    long = max(height, width)
    zoom = int(np.clip(round(32 / np.sqrt(height * width)), 1, max(1, 128 // long)))
    return zoom * max(1, width // (4 * height)), zoom * max(1, height // (4 * width))


def stitch(tiles, columns=None, gap=1, zoom=1):
    """Lay small pictures out in a grid.

    Args:
        tiles: `[N, height, width, 3]`, float in [0, 1] or uint8.
        columns: pictures a row; about square if left out.
        gap: white pixels between pictures.
        zoom: each pixel becomes `zoom` x `zoom`, or `zoom[0]` x `zoom[1]`.

    Returns:
        `[H, W, 3]`, float in [0, 1] or uint8 as the tiles.
    """
    down, across = (zoom, zoom) if np.isscalar(zoom) else zoom
    tiles = np.asarray(tiles).repeat(down, axis=1).repeat(across, axis=2)
    count, height, width, _ = tiles.shape
    columns = columns or int(np.ceil(np.sqrt(count * height / width)))
    rows = -(-count // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    sheet = np.full(shape, _white(tiles), tiles.dtype)
    for i, tile in enumerate(tiles):
        row, column = divmod(i, columns)
        y, x = row * (height + gap), column * (width + gap)
        sheet[y : y + height, x : x + width] = tile
    return sheet


def _white(tiles):
    return 255 if tiles.dtype == np.uint8 else 1


def sheet_of_filters(kernel, largest=None):
    """All filters of a stem as one picture, in the order of the kernel's last axis.

    Args: as for `filter_tiles`.

    Returns:
        `[H, W, 3]` float in [0, 1].
    """
    tiles = filter_tiles(kernel, largest)
    return stitch(tiles, gap=2, zoom=magnification(*tiles.shape[1:3]))


def sprite_sheet(tiles, side=None, limit=8192):
    """Small pictures as the square sheet that TensorBoard's Projector cuts up again.

    Args:
        tiles: `[N, height, width, 3]`, float in [0, 1] or uint8.
        side: of the square each picture is put into, in pixels; by default its
            own longer side.
        limit: largest side of the sheet; pictures become smaller where they
            must, and what is left is white.

    Returns:
        `(sheet [H, H, 3], side)`, the sheet of the dtype of the tiles. Places that are left
        over are white: the Projector takes the sheet to have as many rows as columns.

    Raises:
        ValueError: even at one pixel each they would not fit.
    """
    tiles = np.asarray(tiles)
    count, height, width, _ = tiles.shape
    columns = int(np.ceil(np.sqrt(count)))
    if columns > limit:
        raise ValueError(f"{count:,} pictures do not fit a sheet of {limit} x {limit} pixels.")
    side = min(side or max(height, width), limit // columns)
    scale = side / max(height, width)
    down, across = max(1, round(height * scale)), max(1, round(width * scale))
    # Nearest pixels: exact where a picture is enlarged by a whole number.
    y = np.minimum((np.arange(down) + 0.5) / scale, height - 1).astype(int)
    x = np.minimum((np.arange(across) + 0.5) / scale, width - 1).astype(int)
    squares = np.full((columns**2, side, side, 3), _white(tiles), tiles.dtype)
    top, left = (side - down) // 2, (side - across) // 2
    squares[:count, top : top + down, left : left + across] = tiles[:, y][:, :, x]
    return stitch(squares, columns=columns, gap=0), side
