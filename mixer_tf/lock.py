"""One process at a time in a folder."""

import contextlib
import os
import pathlib

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextlib.contextmanager
def only_one(folder):
    """Context in which no other process is in this context for the same folder.

    The system gives a lock back when its process ends, however it ends, so that a
    file left by one that was killed is in nobody's way. Where a file system (or
    Windows) has no such locks, nothing is refused.

    Args:
        folder: an existing one that can be written.

    Raises:
        ValueError: another process is in it; the message says which.
    """
    path = pathlib.Path(folder) / ".lock"
    handle = _take(path) if fcntl else None
    try:
        yield
    finally:
        if handle is not None:
            with contextlib.suppress(OSError):  # the folder may be gone
                path.unlink()
            os.close(handle)


def _take(path):
    """The open and locked file; None where the file system has no locks."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(handle)
            raise ValueError(
                f"{path.parent} is in use by process {holder}; wait until it has ended, or give "
                "another --out."
            ) from error
        except OSError:
            os.close(handle)
            return None
        if _is_at(handle, path):
            with contextlib.suppress(OSError):  # a full disk: it is locked, if without a number
                os.truncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            return handle
        os.close(handle)  # who held it has just deleted it: what is locked has no name any more


def _is_at(handle, path):
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
