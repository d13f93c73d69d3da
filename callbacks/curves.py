"""Loss and accuracy of each epoch in TensorBoard, at no cost in between."""

import pathlib

import keras

from callbacks import layers, writer


class Curves(keras.callbacks.Callback):
    """Writes what an epoch ends with where Keras's `TensorBoard` writes it, and nothing else.

    Tags: `epoch_loss`, `epoch_accuracy` and the like, in `train/` and `validation/`; of a metric
    with a number for each class, such as `F1Score`, `epoch_f1_score_0`, `epoch_f1_score_1` ...

    Keras's own makes a scalar of every metric after every step, also with
    `update_freq="epoch"`, where it throws them away: up to a tenth of the time of
    a small network's training on a CPU. And it leaves its files open where `fit` raises.

    Args:
        log_dir: folder that TensorBoard reads.

    Raises:
        ValueError: at the start of training, where the folder cannot be written.
    """

    def __init__(self, log_dir):
        super().__init__()
        self.log_dir = str(log_dir)

    def on_train_begin(self, logs=None):
        writer.check_folder(self.log_dir)

    def on_epoch_end(self, epoch, logs=None):
        values = {"train": {}, "validation": {}}
        for name, value in (logs or {}).items():
            part = "validation" if name.startswith("val_") else "train"
            values[part] |= _numbers(f"epoch_{name.removeprefix('val_')}", value)
        for part, found in values.items():
            if found:
                writer.write_scalars(pathlib.Path(self.log_dir, part), found, epoch)


def _numbers(tag, value):
    found = layers.as_array(value)
    if not found.ndim:
        return {tag: found.item()}
    return {f"{tag}_{i}": number.item() for i, number in enumerate(found.ravel())}
