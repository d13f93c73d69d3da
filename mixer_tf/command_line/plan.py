"""What the flags of a training command mean: data, recipe and folder."""

import dataclasses
import functools
import pathlib
import shlex
import sys

import click

from mixer_tf import zoo
from mixer_tf.command_line import resume
from mixer_tf.command_line.console import load_backend, remark
from mixer_tf.recipe import Recipe
from mixer_tf.recipes import RECIPES, default_recipe, tailored
from mixer_tf.runs import free_name


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a training command is to do."""

    data: dict  # name of a model -> the `Data` it is trained on
    recipe: Recipe
    out: pathlib.Path
    options: dict  # of `train`


def make_plan(names, flags, default_name):
    """What the flags of a training command mean.

    Args:
        names: of the models.
        flags: name -> value, as click gives them.
        default_name: of the folder below `runs/`, `{data}` standing for that of the data.

    Returns:
        A `Plan`.

    Raises:
        ValueError: flags that do not fit each other, or the run that is to be resumed.
    """
    if flags["resume"] and not flags["out"]:
        raise ValueError("--resume needs --out, the folder of the run to go on with.")
    if flags["per_device"] and flags["batch_size"]:
        raise ValueError("Give --batch-size, for all devices together, or --per-device, not both.")
    given = _given()
    begun = resume.begun(flags["out"], names) if flags["resume"] else {}
    base = None
    if begun:  # what is not said again is as it was, also for models that have not begun
        first = next(iter(begun.values()))
        base = first.config().recipe
        kept = {k: v for k, v in resume.kept(first).items() if k not in given}
        flags = {**flags, **kept}
    flags = {**flags, "pretrained": _pretrained(flags["pretrained"] or "")}
    name = flags["recipe"] or default_recipe(flags["data"], flags["pretrained"])
    if name not in RECIPES:
        raise ValueError(zoo.unknown("recipe", name, RECIPES))
    load_backend(training=True)
    if not flags["out"] and _is_one_of_several():
        raise ValueError("Several hosts need --out, one folder that all of them see.")
    recipe = _recipe(name, flags, None if "recipe" in given else base)
    data = _data(names, flags, begun)
    for model, run in begun.items():
        resume.check(run, given, flags, recipe.in_epochs(len(data[model].train)))
    folder = default_name.format(data=data[names[0]].name)
    out = flags["out"] or free_name(pathlib.Path("runs") / folder)
    size = flags["image_size"]
    options = {
        "image_size": (size, size) if size else None,
        "seed": flags["seed"],
        "precision": flags["precision"],
        "pretrained": flags["pretrained"],
        "command": "python -m mixer_tf " + shlex.join(sys.argv[1:]),
        "save_every": flags["save_every"] or 0,
    }
    return Plan(data, recipe, out, options)


def _given():
    """Names of the flags that stand on the command line."""
    context = click.get_current_context()
    typed = click.core.ParameterSource.COMMANDLINE
    return {name for name in context.params if context.get_parameter_source(name) == typed}


def _is_one_of_several():
    from mixer_tf.distributed import hosts

    return hosts.join() is not None


def _recipe(name, flags, base):
    """A recipe with what the flags change in it; `base`: of a run that has begun."""
    recipe = base or RECIPES[name]
    if flags["per_device"]:
        from mixer_tf import runtime
        from mixer_tf.distributed import batch_size

        replicas = runtime.choose(flags["precision"]).replicas
        recipe = batch_size.scaled(recipe, flags["per_device"], replicas)
    fields = [field.name for field in dataclasses.fields(Recipe)]
    changes = {k: flags[k] for k in fields if flags.get(k) is not None}
    return tailored(recipe, changes, name)


def _data(names, flags, begun):
    """The data for each model, read at the size that it sees where pictures differ in size."""
    from mixer_tf.data import load_data

    sizes = {name: _size(name, flags["image_size"], begun) for name in names}
    # Models that take pictures of any size take those of the largest that does not.
    largest = max(filter(None, sizes.values()), default=None)

    @functools.cache
    def load(size, **split):
        data = load_data(flags["data"], size, strict=flags["strict"], **split)
        remark(data.report)
        return data

    # Models that have not begun have what the first was given.
    first = {name: flags[name] for name in ("seed", "validation_fraction")}
    if begun:
        first = next(iter(begun.values())).config().how_split
    splits = {name: begun[name].config().how_split if name in begun else first for name in names}
    return {name: load(sizes[name] or largest, **splits[name]) for name in names}


def _pretrained(source):
    """As a run keeps it: a name, or a path that holds from every folder."""
    path = pathlib.Path(source)
    return str(path.absolute()) if source and path.exists() else source


def _size(name, asked, begun):
    if name in begun:
        return begun[name].config().read_size
    if asked:
        return asked, asked
    entry = zoo.find(name)
    return entry.input_shape[:2] if entry.own_size else None
