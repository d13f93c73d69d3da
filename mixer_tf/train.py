"""Recipe + model + data + runtime -> a run directory."""

import dataclasses

from mixer_tf import stack, zoo
from mixer_tf.batches import check_batch
from mixer_tf.distributed import hosts
from mixer_tf.run_config import RunConfig
from mixer_tf.run_data import check_same
from mixer_tf.runs import Run
from mixer_tf.training import cpu_step, recompute, starting_weights
from mixer_tf.training.trainer import Trainer
from mixer_tf.variants import RELATIVES, find_mixer


@hosts.losing_workers()
@stack.policy()
def train(
    model,
    data,
    recipe,
    out,
    *,
    image_size=None,
    seed=0,
    precision="auto",
    pretrained="",
    command="",
    callbacks=lambda run: [],
    save_every=0,
    own_process=False,
    quiet=False,
):
    """Train a model and write everything about it into a folder.

    Args:
        model: a name in `MODELS`, or a `MixerConfig`.
        data: a `Data`.
        recipe: a `Recipe`.
        out: folder of the run; new, or empty.
        image_size: `(height, width)` that the model sees; by default what
            `input_size` says.
        seed: decides initial weights, order, augmentation and dropout. It is also given to the
            generators of Python, numpy and the engine, by `keras.utils.set_random_seed`.
        precision: one of `runtime.PRECISIONS`.
        pretrained: weights to begin with, see `starting_weights.open_source`; the head
            begins at zero.
        command: that makes the run again, for the record.
        callbacks: function of the `Run`, gives further Keras callbacks. One that sets
            `stop_training`, as `EarlyStopping` does, ends the run with its result. They are
            made anew where a run is resumed: what they had counted, they count again.
        save_every: steps after which the state is saved, beside that of each epoch.
        own_process: nothing else computes in this process: TensorFlow's threads may
            be set for the training alone, see `cpu_step`.
        quiet: no progress bar.

    Returns:
        The dict that `result.json` holds.

    Raises:
        ValueError: something does not fit; nothing has been written then.
        NotFinite: the loss became NaN or infinite; what was saved before is kept.
        Interrupted: Ctrl-C; the run can be resumed.
        WorkerLost: another host is gone; the run can be resumed, by all together.
    """
    hosts.join()
    check(model, data, recipe, image_size, pretrained)
    asked_size = tuple(map(int, image_size)) if image_size else None
    input_shape = (*(asked_size or input_size(model, data)), data.image_shape[2])
    if own_process:
        cpu_step.set_threads(model, input_shape, recipe, precision)
    name = model if isinstance(model, str) else ""
    if pretrained:
        model = starting_weights.adapted(model, input_shape, pretrained)
    config = RunConfig(
        model=model,
        name=name,
        input_shape=input_shape,
        recipe=recipe.in_epochs(len(data.train)),
        seed=seed,
        precision=precision,
        command=command,
        pretrained=str(pretrained),
        asked_size=asked_size,
        save_every=save_every,
        **data.kept(),
    )
    # before a folder is made: what does not fit, shows here
    trainer = Trainer(config, data, quiet, bool(pretrained))
    products = trainer.runtime.products if trainer.parts else ""
    chosen = {"trained_in": trainer.runtime.precision, "products": products, "parts": trainer.parts}
    config = trainer.config = dataclasses.replace(config, **chosen)
    run = Run.create(out, config) if trainer.runtime.is_chief else Run(out)
    return trainer.fit(run, callbacks)


@hosts.losing_workers()
@stack.policy()
def resume(out, data, *, callbacks=lambda run: [], save_every=0, own_process=False, quiet=False):
    """Go on with a run that was stopped, to the same end as if it never had been.

    Args:
        out: folder of the run.
        data: the `Data` it began with.
        save_every: another number than the run began with; 0: the same.
        callbacks, own_process, quiet: as for `train`.

    Returns:
        The dict that `result.json` holds; at once where the run had ended.

    Raises:
        ValueError: the folder holds no run, or one whose state is gone; or the data is another.
    """
    hosts.join()
    run = Run.open(out)
    config = run.config()
    check_same(config, data, out)
    if run.result_file.exists():
        return run.result()
    if own_process:
        cpu_step.set_threads(
            config.model, config.input_shape, config.recipe, config.trained_in or config.precision
        )
    if not run.states() and run.history_file.exists() and len(run.history()["loss"]) > 1:
        # One epoch may be there without a state, where a process was killed between the two.
        raise ValueError(
            f"{out} has trained, but its state files ({run.state_file.name}, "
            f"{run.previous_state_file.name}) are gone; put them back, or begin a new run "
            "elsewhere. Its weights are left as they are."
        )
    again = bool(config.pretrained) and not run.states()  # else its weights are in them
    if save_every:
        config = dataclasses.replace(config, save_every=save_every)
    return Trainer(config, data, quiet, again).fit(run, callbacks)


def check(model, data, recipe, image_size=None, pretrained=""):
    """Refuse a training that cannot begin, before anything is computed for it.

    Args:
        model, data, recipe, image_size, pretrained: as for `train`.

    Raises:
        ValueError: the model is unknown, the picture does not divide into its patches, a
            batch is larger than the data, or something is asked of the model that it cannot do.
    """
    shape = (*(image_size or input_size(model, data)), data.image_shape[2])
    check_batch(recipe.batch_size, data.train)
    for name in ("mixup", "cutmix"):
        # Keras's draws from a Beta distribution so steep are halves, not nearly 0 or 1.
        if 0 < getattr(recipe.augmentation, name) < 0.05:
            raise ValueError(
                f"{name} is {getattr(recipe.augmentation, name)}; give at least 0.05, or 0."
            )
    if recipe.augmentation.rand_augment and shape[2] not in (1, 3):
        raise ValueError(
            f"rand_augment changes colours, and the pictures have {shape[2]} channels; set it to 0."
        )
    if pretrained and recipe.optimizer == "lamb":
        raise ValueError(
            "LAMB moves weights by a share of their size, and the head of a pretrained model "
            "begins at zero; take another optimizer."
        )
    if mixer := find_mixer(model):
        mixer.token_grid(shape)
        if recipe.recompute:
            recompute.check(mixer)
        return
    zoo.find(model)
    if model in RELATIVES:
        RELATIVES[model].token_grid(shape)
        if recipe.token_dropout:
            raise ValueError(
                f"token_dropout is {recipe.token_dropout}, which {model} has no place for; take "
                "another recipe, or set it to 0."
            )
    elif recipe.ema:
        raise ValueError(
            f"ema is {recipe.ema}, but {model} has BatchNormalization, whose statistics Keras does "
            "not average along with the weights; set ema to 0."
        )
    for_mixers = {
        "freeze": recipe.freeze,
        "layer_decay": recipe.layer_decay < 1,
        "recompute": recipe.recompute,
    }
    asked = [name for name, value in for_mixers.items() if value]
    if asked:
        raise ValueError(
            f"{model} is no Mixer, and {', '.join(asked)} is for Mixers only; leave it out."
        )
    if pretrained:
        starting_weights.check_same_network(model, shape, pretrained)


def input_size(model, data):
    """`(height, width)` that a model sees: its own where it has one, else the data's."""
    entry = zoo.find(model) if isinstance(model, str) else None
    return entry.input_shape[:2] if entry and entry.own_size else data.image_shape[:2]
