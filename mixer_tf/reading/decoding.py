"""From one picture file, of whatever kind, to upright RGB.

Nothing in a file is trusted: not its name, not its size, not what it says of itself.
"""

import contextlib
import os
import threading
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Without those that other programs would be started for, such as PostScript.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_MOST_PIXELS = 178_956_970  # where Pillow stops too
_MANY_PIXELS = 1 << 25  # so large ones are decoded one at a time, whatever the threads
_one_large = threading.Lock()
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # the limit is above


class Unusable(ValueError):
    """A picture that cannot be read; the message is the reason."""


def read(stream, take):
    """Open a picture and take something from it.

    Args:
        stream: a path, or an open binary file.
        take: function of the open `PIL.Image.Image`.

    Returns:
        What `take` returns.

    Raises:
        Unusable: it cannot be read.
    """
    try:
        _check_file(stream)
        # By path Pillow maps some TIFFs into memory, and turns those that lie on a side wrongly.
        with _opened(stream) as file, Image.open(file, formats=_FORMATS) as picture:
            width, height = picture.size
            if width * height > _MOST_PIXELS:
                raise Unusable(f"{width}x{height} pixels are more than {_MOST_PIXELS:,}")
            large = width * height > _MANY_PIXELS
            with _one_large if large else contextlib.nullcontext():
                return take(picture)
    except Unusable:
        raise
    except Image.DecompressionBombError as error:
        raise Unusable(f"it has more than {_MOST_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise Unusable("its content is no known picture format") from error
    except MemoryError as error:
        raise Unusable("there is not enough memory for it") from error
    except Exception as error:  # every format of Pillow raises its own
        if isinstance(error, OSError) and error.errno:
            raise Unusable(os.strerror(error.errno)) from error
        raise Unusable("it is truncated or damaged") from error


def _opened(stream):
    is_path = isinstance(stream, (str, os.PathLike))
    return open(stream, "rb") if is_path else contextlib.nullcontext(stream)


def _check_file(stream):
    if isinstance(stream, (str, os.PathLike)):
        if not os.path.isfile(stream):  # a named pipe would be waited for
            gone = not os.path.exists(stream)
            raise Unusable("it leads nowhere" if gone else "it is no ordinary file")
        size = os.path.getsize(stream)
    else:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
    if size == 0:
        raise Unusable("it is empty")


def size(picture):
    """`(height, width)` as it is shown, from its head alone."""
    width, height = picture.size
    # Pillow turns the size of a TIFF itself.
    lies = picture.format != "TIFF" and 5 <= _orientation(picture) <= 8
    return (width, height) if lies else (height, width)


def _orientation(picture):
    """EXIF's number, 1 for upright; 5 to 8 lie on a side."""
    try:
        return int(picture.getexif().get(0x0112, 1))
    except Exception:  # what the camera wrote beside a good picture may be damaged
        return 1


def rgb(picture):
    """The picture upright, in three channels of 8 bits. Transparency is dropped."""
    with contextlib.suppress(Exception):  # as above
        picture = ImageOps.exif_transpose(picture)
    if picture.mode == "F":
        raise Unusable("its pixels are fractions of no known range")
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        # Of 16 bits, which a plain conversion would cut off. Pillow opens some of those as 32 bits,
        # where nothing says whether a dark picture has 8.
        if picture.mode != "I" or values.max(initial=0) > 255:
            values = np.round(np.clip(values, 0, 65535) / 257)
        picture = Image.fromarray(values.astype("uint8"))
    return picture.convert("RGB")


def kinds(picture):
    """What is special about a picture, in words for a report."""
    found = []
    if picture.mode == "CMYK":
        found.append("in CMYK, converted")
    if picture.mode.startswith("I"):
        found.append("of 16 bits, reduced to 8")
    if picture.mode == "P":
        found.append("with a palette")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        found.append("with transparency, which is dropped")
    if getattr(picture, "is_animated", False):
        found.append("of several frames, the first of which is taken")
    if 1 < _orientation(picture) <= 8:
        found.append("turned upright as EXIF says")
    return found
