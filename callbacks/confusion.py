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
        from sklearn.metrics import confusion_matrix

        chances = layers.probabilities(layers.answers(layers.reader(self.model), self.images))
        said = chances.argmax(-1)
        names = self.class_names
        matrix = confusion_matrix(self.labels, said, labels=np.arange(len(names)))
        writer.write_image(
            self.log_dir,
            "confusion",
            figures.to_image(figures.confusion(matrix, names)),
            self._epoch,
            "Rows are the true classes. What stands off the diagonal was mistaken.",
        )
        wrong = figures.surest_mistakes(self.labels, chances)
        drawn = figures.mistakes(
            layers.drawable(self.images)[wrong],
            [names[i] for i in self.labels[wrong]],
            [names[i] for i in said[wrong]],
            chances[wrong].max(-1),
        )
        writer.write_image(
            self.log_dir,
            "mistakes",
            figures.to_image(drawn),
            self._epoch,
            "The mistakes the model was surest of: often the label is doubtful, too.",
        )
