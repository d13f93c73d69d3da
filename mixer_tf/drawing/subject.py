"""A run as what is drawn of it: its model, its answers to test pictures, its snapshots."""

import contextlib
import functools

import numpy as np

from mixer_tf import stages
from mixer_tf.evaluate import log_probabilities
from mixer_tf.run_data import load_run_data
from mixer_tf.sampling import sample
from mixer_tf.storage.npz import NpzFile


class NotHere(Exception):
    """This run has no such figure; the message says why."""


class Subject:
    """A run and what is computed of it once, when it is first asked for."""

    def __init__(self, run):
        self.run = run
        self.config = run.config()

    @functools.cached_property
    def model(self):
        return self.run.model()

    @functools.cached_property
    def blocks(self):
        try:
            return stages.blocks(self.model)
        except ValueError as error:
            raise NotHere("the model is no Mixer.") from error

    @functools.cached_property
    def grid(self):
        return tuple(self.model.get_layer("stem").output.shape[1:3])

    @functools.cached_property
    def data(self):
        """The `Data` the run was trained on."""
        try:
            return load_run_data(self.config)
        except (OSError, ValueError) as error:
            raise NotHere(f"its data cannot be used. {error}") from error

    @functools.cached_property
    def pictures(self):
        """`(images, labels)` of at most 2,000 test pictures, evenly taken."""
        return sample(self.data.test, self.config.input_shape[:2], count=2000)

    @functools.cached_property
    def answers(self):
        """`(pre-logits [N, C], chances [N, classes])` of the pictures."""
        import keras

        outputs = [self.model.get_layer("pre_logits").output, self.model.output]
        both = keras.Model(self.model.input, outputs)
        vectors, logits = both.predict(self.pictures[0], batch_size=200, verbose=0)
        return np.asarray(vectors, "float32"), np.exp(log_probabilities(logits))

    @functools.cached_property
    def snapshots(self):
        """`(kernels [E, h, w, c, C], epochs [E], order [C])` that the callback wrote."""
        names = ("kernels", "epochs", "order")
        try:
            with NpzFile(self.run.filters_file, kinds="fiu") as file:
                kernels, epochs, order = map(file.read_as_is, names)
        except (KeyError, ValueError) as error:  # missing or damaged
            raise NotHere("the run has no patch_projections.npz that can be read.") from error
        fits = kernels.ndim == 5 and kernels.size and epochs.shape == kernels.shape[:1]
        fits = fits and order.ndim == 1 and {order.dtype.kind, epochs.dtype.kind} <= {"i", "u"}
        fits = fits and kernels.dtype.kind in "fiu"
        if not fits or sorted(order) != list(range(kernels.shape[-1])):
            raise NotHere("the run's patch_projections.npz holds no filters by epoch.")
        return kernels.astype("float32"), epochs, order

    def facts(self):
        """What stands at the top of the page."""
        facts = {
            "run": self.run.folder,
            "model": f"{self.config.model_name}, {self.model.count_params():,} weights",
            "data": self.config.data,
            "weights drawn": "those of the best validation accuracy",
        }
        with contextlib.suppress(ValueError):  # it has not ended, or its result is damaged
            result = self.run.result()
            facts["epochs"] = result["epochs"]
            facts["test accuracy"] = (
                f"{100 * result['test_accuracy']:.2f} ± "
                f"{100 * result['test_standard_error']:.2f} % of {result['test_pictures']:,}"
            )
            facts["device"] = result["device"]
        return facts
