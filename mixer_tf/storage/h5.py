"""Keras's `.weights.h5`: written on disks that may be full, read where a stranger wrote it.

HDF5 can say that data lies in another file, or declare arrays of any size that take no room.
Nothing of that is in a file of weights, and a file that has it is refused before it is loaded.
"""

import contextlib
import errno
import pathlib
import warnings

import h5py
import numpy as np

from mixer_tf.storage import files

_MOST_ITEMS = 100_000  # of arrays and groups together


def save_weights(model, path):
    """Write a model's weights, whole or not at all.

    Those of its optimizer are left out: `state.npz` has them, and they would take twice the room.

    Raises:
        OSError: there is no room, or the folder cannot be written.
    """
    variables = model.variables
    kinds = [np.dtype(getattr(v.dtype, "as_numpy_dtype", v.dtype)) for v in variables]
    needed = sum(int(np.prod(v.shape)) * k.itemsize for v, k in zip(variables, kinds))
    with files.replacing(path) as beside:
        _try_room(beside, needed + 8192 * len(variables) + (1 << 20))
        try:
            with _without_optimizer(model):
                model.save_weights(beside)
        except RuntimeError as error:  # where HDF5 notices only when it closes the file
            raise OSError(errno.EIO, str(error)) from error


def _try_room(path, size):
    """Fill as much of the disk as HDF5 is going to, which ends the process where that fails.

    By the same way, so that quotas and limits of a process are found too. The file is emptied again
    when HDF5 opens it.
    """
    block = bytes(1 << 20)
    with open(path, "wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])


def load_weights(model, path):
    """Load a `.weights.h5` into a model.

    Args:
        model: built as that of the file was.
        path: of the file.

    Raises:
        ValueError: it is missing, damaged, not for this model, or holds what no file of
            weights does. The message is one line.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"There is no file {str(path)!r}.")
    try:
        check(path)
        with warnings.catch_warnings(), _without_optimizer(model):
            warnings.simplefilter("ignore")  # what does not fit, raises as well
            model.load_weights(path)
    except MemoryError:  # says nothing of the file
        raise
    except Exception as error:  # h5py and Keras each have their own
        words = " ".join(str(error).split())
        raise ValueError(
            f"{path} is damaged or does not fit the model {model.name!r} ({words[:200]})."
        ) from error


@contextlib.contextmanager
def _without_optimizer(model):
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        yield
        return
    model.optimizer = None
    try:
        yield
    finally:
        model.optimizer = optimizer


def check(path):
    """Refuse an HDF5 file that points outside of itself or declares more than it holds.

    Raises:
        ValueError, OSError: it does, or is no HDF5 file.
    """
    room, seen = pathlib.Path(path).stat().st_size, set()
    with h5py.File(path, "r") as file:
        waiting = [file]
        while waiting:
            group = waiting.pop()
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"{name!r} is a link to somewhere else")
                item = group[name]
                place = h5py.h5o.get_info(item.id).addr
                if place in seen:  # groups can hold each other in a circle
                    raise ValueError(f"{name!r} stands twice")
                seen.add(place)
                if len(seen) > _MOST_ITEMS:
                    raise ValueError(f"it has more than {_MOST_ITEMS:,} parts")
                if isinstance(item, h5py.Group):
                    waiting.append(item)
                elif isinstance(item, h5py.Dataset):
                    room -= _bytes(name, item)
                    if room < 0:
                        raise ValueError("its arrays overlap")
    return path


def _bytes(name, data):
    """What an array takes in memory (ValueError where the file holds less)."""
    if data.dtype.kind not in "fiubV":  # bfloat16 is of kind V
        raise ValueError(f"{name!r} is of dtype {data.dtype}, not of numbers")
    kept = data.id.get_create_plist()
    if data.external or data.is_virtual or kept.get_nfilters():
        raise ValueError(f"{name!r} lies in another file, or is compressed")
    if data.nbytes > data.id.get_storage_size():
        raise ValueError(f"{name!r} declares {data.nbytes:,} bytes, which are not there")
    return data.nbytes
