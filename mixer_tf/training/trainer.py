"""One training from its saved state to its end: batches, callbacks, Keras's fit."""

import contextlib
import sys
import time
import zlib

import keras
import numpy as np

from mixer_tf import runtime, stack
from mixer_tf.batches import EvaluationBatches, TrainingBatches
from mixer_tf.distributed import batch_size, hosts
from mixer_tf.distributed.copies import OnCopy, StopTogether
from mixer_tf.storage import files
from mixer_tf.training.compiling import compiled
from mixer_tf.training.guard import LossGuard, memory_told
from mixer_tf.training.optimizers import make_loss, make_optimizer
from mixer_tf.training.progress import Progress
from mixer_tf.training.result import make_result
from mixer_tf.training.saving import KeepWeights, SaveState, StopAfterEpoch
from mixer_tf.training.state import load_newest
from mixer_tf.version import versions


class Trainer:
    """The model, compiled for a run, and its batches.

    Args:
        config: the `RunConfig`.
        data: the `Data`.
        quiet: no progress bar and no line on standard error.
        load_pretrained: fill the model from `config.pretrained` first.

    Raises:
        ValueError: recipe, model, data or machine do not fit each other.
    """

    def __init__(self, config, data, quiet, load_pretrained):
        self.config = config
        self.data = data.no_larger(config.input_shape[:2])
        self.quiet = quiet
        self.recipe = config.recipe
        stack.check(self.recipe)
        self.runtime = runtime.choose_again(config.precision, config.trained_in, config.products)
        if self.runtime.hosts:
            self.runtime.hosts.agree(self._terms())
        batch_size.per_replica(self.recipe.batch_size, self.runtime.replicas)  # or a ValueError
        self.steps_per_epoch = self._batches(0).steps_per_epoch
        self.total_steps = self.recipe.epochs * self.steps_per_epoch

        with memory_told(self.recipe):
            self.model, self.parts = compiled(
                config, self.recipe, self.runtime, self.steps_per_epoch, load_pretrained
            )

    def _batches(self, first_step):
        config, recipe = self.config, self.recipe
        return TrainingBatches(
            self.data.train,
            config.num_classes,
            recipe.part_size,
            recipe.augmentation,
            config.seed,
            config.input_shape[:2],
            first_step,
            self.runtime.place,
            recipe.shares,
            recipe.accumulate,
        )

    def _terms(self):
        """What all hosts must have in common."""
        config, pictures = self.config, {}
        for name in ("train", "validation"):
            split = getattr(self.data, name)
            pixels = zlib.crc32(np.ascontiguousarray(split.images))
            pictures[name] = [split.fingerprint(), pixels]
        names = "/".join(config.class_names).encode()
        return {
            "model": str(config.model),
            "input_shape": list(config.input_shape),
            "classes": [config.num_classes, zlib.crc32(names)],
            "pictures": pictures["train"],
            "validation pictures": pictures["validation"],
            "seed": config.seed,
            "precision": self.runtime.precision,
            "pretrained": config.pretrained,
            "save_every": config.save_every,
            **config.recipe.to_dict(),
            **versions(),
        }

    def fit(self, run, callbacks):
        """Train from the saved state, or from the start, to the end; then test."""
        with run.alone() if self.runtime.is_chief else contextlib.nullcontext():
            if self.runtime.is_chief and self.data.report.summary():
                files.write_text(run.pictures_file, self.data.report.text())
            return self._fit(run, callbacks)

    def _fit(self, run, callbacks):
        several = self.runtime.hosts
        if not self.quiet and self.runtime.is_chief:
            about = batch_size.describe(self.recipe, self.runtime.replicas)
            machine = self.runtime.describe(bool(self.parts))
            print(f"{self.config.model_name}: {machine}; {about}", file=sys.stderr)
        while True:
            progress = {"step": 0, "seconds": 0.0, "history": []}
            if several:
                several.agree({})  # before it is read, the chief has written it
            with self.runtime.scope():
                if run.states():
                    progress = load_newest(run, self.model)
            if several:
                several.agree({"step in the run directory, which all must see,": progress["step"]})
            # "ended": by a callback, such as Keras's EarlyStopping
            if progress.get("ended") or progress["step"] >= self.total_steps:
                break
            self._fit_part(run, progress, callbacks)
            if self.model.stop_training and not run.history_file.exists():
                raise ValueError(
                    "A callback ended the training within its first epoch, so that there is "
                    f"nothing to test. {run.folder} can be resumed."
                )
        with hosts.undistributed():
            result = None
            if self.runtime.is_chief:
                result = make_result(
                    run, self.data.test, self.runtime, bool(self.parts), progress["seconds"]
                )
        return several.tell(result) if several else result

    def _fit_part(self, run, progress, callbacks):
        """Train up to the end of the run, or of an epoch that was left in its middle."""
        step, place = progress["step"], self.runtime.place
        epoch, done = divmod(step, self.steps_per_epoch)
        options = {
            "steps_per_epoch": self.steps_per_epoch - done,
            "initial_epoch": epoch,
            "epochs": epoch + 1 if done else self.recipe.epochs,
            "validation_data": EvaluationBatches(
                self.data.validation,
                self.config.num_classes,
                self.recipe.evaluation_size,
                self.config.input_shape[:2],
                replicas=self.runtime.replicas,
                place=place,
            ),
        }
        guard = LossGuard(
            step,
            lambda: (
                f"the last good weights are in {run.folder}"
                if run.states()
                else "no epoch had ended, so none are saved"
            ),
        )
        averaging = [keras.callbacks.SwapEMAWeights()] if self.recipe.ema else []
        together = [StopTogether(self.runtime.hosts)] if self.runtime.hosts else []
        if not self.runtime.is_chief:
            return self._run(step, options, [guard, *averaging, *together])
        saver = self._saver(run, progress)
        bar = self._bar(step)
        ranks = [(row["val_accuracy"], -row["val_loss"]) for row in progress["history"]]
        best = max(ranks, default=(-1.0, 0.0)) if run.best_file.exists() else (-1.0, 0.0)
        keeper = KeepWeights(saver, best)
        shown = self._shown(callbacks(run))
        try:
            stop = StopAfterEpoch(saver, self.total_steps)
            first = [guard, bar, keeper, *averaging, saver]
            return self._run(step, options, [*first, *shown, *together, stop])
        finally:
            bar.close()
            saver.restore_signal()

    def _run(self, step, options, callbacks):
        batches = self._batches(step)
        try:
            self._run_on(batches, options, callbacks)
        finally:  # also where it was stopped
            batches.rest()
            options["validation_data"].rest()

    def _run_on(self, batches, options, callbacks):
        several = self.runtime.hosts
        if several and several.strategy:
            from mixer_tf.distributed import host_training  # TensorFlow's alone

            with memory_told(self.recipe):
                host_training.fit(self.model, several, batches, callbacks=callbacks, **options)
            return
        batches = stack.endless(batches)
        # shuffle: the batches come in the order of their steps
        with self.runtime.scope(), memory_told(self.recipe):
            self.model.fit(batches, callbacks=callbacks, shuffle=False, verbose=0, **options)

    def _saver(self, run, progress):
        started = time.perf_counter()
        return SaveState(
            run,
            self.steps_per_epoch,
            progress["history"],
            lambda: progress["seconds"] + time.perf_counter() - started,
            progress["step"],
            self.config.save_every,
            progress.get("epoch"),
            progress.get("damaged", False),
        )

    def _bar(self, step):
        return Progress(
            self.config.model_name,
            self.recipe.part_size,
            self.steps_per_epoch,
            self.recipe.epochs,
            step,
            self.quiet,
        )

    def _shown(self, callbacks):
        """The callbacks as they may look at the model."""
        if not (self.runtime.hosts and callbacks):
            return callbacks
        with hosts.undistributed():
            copy = self.config.build()
            copy.compile(make_optimizer(self.recipe, self.steps_per_epoch), make_loss(self.recipe))
        return [OnCopy(callbacks, copy)]
