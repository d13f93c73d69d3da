"""The stem's filters as one image for each epoch (the paper's Figure 7)."""

import keras
import numpy as np

from mixer_tf import figures


class PatchProjections(keras.callbacks.Callback):
    """Writes every filter of a convolutional stem as a small picture, once an epoch.

    Args:
        log_dir: folder that TensorBoard reads.
        layer: name of the layer whose kernel `[height, width, channels, C]` is drawn.

    Raises:
        ValueError: at the start of training, where the model has no such layer.
    """

    def __init__(self, log_dir, layer="stem"):
        super().__init__()
        self.log_dir = str(log_dir)
        self.layer = layer
        self._writer = None

    def on_train_begin(self, logs=None):
        import tensorflow as tf  # only its summaries; the model may run on another backend

        names = [layer.name for layer in self.model.layers]
        if self.layer not in names or len(self.model.get_layer(self.layer).kernel.shape) != 4:
            raise ValueError(
                f"The model has no convolutional layer {self.layer!r}; its layers are: "
                f"{', '.join(names)}."
            )
        self._writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch, logs=None):
        import tensorflow as tf

        kernel = keras.ops.convert_to_numpy(self.model.get_layer(self.layer).kernel)
        zoom = max(1, 32 // kernel.shape[0])
        sheet = figures.stitch(figures.filter_tiles(kernel), gap=2, zoom=zoom)
        with self._writer.as_default():
            tf.summary.image("patch_projections", sheet[None].astype(np.float32), step=epoch)
        self._writer.flush()

    def on_train_end(self, logs=None):
        self._writer.close()
