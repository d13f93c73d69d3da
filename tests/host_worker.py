"""One process of `test_hosts.py`: what several of them do together, in one start of the engine."""

import dataclasses
import json
import os
import pathlib
import sys
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from mixer_tf import MixerConfig
from mixer_tf.distributed import hosts
from mixer_tf.distributed.cluster import TRY_AGAIN, WorkerLost

MODEL = MixerConfig(1, 16, 8, 16, (4, 4))
ON_JAX = os.environ.get("KERAS_BACKEND") == "jax"
STEP_OF_DEATH = 13  # in the second of three epochs of 10 steps


def prepared():
    """(data, recipe): a few digits, everything on that could tell one host from another."""
    from mixer_tf.data import load_data
    from mixer_tf.recipe import Augmentation, Recipe

    digits = load_data("digits")
    data = dataclasses.replace(
        digits,
        train=digits.train.take(slice(0, 240)),
        validation=digits.validation.take(slice(0, 51)),  # no multiple of 2 or 4
        test=digits.test.take(slice(0, 60)),
    )
    augmentation = Augmentation(shift=0.1, mixup=0.2, mix_probability=0.5)
    recipe = Recipe(3, 24, "muon", warmup_epochs=0.5, clip_norm=0.3, ema=0.9)
    return data, dataclasses.replace(recipe, augmentation=augmentation)


def shown(run):
    """Every kind of callback that TensorBoard shows, whose files a test then reads."""
    import callbacks

    data, recipe = prepared()
    pictures = (data.test.images, data.test.labels, data.class_names)
    return [
        callbacks.PatchProjections(run.folder),
        callbacks.TokenMixing(run.folder, every=recipe.epochs),
        callbacks.EmbeddingProjector(run.folder, *pictures),
        callbacks.Throughput(run.folder, recipe.batch_size),
        callbacks.Confusion(run.folder, *pictures),
    ]


def impatient(run):
    """Keras's own, which finds every epoch after the first no better."""
    import keras

    return [keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=0)]


def checksum(run):
    """Of every weight that this process holds at the end: told by its own trainer."""
    return zlib.crc32(b"".join(w.tobytes() for w in run))


class Watch:
    """Losses of each epoch and the weights after it, as this process sees them."""

    def __init__(self, die_at=None):
        import keras

        self.rows, self.checksums = [], []
        watch = self

        class Callback(keras.callbacks.Callback):
            steps = 0

            def on_train_batch_end(self, batch, logs=None):
                Callback.steps += 1
                if Callback.steps == die_at:
                    os.kill(os.getpid(), 9)

            def on_epoch_end(self, epoch, logs=None):
                names = ("loss", "val_loss", "accuracy", "val_accuracy")
                watch.rows.append([float(logs[name]) for name in names])
                watch.checksums.append(checksum(self.model.get_weights()))

        self.callback = Callback()


def main(folder, die=False):
    """Train together; disagree; train until one dies."""
    several = hosts.join()
    from mixer_tf import train as training

    data, recipe = prepared()
    out = pathlib.Path(folder)
    seen = {}
    watch = Watch()
    result = watched(training, watch)(
        MODEL, data, recipe, out / "run", seed=5, precision="float32", callbacks=shown
    )
    seen |= {"losses": watch.rows, "checksums": watch.checksums, "result": result}
    stopped = training.train(
        MODEL, data, recipe, out / "stopped", seed=5, callbacks=impatient, quiet=True
    )
    seen["epochs until stopped"] = stopped["epochs"]

    other = dataclasses.replace(recipe, batch_size=24 if several.index == 0 else 48)
    try:
        training.train(MODEL, data, other, out / "never", seed=5, quiet=True)
    except ValueError as error:
        seen["disagreement"] = str(error)
    (out / f"seen{several.index}.json").write_text(json.dumps(seen))

    if die:
        last = several.index == several.count - 1
        watch = Watch(STEP_OF_DEATH if last else None)
        try:
            watched(training, watch)(
                MODEL, data, recipe, out / "lost", seed=5, precision="float32", save_every=4
            )
        except WorkerLost as error:
            print(f"mixer_tf: {error}", file=sys.stderr, flush=True)
            os._exit(TRY_AGAIN)


def devices(folder, counts):
    """One process with several logical CPUs, of which it takes as many as `counts` says."""
    from mixer_tf import machine
    from mixer_tf import train as training

    data, recipe = prepared()
    for count in counts:
        look = machine.look
        if not ON_JAX:
            take_logical(count)
        elif count == 1:  # there the number of devices is given
            found = look()
            machine.look = lambda found=found: (*found[:2], 1, *found[3:])
        training.train(
            MODEL, data, recipe, f"{folder}/{count}", seed=5, precision="float32", callbacks=shown,
            quiet=True,
        )  # fmt: skip
        if count > 1:  # another model, as `compare` trains one after another
            short = dataclasses.replace(recipe, epochs=1, warmup_epochs=0.0)
            wider = dataclasses.replace(MODEL, hidden_dim=2 * MODEL.hidden_dim)
            training.train(wider, data, short, f"{folder}/{count} wider", quiet=True)
        machine.look = look


def take_logical(count):
    """Let TensorFlow show so many of its logical CPUs."""
    import tensorflow as tf

    shown = [tf.config.LogicalDevice(f"/device:CPU:{i}", "CPU") for i in range(count)]
    tf.config.list_logical_devices = lambda kind: shown if kind == "CPU" else []
    tf.config.get_logical_device_configuration = lambda device: shown


def watched(training, watch):
    """`train` with one more callback on every host, not on the chief alone."""
    from mixer_tf.training.trainer import Trainer

    def train(*arguments, **options):
        run = Trainer._run

        def with_watch(self, step, given, callbacks):
            return run(self, step, given, [*callbacks, watch.callback])

        Trainer._run = with_watch
        try:
            return training.train(*arguments, quiet=True, **options)
        finally:
            Trainer._run = run

    return train


if __name__ == "__main__":
    if "devices" in sys.argv:
        if not ON_JAX:
            import tensorflow as tf

            cpu = tf.config.list_physical_devices("CPU")[0]
            logical = [tf.config.LogicalDeviceConfiguration()] * 4
            tf.config.set_logical_device_configuration(cpu, logical)
        devices(sys.argv[1], [int(n) for n in sys.argv[3:]])
    else:
        main(sys.argv[1], "die" in sys.argv)
