"""The stem's filters as one image for each epoch (the paper's Figure 7)."""

import pathlib

import keras
import numpy as np

from callbacks import layers, writer
from mixer_tf import figures
from mixer_tf.storage import files

FILE = "patch_projections.npz"
_MOST = 64  # snapshots kept
_BYTES = 32 * 2**20  # of all snapshots together


class PatchProjections(keras.callbacks.Callback):
    """Writes every filter of a convolutional stem as a small picture, once an epoch.

    Filters are sorted by spatial frequency, lowest first, once, when the first
    epoch ends; the order then stays for the run, also when it is resumed.

    A snapshot of the kernel goes into `patch_projections.npz` in the same
    folder: `order [C]`; `epochs [E]`, how many had ended as `fit` counts them, 0
    before training; `kernels [E, height, width, channels, C]` float16, in the
    model's own order. It holds at most 64 snapshots and 32 MiB (but always two):
    in a longer training those of every second epoch, then of every fourth, and so
    on, always with the newest. A `fit` that begins at epoch 0 begins a new file (of a
    model that was trained before, it keeps the snapshot 0 that is there); one with
    `initial_epoch` goes on with what is there.

    Args:
        log_dir: folder that TensorBoard reads.
        layer: name of the layer whose kernel `[height, width, channels, C]` is drawn.

    Raises:
        ValueError: at the start of training, where the model has no such layer
            or the folder cannot be written.
    """

    def __init__(self, log_dir, layer="stem"):
        super().__init__()
        self.log_dir = str(log_dir)
        self.layer = layer

    def on_train_begin(self, logs=None):
        layers.filters(self.model, self.layer)  # or says what it lacks
        writer.check_folder(self.log_dir)
        self._begun = False

    def on_epoch_begin(self, epoch, logs=None):
        if self._begun:
            return
        self._begun = True
        kernel = layers.filters(self.model, self.layer)
        # An epoch that was stopped on its way has the filters of its beginning in the file.
        optimizer = self.model.optimizer
        untrained = optimizer is None or not layers.as_array(optimizer.iterations).item()
        kept = _load(pathlib.Path(self.log_dir, FILE), kernel.shape)[1]
        if epoch not in kept or (epoch == 0 and untrained):
            self._snapshot(kernel, epoch)

    def on_epoch_end(self, epoch, logs=None):
        kernel = layers.filters(self.model, self.layer)
        order = self._snapshot(kernel, epoch + 1)
        writer.write_image(
            self.log_dir,
            "patch_projections",
            figures.sheet_of_filters(kernel[..., order]),
            epoch,
            "Every filter of the stem, scaled by itself; low spatial frequency first, by the "
            "order of the first epoch. Noise means not trained yet; smooth waves, edges and "
            "blobs of colour mean trained.",
        )

    def _snapshot(self, kernel, epoch):
        """Add the kernel to the file; gives the order of the filters, `[C]`."""
        path = pathlib.Path(self.log_dir, FILE)
        order, epochs, kernels = _load(path, kernel.shape)
        # Of this epoch and later there can be something only from a run before this one.
        keep = epochs < epoch
        epochs, kernels = epochs[keep], kernels[keep]
        if order is None or epoch < 2:
            order = figures.by_frequency(kernel)
        epochs = np.append(epochs, epoch)
        with np.errstate(over="ignore"):  # beyond float16 is as good as infinite in a picture
            kernels = np.append(kernels, kernel[None], axis=0).astype("float16")
        rest = _regular(epochs, max(2, min(_MOST, _BYTES // (2 * kernel.size))))
        epochs, kernels = epochs[rest], kernels[rest]
        path.parent.mkdir(parents=True, exist_ok=True)  # somebody may have emptied the folder
        with files.replacing(path) as beside, open(beside, "wb") as file:
            np.savez(file, order=order, epochs=epochs, kernels=kernels)
        return order


def _regular(epochs, most):
    """Which of the epochs to keep, `[E]` bool: multiples of a power of two, and the newest."""
    stride = 1
    while epochs[-1] // stride + 1 + bool(epochs[-1] % stride) > most:
        stride *= 2
    return (epochs % stride == 0) | (epochs == epochs[-1])


def _load(path, shape):
    """`(order or None, epochs, kernels)` of a file; empty where there is none that fits."""
    nothing = None, np.zeros(0, int), np.zeros((0, *shape), "float16")
    try:
        with np.load(path, allow_pickle=False) as file:
            order, epochs, kernels = file["order"], file["epochs"], file["kernels"]
    except Exception:  # none yet, or damaged: numpy, zipfile and zlib each raise their own
        return nothing
    if kernels.shape[1:] != shape or sorted(order.tolist()) != list(range(shape[-1])):
        return nothing  # of another model
    return order, epochs, kernels
