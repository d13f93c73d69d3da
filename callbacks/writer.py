"""Images and scalars into TensorBoard's event files, with nothing held open in between.

`tf.summary` keeps its file open until it is told otherwise, and a `fit` that
raises tells nobody. Here each call opens the event file, appends, and closes
it. One process writes one file a folder. No TensorFlow is needed, so it serves
Keras on JAX alike. Source of the format: TensorBoard's `summary.proto` and the
image and scalar plugins' metadata.
"""

import errno
import gc
import io
import itertools
import os
import pathlib
import socket
import time

import numpy as np
from PIL import Image

_files = {}  # folder -> the event file that this process appends to
_pictures = itertools.count(1)


def check_folder(log_dir):
    """Make the folder, and write into it once.

    Raises:
        ValueError: it cannot be made or written.
    """
    folder = pathlib.Path(log_dir)
    probe = folder / f".writing-{os.getpid()}-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"log_dir is {str(folder)!r}, which cannot be written ({error}); give a folder "
            "that can be made and written."
        ) from error


def write_image(log_dir, tag, image, step, description=""):
    """Append one picture.

    Args:
        log_dir: folder that TensorBoard reads.
        tag: its name there.
        image: `[H, W, 3]`, float in [0, 1] or uint8.
        step: number on TensorBoard's slider.
        description: a sentence on how to read it, shown beside the name.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8:
        image = np.round(255 * np.clip(image, 0, 1)).astype("uint8")
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG", compress_level=4)
    height, width, _ = image.shape
    strings = [str(width).encode(), str(height).encode(), png.getvalue()]
    _append(log_dir, step, {tag: ("images", _tensor(strings=strings), description)})
    if next(_pictures) % 20 == 0:
        # A figure is a circle of objects, 1 to 2 MB, and Python looks for circles the more rarely
        # the more objects there are; beside TensorFlow's, memory would grow with every epoch.
        gc.collect()


def write_scalars(log_dir, values, step):
    """Append numbers.

    Args:
        log_dir: folder that TensorBoard reads.
        values: `{tag: number}`.
        step: of all of them.
    """
    rows = {tag: ("scalars", _tensor(number=value), "") for tag, value in values.items()}
    _append(log_dir, step, rows)


def _tensor(strings=None, number=None):
    from tensorboard.compat.proto import tensor_pb2, tensor_shape_pb2, types_pb2

    if strings is None:
        return tensor_pb2.TensorProto(
            dtype=types_pb2.DT_FLOAT,
            tensor_shape=tensor_shape_pb2.TensorShapeProto(),
            float_val=[float(number)],
        )
    size = tensor_shape_pb2.TensorShapeProto.Dim(size=len(strings))
    return tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING,
        tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=[size]),
        string_val=strings,
    )


def _append(log_dir, step, rows):
    """Append one event with a value for each `{tag: (plugin, tensor, description)}`."""
    from tensorboard.compat.proto import event_pb2, summary_pb2

    summary = summary_pb2.Summary()
    for tag, (plugin, tensor, description) in rows.items():
        metadata = summary_pb2.SummaryMetadata(
            summary_description=description,
            plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name=plugin),
        )
        summary.value.add(tag=tag, metadata=metadata, tensor=tensor)
    event = event_pb2.Event(wall_time=time.time(), step=step, summary=summary)

    folder = pathlib.Path(log_dir).absolute()
    path = _files.get(folder)
    records = [event]
    if path is None or not path.exists():  # first in this process, or the folder was emptied
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        path = _files[folder] = folder / f"{name}.{len(_files)}.callbacks"
        version = event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2")
        records.insert(0, version)
    _append_records(path, [record.SerializeToString() for record in records])


def _append_records(path, records):
    from tensorboard.summary.writer.record_writer import RecordWriter

    framed = io.BytesIO()
    writer = RecordWriter(framed)
    for record in records:
        writer.write(record)
    content = framed.getvalue()
    with open(path, "ab", buffering=0) as file:  # else closing would try to write the rest again
        end = file.tell()
        try:
            if file.write(content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:  # a full disk: half a record would make all that follow unreadable
            file.truncate(end)
            raise
