"""Reading and writing `.npz` files one array at a time, without trusting them.

`numpy.load` allocates what a file declares before it looks whether that much is
there; here the declaration is compared with the size of the member first.
Nothing is ever unpickled.
"""

import io
import lzma
import math
import pathlib
import zipfile
import zlib

import numpy as np
from numpy.lib import format as npy

# Longer headers belong to structured arrays, which no checkpoint here holds.
_HEADER_BYTES = 1 << 14
_PIECE = 1 << 18  # bytes read at a time
# Weights hardly compress. More than this, and a hundred times the file: a model would be built, and
# memory taken, for numbers that nobody trained.
_MOST_OF_A_SMALL_FILE = 1 << 27
_DAMAGE = (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)
_DAMAGE += (lzma.LZMAError,)


class NpzFile:
    """The arrays of an `.npz` of numbers, by name.

    Opening reads names, shapes and number formats only; `read` reads one array.

    Args:
        path: of the file.
        kinds: numpy's letters of the kinds of numbers that may be in it; floating-point
            numbers alone by default.

    Raises:
        ValueError: it is missing, no `.npz`, damaged, or an array in it is of another
            kind or declares more than the file holds. The message is one line.
    """

    def __init__(self, path, kinds="f"):
        self.path = pathlib.Path(path)
        self._kinds = kinds
        if not self.path.is_file():
            raise ValueError(f"There is no file {str(path)!r}.")
        try:
            self._zip = zipfile.ZipFile(self.path)
        except _DAMAGE as error:
            raise ValueError(f"{path} is no readable .npz file ({_line(error)}).") from error
        try:
            self._members = self._index()
        except ValueError:
            self._zip.close()
            raise
        self.shapes = {name: shape for name, (_, shape, *_) in self._members.items()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._zip.close()

    def __str__(self):
        return str(self.path)

    def _index(self):
        """{name: (zip's info, shape, dtype, fortran order, length of header)}."""
        members = {}
        bytes_here = self.path.stat().st_size
        declared = sum(info.file_size for info in self._zip.infolist())
        if declared > max(_MOST_OF_A_SMALL_FILE, 100 * bytes_here):
            raise ValueError(
                f"{self.path} has {bytes_here:,} bytes and declares {declared:,}; no weights can "
                "be compressed as far as that."
            )
        for info in self._zip.infolist():
            name = info.filename.removesuffix(".npy")
            if name in members:
                raise ValueError(f"{self.path} holds {name!r} twice.")
            members[name] = self._header(name, info)
        return members

    def _header(self, name, info):
        try:
            with self._zip.open(info) as member:
                start = io.BytesIO(member.read(_HEADER_BYTES))
            version = npy.read_magic(start)
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, fortran, dtype = read(start)
        except Exception as error:  # the header is text: numpy, ast and tokenize raise their own
            raise ValueError(
                f"{self.path}: {name!r} is no readable numpy array ({_line(error)})."
            ) from error
        # bfloat16 has no name in numpy's format: it arrives as two opaque bytes.
        if not (dtype.kind in self._kinds and dtype.itemsize <= 8) and dtype.str != "|V2":
            raise ValueError(
                f"{self.path}: {name!r} is of dtype {dtype}; weights must be float16, bfloat16, "
                "float32 or float64."
            )
        declared = math.prod(shape) * dtype.itemsize
        held = info.file_size - start.tell()
        if declared != held:
            raise ValueError(
                f"{self.path}: {name!r} declares the shape {shape}, {declared:,} bytes, but "
                f"holds {held:,} bytes; the file is damaged."
            )
        return info, shape, dtype, fortran, start.tell()

    def read(self, name):
        """One array as float32, its values checked.

        Raises:
            ValueError: the member is damaged, or holds NaN or infinite values.
        """
        array = self.read_as_is(name)
        if array.dtype.str == "|V2":
            array = (array.view("<u2").astype("uint32") << 16).view("float32")
        else:
            with np.errstate(over="ignore"):  # what overflows is refused just below
                array = array.astype("float32", copy=False)
        return finite(array, self, name)

    def read_as_is(self, name):
        """One array in the numbers of the file (ValueError where the member is damaged)."""
        info, shape, dtype, fortran, header = self._members[name]
        data = np.empty(math.prod(shape), dtype)
        left = memoryview(data.reshape(-1).view("uint8"))
        try:
            with self._zip.open(info) as member:
                member.read(header)
                # In pieces, so that an array is never held twice.
                while left and (piece := member.read(min(len(left), _PIECE))):
                    left[: len(piece)] = piece
                    left = left[len(piece) :]
                end = member.read(1)  # reaching the end is what checks the sum over the bytes
        except _DAMAGE as error:
            raise ValueError(f"{self.path}: {name!r} is damaged ({_line(error)}).") from error
        if left or end:
            raise ValueError(f"{self.path}: {name!r} is damaged: it ends early.")
        return data.reshape(shape[::-1]).T if fortran else data.reshape(shape)


def finite(array, source, name):
    """The array itself (ValueError where it holds NaN or infinite values)."""
    wrong = array.size - int(np.count_nonzero(np.isfinite(array)))
    if wrong:
        raise ValueError(
            f"{source}: {name!r} holds {wrong:,} of {array.size:,} values that are NaN or "
            "infinite in float32; weights must be finite."
        )
    return array


def write_npz(path, arrays):
    """Write arrays into an `.npz`, one at a time; the same arrays give the same file.

    Args:
        path: of the file.
        arrays: iterable of `(name, array)`, so that only one need be in memory.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays:
            member = zipfile.ZipInfo(f"{name}.npy")  # with a fixed date
            with archive.open(member, "w", force_zip64=True) as file:
                npy.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def _line(error):
    """What an error says, in one short line."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 120 else f"{words[:117]}..."
