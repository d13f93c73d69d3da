"""What a resumed run keeps of the command it began with, and which flags it refuses."""

import shlex

from mixer_tf.runs import Run
from mixer_tf.zoo import MODELS


def begun(out, names):
    """`{name: Run}` of the models of a training or a comparison that have begun."""
    if Run(out).config_file.exists():  # of a training
        return {names[0]: Run(out)}
    runs = {name: Run(out / name) for name in names}
    return {name: run for name, run in runs.items() if run.config_file.exists()}


def kept(run):
    """What a run began with, as flags; its model only where it has a name."""
    config = run.config()
    names = ("data", "seed", "precision", "pretrained", "save_every")
    flags = {name: getattr(config, name) for name in names}
    if config.model_name in MODELS:
        flags["model"] = config.model_name
    if config.asked_size:
        flags["image_size"] = config.asked_size[0]  # the flag is for squares
    if config.split:
        flags["validation_fraction"] = config.split[0]
    return flags


def check(run, given, flags, recipe):
    """Refuse a flag that says otherwise than the run to be resumed, which keeps what it has.

    Args:
        run: that has begun.
        given: names of the flags on the command line.
        flags: name -> value, with what the run keeps where nothing was given.
        recipe: what the flags make of its recipe, in epochs.

    Raises:
        ValueError: they differ.
    """
    config = run.config()
    has = kept(run) | config.recipe.to_dict()
    del has["data"]  # it may have moved; `resume` compares the pictures
    del has["save_every"]  # the result is the same
    has["image_size"] = config.input_shape[0]
    if flags["precision"] == config.trained_in:
        has["precision"] = config.trained_in  # as what "auto" chose may be said
    asked = {name: flags.get(name) for name in has} | recipe.to_dict()
    wanted = {name for name in given if name in has}
    if "recipe" in given:
        wanted |= set(recipe.to_dict())
    if "per_device" in given:
        wanted |= {"batch_size"}
    for name in sorted(wanted):
        if asked[name] != has[name]:
            raise ValueError(
                f"{run.folder} has {name} {has[name]}, the command says {asked[name]}; a run that "
                "is resumed keeps what it began with. Leave that flag out, or begin a new run "
                f"(--pretrained {shlex.quote(str(run.folder))} takes its weights)."
            )
