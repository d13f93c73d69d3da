"""Writing files so that a reader never meets half of one."""

import contextlib
import json
import os
import pathlib


@contextlib.contextmanager
def replacing(path):
    """A path beside `path` to write to; on success it takes `path`'s place in one step.

    The name keeps its endings (`model.weights.h5`), which some writers insist on.
    """
    path = pathlib.Path(path)
    beside = path.with_name(f".writing-{os.getpid()}-{path.name}")
    try:
        yield beside
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path, values):
    """Write plain values as JSON, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_json(path):
    """Read what `write_json` wrote.

    Raises:
        ValueError: the file is missing or no JSON.
    """
    try:
        return json.loads(pathlib.Path(path).read_text("utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"There is no {path}.") from error
    except ValueError as error:
        raise ValueError(f"{path} is no readable JSON ({error}).") from error
