"""One process at a time in a folder."""

import contextlib
import os
import pathlib

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class Lock:
    """The lock of a folder.

    The system gives it back when its process ends, however it ends, so that a file left by one
    that was killed is in nobody's way. Where a file system (or Windows) has no such locks, nothing
    is refused.

    Args:
        folder: an existing one that can be written.
    """

    def __init__(self, folder):
        self._path = pathlib.Path(folder) / ".lock"
        self._handle = None

    def take(self):
        """Take it, where it is not taken yet, and again where someone has deleted its file.

        Raises:
            ValueError: another process has it; the message says which.
        """
        if fcntl and not self._is_held():
            self.release()
            self._handle = _take(self._path)

    def release(self):
        """Give it back; what another process has in its place stays."""
        if self._is_held():
            with contextlib.suppress(OSError):
                self._path.unlink()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _is_held(self):
        return self._handle is not None and _is_at(self._handle, self._path)


@contextlib.contextmanager
def only_one(folder):
    """Context in which no other process is in this context for the same folder.

    Args:
        folder: as for `Lock`.

    Returns:
        The `Lock`.

    Raises:
        ValueError: another process is in it; the message says which.
    """
    lock = Lock(folder)
    lock.take()
    try:
        yield lock
    finally:
        lock.release()


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
