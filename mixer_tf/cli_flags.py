"""What the commands that train are asked for: their flags, and the data and recipe these mean."""

import dataclasses
import pathlib
import shlex
import sys

import click

from mixer_tf import zoo
from mixer_tf.console import load_backend, remark

_ADAM_LIKE = {"adamw", "adam", "lamb", "radam"}  # a rate that suits one suits the others


def training_flags(command):
    """The flags that every command that trains has."""
    flags = [
        click.option(
            "--data",
            default="digits",
            show_default=True,
            help="digits, cifar10, cifar100, a folder or a .zip of class folders.",
        ),
        click.option(
            "--out",
            type=click.Path(path_type=pathlib.Path),
            help="Folder for the run; by default a new one below runs/.",
        ),
        click.option(
            "--recipe",
            help="How to train: quick, cifar, digits, finetune, rows or ancestor; by default "
            "finetune with --pretrained, digits for the digits, else quick.",
        ),
        click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's."),
        click.option("--batch-size", type=click.IntRange(1), help="Instead of the recipe's."),
        click.option(
            "--optimizer", help="Instead of the recipe's: adamw, adam, sgd, lamb, muon or radam."
        ),
        click.option(
            "--learning-rate",
            type=click.FloatRange(0, min_open=True),
            help="Its peak, instead of the recipe's.",
        ),
        click.option("--weight-decay", type=click.FloatRange(0), help="Instead of the recipe's."),
        click.option(
            "--image-size",
            type=click.IntRange(1),
            help="Height and width the model sees, in pixels.",
        ),
        click.option(
            "--precision",
            default="auto",
            show_default=True,
            help="auto, float32, mixed_float16 or mixed_bfloat16.",
        ),
        click.option(
            "--pretrained",
            help="Weights to begin with: a Google .npz, a timm .safetensors, a run, or a name "
            "such as mixer_b16_in21k.",
        ),
        click.option("--freeze", help="What does not train: stem, or blocks (with the stem)."),
        click.option(
            "--layer-decay", type=float, help="Factor on the learning rate from block to block."
        ),
        click.option(
            "--accumulate", type=click.IntRange(1), help="Parts to compute each batch in."
        ),
        click.option(
            "--recompute", is_flag=True, default=None, help="Less memory for deep Mixers, slower."
        ),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
        click.option(
            "--per-device",
            type=click.IntRange(1),
            help="Pictures of each batch on each device; the recipe's learning rate follows.",
        ),
        click.option(
            "--shares", type=click.IntRange(1), help="Parts of a batch that hosts augment apart."
        ),
        click.option(
            "--save-every", type=click.IntRange(1), default=None, help="Steps between two savings."
        ),
        click.option("--resume", is_flag=True, help="Go on with the run in --out."),
        click.option("--strict", is_flag=True, help="Refuse pictures that cannot be read."),
    ]
    for flag in reversed(flags):
        command = flag(command)
    return command


def prepare(names, flags, default_name):
    """What the flags of a training command mean.

    Args:
        names: of the models.
        flags: name -> value, as click gives them.
        default_name: of the folder below `runs/`, `{data}` standing for that of the data.

    Returns:
        `(data, recipe, out, options of train)`.

    Raises:
        ValueError: flags that do not fit each other, or the run that is to be resumed.
    """
    if flags["resume"] and not flags["out"]:
        raise ValueError("--resume needs --out, the folder of the run to go on with.")
    if flags["per_device"] and flags["batch_size"]:
        raise ValueError("Give --batch-size, for all devices together, or --per-device, not both.")
    given = _given()
    begun = _begun(flags["out"], names) if flags["resume"] else []
    read_at = base = None
    if begun:  # what is not said again is as it was, also for models that have not begun
        kept = begun[0].config()
        read_at, base = kept.input_shape[:2], kept.recipe
        flags = {**flags, **{name: v for name, v in _kept(begun[0]).items() if name not in given}}
    load_backend(computing=False)
    if not flags["out"] and _is_one_of_several():
        raise ValueError("Several hosts need --out, one folder that all of them see.")
    recipe = _recipe(flags, None if "recipe" in given else base)

    from mixer_tf.data import load_data

    size = flags["image_size"]
    size = (size, size) if size else None
    first = zoo.find(names[0])
    own_size = first.input_shape[:2] if first.own_size else None
    data = load_data(
        flags["data"], read_at or size or own_size, seed=flags["seed"], strict=flags["strict"]
    )
    remark(data.report)
    for run in begun:
        _check_kept(run, given, flags, recipe.in_epochs(len(data.train)))
    stem = pathlib.Path(flags["data"]).stem
    out = flags["out"] or _free(pathlib.Path("runs") / default_name.format(data=stem))
    options = {
        "source": flags["data"],
        "image_size": size,
        "seed": flags["seed"],
        "precision": flags["precision"],
        "pretrained": flags["pretrained"] or "",
        "command": "python -m mixer_tf " + shlex.join(sys.argv[1:]),
        "save_every": flags["save_every"] or 0,
    }
    return data, recipe, out, options


def _given():
    """Names of the flags that stand on the command line."""
    context = click.get_current_context()
    typed = click.core.ParameterSource.COMMANDLINE
    return {name for name in context.params if context.get_parameter_source(name) == typed}


def _is_one_of_several():
    from mixer_tf import hosts

    return hosts.join() is not None


def _recipe(flags, base=None):
    """A recipe with what the flags change in it.

    Args:
        flags: name -> value.
        base: the recipe of a run that has begun, as plain values; else it is the one that
            is named or suits the data.
    """
    from mixer_tf.recipe import Recipe
    from mixer_tf.recipes import RECIPES, default_recipe

    stem = pathlib.Path(flags["data"]).stem
    name = flags["recipe"] or default_recipe(stem, flags["pretrained"])
    if name not in RECIPES:
        raise ValueError(zoo.unknown("recipe", name, RECIPES))
    recipe = named = Recipe.from_dict(base) if base else RECIPES[name]
    if flags["per_device"]:
        from mixer_tf import batch_size, runtime

        replicas = runtime.choose(flags["precision"]).replicas
        recipe = batch_size.scaled(named, flags["per_device"], replicas)
    fields = [field.name for field in dataclasses.fields(named)]
    changes = {k: flags[k] for k in fields if flags.get(k) is not None}
    if "epochs" in changes:
        changes["steps"] = 0  # of a recipe that counts in steps
        changes["warmup_epochs"] = named.warmup_epochs * changes["epochs"] / named.epochs
    recipe = dataclasses.replace(recipe, **changes)
    kinds = {recipe.optimizer, named.optimizer}
    if len(kinds) > 1 and not kinds <= _ADAM_LIKE and not flags["learning_rate"]:
        raise ValueError(
            f"The recipe {name} has a learning rate for {named.optimizer}, {named.learning_rate}; "
            f"with --optimizer {recipe.optimizer} give --learning-rate and --weight-decay as well. "
            "Usual are, together: 0.002 and 0.05 for adamw, 0.01 and 0.05 for muon, 0.1 and 0.005 "
            "for sgd."
        )
    return recipe


def _begun(out, names):
    """The runs of a training or a comparison that have begun."""
    from mixer_tf.runs import Run

    runs = [Run(folder) for folder in (out, *(out / name for name in names))]
    return [run for run in runs if run.config_file.exists()]


def _kept(run):
    """What a run began with, as flags; its model only where it has a name."""
    config = run.config()
    kept = {name: getattr(config, name) for name in ("data", "seed", "precision", "pretrained")}
    if isinstance(config.model, str):
        kept["model"] = config.model
        entry, side = zoo.find(config.model), config.input_shape[0]
        if entry.own_size and side != entry.input_shape[0]:
            kept["image_size"] = side  # not the model's own: it was asked for
    return kept


def _check_kept(run, given, flags, recipe):
    """Refuse a flag that says otherwise than the run to be resumed, which keeps what it has."""
    kept = _kept(run) | run.config().recipe
    del kept["data"]  # it may have moved; `resume` compares the pictures
    kept["image_size"] = run.config().input_shape[0]
    asked = {name: flags.get(name) for name in kept} | recipe.to_dict()
    wanted = {name for name in given if name in kept}
    if "recipe" in given:
        wanted |= set(run.config().recipe)
    if "per_device" in given:
        wanted |= {"batch_size"}
    for name in sorted(wanted):
        if asked[name] != kept[name]:
            raise ValueError(
                f"{run.folder} has {name} {kept[name]}, the command says {asked[name]}; a run that "
                "is resumed keeps what it began with. Leave that flag out, or begin a new run "
                f"(--pretrained {run.folder} takes its weights)."
            )


def _free(path):
    """`path`, or `path-2`, `path-3` ... where that holds something already."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
