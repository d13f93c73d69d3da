"""Points for TensorBoard's Projector tab: pictures by their pre-logits, and the stem's filters."""

import pathlib

import keras
import numpy as np
from PIL import Image

from callbacks import layers, writer
from mixer_tf import figures
from mixer_tf.storage import files

_MOST = 100_000  # rows the Projector takes


class EmbeddingProjector(keras.callbacks.Callback):
    """Writes what the Projector tab shows, at the end of training or every few epochs.

    Two sets of points: `pictures`, by the output of `layer`, with label,
    prediction, right or wrong, and the picture itself; `filters` of the stem,
    by their weights, with their own pictures. Later epochs replace earlier ones.
    The files are `projector_config.pbtxt` and the folder `projector/`.

    Args:
        log_dir: folder that TensorBoard reads.
        images: `[N, H, W, channels]`, as the model takes them: in [0, 255], [0, 1] or about 0.
        labels: `[N]`, numbers of the classes.
        class_names: one for each class.
        layer: name of the layer whose output `[N, C]` places the pictures.
        stem: name of the convolution whose filters are shown.
        every: epochs between two writings; only at the end if left out.
        most: pictures that are shown, the first ones; at most 100,000.

    Raises:
        ValueError: at once where `most` or `every` is out of range; at the start
            of training where a layer is missing, pictures, labels and names do
            not fit, or the folder cannot be written.
    """

    def __init__(
        self,
        log_dir,
        images,
        labels,
        class_names,
        layer="pre_logits",
        stem="stem",
        every=None,
        most=1000,
    ):
        super().__init__()
        if not 1 <= most <= _MOST:
            raise ValueError(f"most is {most}; give 1 to {_MOST:,} pictures.")
        if every is not None and every < 1:
            raise ValueError(f"every is {every}; give a number of epochs, at least 1.")
        self.log_dir = str(log_dir)
        self.images = np.asarray(images[:most])
        self.labels = np.asarray(labels[:most])
        self.class_names = [clean(name) for name in class_names]
        self.layer = layer
        self.stem = stem
        self.every = every

    def on_train_begin(self, logs=None):
        self._epoch = self._written = None
        layers.find_layer(self.model, self.layer)
        layers.filters(self.model, self.stem)
        layers.check_pictures(self.model, self.images, self.labels, self.class_names)
        try:
            outputs = [self.model.get_layer(self.layer).output, self.model.outputs[0]]
            self._both = layers.reader(self.model, outputs)  # both from one pass
        except (AttributeError, ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"The output of {self.layer!r} cannot be read ({error}): the model must be "
                "functional or Sequential, and the layer its own, not of a model inside it."
            ) from error
        if len(self._both.outputs[0].shape) != 2:
            raise ValueError(
                f"{self.layer!r} puts out {tuple(self._both.outputs[0].shape)}; a point needs "
                "one row of numbers, [N, C], such as `pre_logits`."
            )
        writer.check_folder(self.log_dir)

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = epoch
        if self.every is not None and (epoch + 1) % self.every == 0:
            self._write(epoch)

    def on_train_end(self, logs=None):
        if self._epoch is not None and self._written != self._epoch:
            self._write(self._epoch)

    def _write(self, epoch):
        self._written = epoch
        vectors, logits = layers.answers(self._both, self.images)
        predictions = logits.argmax(-1)
        right = predictions == self.labels
        tiles = figures.as_rgb(layers.drawable(self.images))
        names = self.class_names
        pictures = [
            (names[truth], names[said], "right" if hit else "wrong")
            for truth, said, hit in zip(self.labels, predictions, right)
        ]
        kernel = layers.filters(self.model, self.stem)
        by_filter = np.moveaxis(kernel, -1, 0)
        frequencies = figures.spatial_frequency(by_filter)
        # Their own right, so that a filter of 3x3 pixels is more than a dot.
        filters = [(str(i), f"{f:.3f}") for i, f in enumerate(frequencies)]
        sets = [
            self._set("pictures", vectors, ("label", "prediction", "right"), pictures, tiles),
            self._set(
                "filters",
                by_filter.reshape(len(by_filter), -1),
                ("filter", "frequency"),
                filters,
                figures.filter_tiles(kernel),
                side=32,
            ),
        ]
        config = pathlib.Path(self.log_dir, "projector_config.pbtxt")
        with files.replacing(config) as beside:
            beside.write_text("".join(sets), "utf-8")
        # TensorBoard passes over a folder without an event file.
        writer.write_scalars(self.log_dir, {"projector/accuracy": right.mean()}, epoch)

    def _set(self, name, vectors, header, rows, tiles, side=None):
        """Write one set of points; gives its part of the configuration."""
        folder = pathlib.Path(self.log_dir, "projector")
        folder.mkdir(parents=True, exist_ok=True)
        vectors = np.nan_to_num(np.asarray(vectors, "float32"))  # one NaN hides all points
        with files.replacing(folder / f"{name}.tsv") as beside:
            np.savetxt(beside, vectors, fmt="%.5g", delimiter="\t")
        with files.replacing(folder / f"{name}_metadata.tsv") as beside:
            beside.write_text("".join("\t".join(r) + "\n" for r in [header, *rows]), "utf-8")
        sheet, side = figures.sprite_sheet(tiles, side)
        with files.replacing(folder / f"{name}_sprite.png") as beside:
            if sheet.dtype != np.uint8:
                sheet = np.round(255 * sheet).astype("uint8")
            Image.fromarray(sheet).save(beside, "PNG")
        return (
            "embeddings {\n"
            f'  tensor_name: "{name}"\n'
            f'  tensor_path: "projector/{name}.tsv"\n'
            f'  metadata_path: "projector/{name}_metadata.tsv"\n'
            "  sprite {\n"
            f'    image_path: "projector/{name}_sprite.png"\n'
            f"    single_image_dim: {side}\n    single_image_dim: {side}\n"
            "  }\n}\n"
        )


def clean(name):
    """A class name that cannot break a table: tabs, line ends and the like become spaces."""
    text = "".join(c if c.isprintable() else " " for c in str(name))
    return " ".join(text.split()) or "(no name)"
