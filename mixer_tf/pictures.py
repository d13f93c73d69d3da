"""Picture files, of a folder or a zip: which there are, and their pixels."""

import contextlib
import io
import os
import pathlib
import zipfile
from concurrent import futures

import numpy as np
from PIL import Image, ImageOps

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")


def find(path):
    """Every picture below a folder or in a zip.

    Args:
        path: of the folder or the zip. A single folder around everything in a
            zip is left out.

    Returns:
        `{parts of the relative path: what to open}`, in the order of the names.

    Raises:
        ValueError: the file is no zip.
    """
    return _zip_files(path) if path.is_file() else _folder_files(path)


def open_all(path):
    """A context that gives the open zip at `path`, or None for a folder."""
    return zipfile.ZipFile(path) if path.is_file() else contextlib.nullcontext()


def _folder_files(path):
    """{parts of the relative path: path} of every picture below a folder."""
    files = {}
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(_ENDINGS) and not name.startswith("."):
                file = pathlib.Path(folder, name)
                files[file.relative_to(path).parts] = file
    return files


def _zip_files(path):
    """{parts: member name} of every picture in a zip, without a single folder around them all."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(archive.namelist())
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is no readable zip file ({error}).") from error
    pictures = [n for n in names if n.lower().endswith(_ENDINGS) and "__MACOSX" not in n]
    files = {tuple(pathlib.PurePosixPath(n).parts): n for n in pictures}
    roots = {parts[0] for parts in files}
    if len(roots) == 1 and all(len(parts) > 2 for parts in files):
        files = {parts[1:]: name for parts, name in files.items()}
    return files


def sizes(path, files, archive):
    """`(height, width)` of every picture as it is shown, from the files' heads alone."""

    def read(picture):
        width, height = picture.size
        rotated = picture.getexif().get(0x0112, 1) >= 5  # EXIF: orientations 5 to 8 lie on a side
        return (width, height) if rotated else (height, width)

    return _read_all(path, files, read, archive)


def pixels(path, files, image_size, archive):
    """Every picture as uint8 RGB, a list of `[H, W, 3]`.

    Args:
        path: of the folder or the zip, for messages.
        files: as `find` gives them.
        image_size: `(height, width)` they are brought to.
        archive: what `open_all` gave.

    Raises:
        ValueError: one cannot be read; the message names it.
    """
    return _read_all(path, files, lambda picture: np.asarray(_rgb(picture, image_size)), archive)


def _rgb(picture, image_size):
    """Turned upright, three channels, one size."""
    return resized(ImageOps.exif_transpose(picture).convert("RGB"), image_size)


def read_pictures(source, image_shape):
    """Pictures without classes, decoded as those of a data set are.

    Args:
        source: a picture, or a folder, in which every picture counts.
        image_shape: `(height, width, channels)` that they are brought to; one
            channel is grey.

    Yields:
        The path of each picture and the picture, `[height, width, channels]` uint8.

    Raises:
        ValueError: there is none, or one cannot be read; the message names it.
    """
    source = pathlib.Path(source)
    if not source.exists():
        raise ValueError(f"There is no picture or folder {str(source)!r}.")
    files = _folder_files(source) if source.is_dir() else {(source.name,): source}
    if not files:
        raise ValueError(f"{source} holds no pictures ({', '.join(_ENDINGS)}).")
    *size, channels = image_shape

    def read(picture):
        picture = _rgb(picture, size)
        if channels == 1:
            return np.asarray(picture.convert("L"))[..., None]
        return np.asarray(picture)

    for parts, file in files.items():  # one by one: a folder may be larger than memory
        yield file, _read_all(source, {parts: file}, read, None)[0]


def _read_all(path, files, read, archive):
    """`read(picture)` of every file, in their order."""

    def open_one(item):
        parts, file = item
        try:
            # A member is read whole, so that threads do not share the archive's position.
            stream = io.BytesIO(archive.read(file)) if archive else file
            with Image.open(stream) as picture:
                return read(picture)
        except (OSError, SyntaxError, ValueError, zipfile.BadZipFile) as error:
            reason = "its content is no known picture format or is damaged"
            raise ValueError(f"{path}: {'/'.join(parts)} cannot be read: {reason}.") from error

    with futures.ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
        return list(pool.map(open_one, files.items()))


def resized(picture, image_size):
    """A picture at `(height, width)`, bilinear with antialiasing."""
    height, width = image_size
    if picture.size == (width, height):
        return picture
    return picture.resize((width, height), Image.Resampling.BILINEAR)
