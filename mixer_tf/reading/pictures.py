"""Picture files, of a folder or a zip: which there are, and their pixels."""

import collections
import contextlib
import io
import itertools
import os
import pathlib
import unicodedata
import zipfile
from concurrent import futures

import numpy as np
from PIL import Image

from mixer_tf.reading import decoding
from mixer_tf.reading.report import Report, printable

# Folders of class folders, in small or capital letters -> which set they are.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
_AHEAD = 32  # pictures that are decoded before they are asked for
_MOST_BYTES = 1 << 28  # of one picture in a zip, where it is held whole


def find(path, report):
    """Every picture below a folder or in a zip.

    Links to folders are followed, each folder is read once. What begins with a dot
    is passed over.

    Args:
        path: of the folder or the zip. A single folder around everything in a
            zip is left out, but for one that names a set of pictures, as train/.
        report: a `Report`, which notes what cannot be used.

    Returns:
        `{parts of the relative path: what to open}`, in the order of the names.

    Raises:
        ValueError: the file is no zip.
    """
    files = _zip_files(path, report) if path.is_file() else _folder_files(path, report)
    # Name by name: as whole paths "dog house/1.png" comes before "dog/1.png".
    return dict(sorted(files.items(), key=lambda item: [*map(composed, item[0])]))


def composed(name):
    """A name with each accent as one character where there is one; macOS may write two."""
    return unicodedata.normalize("NFC", name)


def open_all(path):
    """A context that gives the open zip at `path`, or None for a folder."""
    return zipfile.ZipFile(path) if path.is_file() else contextlib.nullcontext()


def _folder_files(path, report):
    """{parts of the relative path: path} of every picture below a folder."""
    files, seen = {}, set()

    def refused(error):
        report.leave_out(str(error.filename), os.strerror(error.errno))

    for folder, folders, names in os.walk(path, onerror=refused, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link back, or a second way to the same
            report.remarks.append(f"{printable(folder)} leads to a folder read before")
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(_ENDINGS) and not name.startswith("."):
                file = pathlib.Path(folder, name)
                files[tuple(map(_text, file.relative_to(path).parts))] = file
    return files


def _text(name):
    """A file's name as text that can be written anywhere; bytes that are no UTF-8 as numbers."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")


def _zip_files(path, report):
    """{parts: member name} of every picture in a zip, without a single folder around them all."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:  # whatever the parts of a damaged one make zipfile raise
        raise ValueError(f"{path} is no readable zip file ({error}).") from error
    # Some tools of Windows write its separator, which the format does not know.
    from_windows = not any("/" in member.filename for member in members)
    files = {}
    for member in members:
        name = member.filename
        parts = pathlib.PurePosixPath(name.replace("\\", "/") if from_windows else name).parts
        if not name.lower().endswith(_ENDINGS) or "__MACOSX" in name:
            continue
        if any(part[0] == "." and part != ".." for part in parts):
            continue
        if ".." in parts or parts[0] == "/":
            report.leave_out(name, "its path leads out of the zip")
        elif member.file_size > _MOST_BYTES:
            report.leave_out(name, f"it has more than {_MOST_BYTES:,} bytes")
        else:
            files[parts] = name
    if _around_them_all(files):
        files = {parts[1:]: name for parts, name in files.items()}
    return files


def _around_them_all(files):
    """Whether one folder holds everything, and is no set of pictures itself."""
    roots = {parts[0].lower() for parts in files}
    if len(roots) != 1 or any(len(parts) < 3 for parts in files):
        return False
    if not roots & set(SPLITS):
        return True
    return any(parts[1].lower() in SPLITS and len(parts) > 3 for parts in files)


def sizes(files, archive, report):
    """`(height, width)` of pictures as they are shown, without decoding their pixels.

    Args:
        files: as `find` gives them.
        archive: what `open_all` gave.
        report: a `Report`, which notes those that cannot be read.

    Returns:
        `{parts: size}` of those that can.
    """
    return dict(_read_all(files, decoding.size, archive, report))


def pixels(files, image_size, archive, report):
    """Every picture that can be read as uint8 RGB, in one array that is filled in place.

    Args:
        files, archive, report: as for `sizes`.
        image_size: `(height, width)` they are brought to.

    Returns:
        The parts of those that could be read, a list of N, and `[N, height, width, 3]`.
    """

    def read(picture):
        found = decoding.kinds(picture)
        return np.asarray(resized(decoding.rgb(picture), image_size)), found

    try:
        keys, arrays = [], np.empty((len(files), *image_size, 3), "uint8")
    except MemoryError as error:
        height, width = image_size
        raise ValueError(
            f"{len(files):,} pictures of {height}x{width} do not fit into memory; give a smaller "
            "--image-size (image_size=), or fewer pictures."
        ) from error
    for parts, (array, found) in _read_all(files, read, archive, report):
        arrays[len(keys)] = array
        keys.append(parts)
        report.used += 1
        report.kinds.update(found)
    return keys, arrays[: len(keys)]


def read_pictures(source, image_shape, report=None):
    """Pictures without classes, decoded as those of a data set are.

    Args:
        source: a picture, or a folder, in which every picture counts.
        image_shape: `(height, width, channels)` that they are brought to; one
            channel is grey.
        report: a `Report`, which notes those of a folder that cannot be read; by
            default they are refused.

    Yields:
        The path of each picture and the picture, `[height, width, channels]` uint8.

    Raises:
        ValueError: there is none, or one cannot be read; the message names it.
    """
    source = pathlib.Path(source)
    report = report or Report(strict=True)
    if not source.exists():
        raise ValueError(f"There is no picture or folder {str(source)!r}.")
    if source.is_dir():
        files = _folder_files(source, report)
    else:
        files, report = {(source.name,): source}, Report(strict=True)
    if not files:
        raise ValueError(f"{source} holds no pictures ({', '.join(_ENDINGS)}).")
    *size, channels = image_shape

    def read(picture):
        picture = resized(decoding.rgb(picture), size)
        if channels == 1:
            return np.asarray(picture.convert("L"))[..., None]
        return np.asarray(picture)

    for parts, image in _read_all(files, read, None, report):
        report.used += 1
        yield files[parts], image


def _read_all(files, take, archive, report):
    """`(parts, take(picture))` of every file that can be read, in their order.

    Only a few are held at a time: a folder may be larger than memory.
    """

    def open_one(file):
        try:
            # A member is read whole, so that threads do not share the archive's position.
            return decoding.read(_member(archive, file) if archive else file, take)
        except decoding.Unusable as error:
            return error

    pool = futures.ThreadPoolExecutor()  # Pillow decodes outside Python's lock
    begun, left = collections.deque(), iter(files.items())
    try:
        while True:
            for parts, file in itertools.islice(left, _AHEAD - len(begun)):
                begun.append((parts, pool.submit(open_one, file)))
            if not begun:
                return
            parts, future = begun.popleft()
            taken = future.result()
            if isinstance(taken, decoding.Unusable):
                report.leave_out("/".join(parts), str(taken))
            else:
                yield parts, taken
    finally:  # where one is refused, or no more are wanted, the others are not decoded first
        pool.shutdown(cancel_futures=True)


def _member(archive, name):
    try:
        return io.BytesIO(archive.read(name))
    except Exception as error:  # damaged, encrypted, compressed in a way that is not known
        raise decoding.Unusable(f"it cannot be taken out of the zip ({error})") from error


def resized(picture, image_size):
    """A picture at `(height, width)`, bilinear with antialiasing."""
    height, width = image_size
    if picture.size == (width, height):
        return picture
    return picture.resize((width, height), Image.Resampling.BILINEAR)
