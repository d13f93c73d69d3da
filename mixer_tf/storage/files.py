"""Writing files so that a reader never meets half of one."""

import contextlib
import errno
import json
import os
import pathlib
import shutil

_BEGUN = ".writing-"  # how the name of a file begins that is still being written
_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
_REFUSALS += (errno.ENOENT, errno.ESTALE)


@contextlib.contextmanager
def replacing(path, previous=None):
    """A path beside `path` to write to; on success it takes `path`'s place in one step.

    The name keeps its endings (`model.weights.h5`), which some writers insist on.

    Args:
        path: of the file.
        previous: where the file goes that was at `path`; it is gone if left out.

    Raises:
        OSError: the disk is full, read-only or gone; `path` is as it was before.
    """
    path = pathlib.Path(path)
    beside = _beside(path)
    try:
        yield beside
        _synchronize(beside)
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(beside, path)
        _keep_names(path.parent)
    except OSError as error:
        others = isinstance(error.filename, str) and error.filename not in (str(beside), str(path))
        if error.errno not in _REFUSALS or others:  # of a file that is read meanwhile
            raise
        raise OSError(
            error.errno,
            f"{path} cannot be written ({os.strerror(error.errno)}); what was there before is "
            "whole. Make room, or see that the folder is there and can be written",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path):
    """A path beside `path` to make a folder at; on success it is renamed to `path` in one step.

    Args:
        path: where nothing is yet.

    Raises:
        OSError: the disk is full, read-only or gone; nothing is at `path` then.
    """
    path = pathlib.Path(path)
    beside = _beside(path)
    try:
        yield beside
        for file in beside.rglob("*"):
            if file.is_file():
                _synchronize(file)
        os.rename(beside, path)
        _keep_names(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _beside(path):
    # By chance too: hosts that share a disk may have the same numbers of processes.
    return path.with_name(f"{_BEGUN}{os.getpid()}.{os.urandom(4).hex()}-{path.name}")


def _synchronize(path):
    with open(path, "rb+") as file:  # Windows syncs none that was opened to read alone
        os.fsync(file.fileno())


def _keep_names(folder):
    """Let the new name outlive a loss of power; some systems cannot, and lose at most that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def is_unfinished(path):
    """Whether a name is that of a file whose writing has begun and not ended."""
    return pathlib.Path(path).name.startswith(_BEGUN)


def remove_unfinished(folder, names):
    """Delete what a process left that was killed while it wrote.

    Args:
        folder: where.
        names: of the files and folders that nobody else writes there now.
    """
    for path in pathlib.Path(folder).glob(f"{_BEGUN}*"):
        if path.name.split("-", 2)[-1] not in names:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def write_text(path, text):
    """Write text, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(text, "utf-8")


def write_json(path, values):
    """Write plain values as JSON, whole or not at all."""
    text = json.dumps(values, indent=2, ensure_ascii=False)
    if not _is_unicode(text):
        text = json.dumps(values, indent=2)  # the bytes of a path's name as numbers, and back
    write_text(path, text + "\n")


def _is_unicode(text):
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_json(path):
    """Read what `write_json` wrote.

    Raises:
        ValueError: the file is missing or no JSON.
    """
    try:
        return json.loads(pathlib.Path(path).read_text("utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"There is no {path}.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no readable JSON ({error}).") from error
