"""Google's published Mixers by name: fetched once, and the same bytes ever after."""

import dataclasses
import hashlib
import http.client
import os
import pathlib
import urllib.error
import urllib.request

from tqdm import tqdm

from mixer_tf import zoo
from mixer_tf.reading.report import printable
from mixer_tf.storage import files, npz

_PIECE = 1 << 20  # bytes read at a time
_BUCKET = "https://storage.googleapis.com/mixer_models/"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One published file."""

    model: str  # name in `MODELS`
    url: str


# Those of the GSAM paper lie in the same bucket under gsam/; they have the same format and load
# from a path.
CHECKPOINTS = {
    "mixer_b16_in1k": Checkpoint("mixer_b16", _BUCKET + "imagenet1k/Mixer-B_16.npz"),
    "mixer_l16_in1k": Checkpoint("mixer_l16", _BUCKET + "imagenet1k/Mixer-L_16.npz"),
    "mixer_b16_in21k": Checkpoint("mixer_b16", _BUCKET + "imagenet21k/Mixer-B_16.npz"),
    "mixer_l16_in21k": Checkpoint("mixer_l16", _BUCKET + "imagenet21k/Mixer-L_16.npz"),
    "mixer_b16_sam": Checkpoint("mixer_b16", _BUCKET + "sam/Mixer-B_16.npz"),
    "mixer_b32_sam": Checkpoint("mixer_b32", _BUCKET + "sam/Mixer-B_32.npz"),
}


def find(name):
    """The `Checkpoint` of a name (ValueError where there is none, with the nearest names)."""
    if name not in CHECKPOINTS:
        raise ValueError(zoo.unknown("checkpoint", name, CHECKPOINTS))
    return CHECKPOINTS[name]


def folder():
    """Where fetched files are kept: `$KERAS_HOME/mixer_tf`, by default below the home folder."""
    home = os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras"
    return pathlib.Path(home) / "mixer_tf"


def fetch(name):
    """The path of a published checkpoint, fetched where it is not there yet.

    Its SHA-256 is written beside it the first time it is seen, and must match
    whenever the file is used or fetched again.

    Args:
        name: one of `CHECKPOINTS`.

    Returns:
        A path.

    Raises:
        ValueError: the name is unknown, the file cannot be fetched (the message
            says where to put it), or its content is not what it once was.
    """
    url = find(name).url
    path = folder() / f"{name}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with files.replacing(path) as beside:
                _download(url, beside, name)
                _open(beside)
                _check(beside, path)
        except (OSError, EOFError, http.client.HTTPException) as error:  # of urllib.error too
            reason = printable(" ".join(str(getattr(error, "reason", None) or error).split()))
            raise ValueError(
                f"{name} cannot be fetched ({reason}); where there is a network, get {url} and put "
                f"it at {path}."
            ) from error
    else:
        _check(path, path)
    return path


def _download(url, path, name):
    with urllib.request.urlopen(url, timeout=30) as answer, open(path, "wb") as file:
        size = int(answer.headers.get("Content-Length") or 0)
        with tqdm(total=size or None, desc=name, unit="B", unit_scale=True) as bar:
            while piece := answer.read(_PIECE):
                file.write(piece)
                bar.update(len(piece))
            # urllib does not complain where the connection ends early.
            if bar.n < size:
                raise EOFError(f"the connection ended after {bar.n:,} of {size:,} bytes")


def _open(file):
    """See that it is an `.npz` before its hash is kept: a page that says no has one, too."""
    try:
        with npz.NpzFile(file):
            pass
    except ValueError as error:
        raise OSError("the answer is no .npz file") from error


def _check(file, path):
    """Compare a file with the hash kept for `path`; keep its own where none is."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:  # hashlib.file_digest begins with Python 3.11
        while piece := stream.read(_PIECE):
            digest.update(piece)
    found = digest.hexdigest()
    kept = path.with_name(f"{path.name}.sha256")
    if not kept.exists():
        with files.replacing(kept) as beside:
            beside.write_text(f"{found}\n", "ascii")
    elif (known := kept.read_text("ascii").strip()) != found:
        raise ValueError(
            f"{path} is not the file seen before: its SHA-256 is {found}, it was {known}; delete "
            f"the file to fetch it again, and {kept.name} too only if you trust the new one."
        )
