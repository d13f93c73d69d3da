"""Which classes a model takes for which, and its most confident mistakes."""

import keras
import numpy as np

from callbacks import layers, writer
from mixer_tf import figures


class Confusion(keras.callbacks.Callback):
    """Writes the confusion matrix and the surest mistakes as images when training ends.

    Args:
        log_dir: folder that TensorBoard reads.
        images: `[N, H, W, channels]`, as the model takes them: in [0, 255], [0, 1] or about 0.
        labels: `[N]`, numbers of the classes.
        class_names: one for each class.

    Raises:
        ValueError: at the start of training, where pictures, labels, names and
            model do not fit, or the folder cannot be written.
    """

    def __init__(self, log_dir, images, labels, class_names):
        super().__init__()
        self.log_dir = str(log_dir)
        self.images = np.asarray(images)
        self.labels = np.asarray(labels)
        self.class_names = [str(name) for name in class_names]

    def on_train_begin(self, logs=None):
        self._epoch = None
        layers.check_pictures(self.model, self.images, self.labels, self.class_names)
        writer.check_folder(self.log_dir)

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_end(self, logs=None):
        if self._epoch is None:
            return
        chances = layers.probabilities(layers.answers(layers.reader(self.model), self.images))
        drawn = figures.confusion(self.labels, chances.argmax(-1), self.class_names)
        writer.write_image(
            self.log_dir,
            "confusion",
            figures.to_image(drawn),
            self._epoch,
            "Rows are the true classes. What stands off the diagonal was mistaken.",
        )
        images = layers.drawable(self.images)
        drawn = figures.mistakes(images, self.labels, chances, self.class_names)
        writer.write_image(
            self.log_dir,
            "mistakes",
            figures.to_image(drawn),
            self._epoch,
            "The mistakes the model was surest of: often the label is doubtful, too.",
        )
