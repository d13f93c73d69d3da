"""The commands that train: `train` and `compare`."""

import contextlib
import dataclasses
import pathlib
import shlex
import sys

import click

from mixer_tf import zoo
from mixer_tf.console import load_backend, remark
from mixer_tf.report import printable


class Stopped(click.ClickException):
    """Ctrl-C during a training whose state has been saved; exit code 130, as shells expect."""


@contextlib.contextmanager
def _resumable(how):
    """Say how to go on where a training is stopped: `how`, flags for the same command."""
    from mixer_tf.state import Interrupted

    try:
        yield
    except Interrupted as error:
        raise Stopped(f"stopped and saved; {how} goes on from here") from error


def _training_flags(command):
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
            help="Pictures of each batch on each device; the learning rate follows (linear rule).",
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


@click.command()
@click.option("--model", default="mixer_nano", show_default=True, help="A name from `models`.")
@_training_flags
def train(model, **flags):
    """Train one model into a run directory."""
    zoo.find(model)
    data, recipe, out, options = _prepare([model], flags, f"{_stem(flags)}-{model}")
    from mixer_tf import train as training

    with _resumable(f"--resume --out {out}"):
        if flags["resume"]:
            kept = {name: options[name] for name in ("callbacks", "save_every")}
            result = training.resume(out, data, own_process=True, **kept)
        else:
            result = training.train(model, data, recipe, out, own_process=True, **options)
    if _is_chief():
        _report(result, out)


@click.command()
@click.option(
    "--models",
    "names",
    multiple=True,
    help="Names from `models`, for example --models mixer_nano resnet20.",
)
@click.argument("more", nargs=-1)
@_training_flags
def compare(names, more, **flags):
    """Train several models under one recipe and put them side by side."""
    names = [*names, *more] or ["mixer_nano", "resnet20"]
    for name in names:
        zoo.find(name)
    if flags["resume"] and flags["out"]:
        begun = sorted(path.parent.name for path in flags["out"].glob("*/config.json"))
        if set(begun) - set(names):
            raise ValueError(
                f"{flags['out']} compares {', '.join(begun)}, and --models says "
                f"{', '.join(names)}; give the command it began with, and --resume."
            )
    data, recipe, out, options = _prepare(names, flags, f"compare-{_stem(flags)}")
    from mixer_tf import compare as comparing

    # The whole of it: models that have not begun need all that the first ones were given.
    with _resumable(f"the same command with --resume --out {out}"):
        comparing.compare(names, data, recipe, out, resuming=flags["resume"], **options)
    if not _is_chief():
        return
    click.echo((out / "comparison.md").read_text("utf-8"), nl=False)
    click.echo(
        f"\npicture: {out / 'comparison.png'}\ncurves and filters: tensorboard --logdir {out} "
        "--samples_per_plugin images=200"
    )


def _is_one_of_several():
    from mixer_tf import hosts

    return hosts.join() is not None


def _is_chief():
    from mixer_tf import hosts

    return hosts.join() is None or hosts.join().is_chief


def _stem(flags):
    return pathlib.Path(flags["data"]).stem


def _prepare(names, flags, default_name):
    """Load data and recipe of a training command: `(data, recipe, out, options of train)`."""
    if flags["resume"] and not flags["out"]:
        raise ValueError("--resume needs --out, the folder of the run to go on with.")
    out = flags["out"] or _free(pathlib.Path("runs") / default_name)
    if flags["per_device"] and flags["batch_size"]:
        raise ValueError("Give --batch-size, for all devices together, or --per-device, not both.")
    if flags["resume"]:
        flags = {**flags, **_begun(out, names)}
    load_backend(computing=False)
    if not flags["out"] and _is_one_of_several():
        raise ValueError("Several hosts need --out, one folder that all of them see.")
    from mixer_tf.recipes import RECIPES, default_recipe

    name = flags["recipe"] or default_recipe(_stem(flags), flags["pretrained"])
    if name not in RECIPES:
        raise ValueError(zoo.unknown("recipe", name, RECIPES))
    fields = [field.name for field in dataclasses.fields(RECIPES[name])]
    changes = {k: flags[k] for k in fields if flags.get(k) is not None}
    if "epochs" in changes:
        changes["steps"] = 0  # of a recipe that counts in steps
    recipe = dataclasses.replace(RECIPES[name], **changes)
    if flags["per_device"]:
        from mixer_tf import batch_size, runtime

        replicas = runtime.choose(flags["precision"]).replicas
        recipe = batch_size.scaled(recipe, flags["per_device"], replicas)
    from mixer_tf.data import load_data

    size = flags["image_size"]
    size = (size, size) if size else None
    first = zoo.find(names[0])
    own_size = first.input_shape[:2] if first.own_size else None
    data = load_data(
        flags["data"],
        flags.get("begun_with") or size or own_size,
        seed=flags["seed"],
        strict=flags["strict"],
    )
    remark(data.report)
    options = {
        "source": flags["data"],
        "image_size": size,
        "seed": flags["seed"],
        "precision": flags["precision"],
        "pretrained": flags["pretrained"] or "",
        "command": "python -m mixer_tf " + shlex.join(sys.argv[1:]),
        "callbacks": lambda run: _tensorboard(run, data),
        "save_every": flags["save_every"] or 0,
    }
    return data, recipe, out, options


def _begun(out, names):
    """What a run to be resumed began with, as far as it decides which pictures train."""
    from mixer_tf.runs import Run

    runs = [Run(folder) for folder in (out, *(out / name for name in names))]
    for run in runs:
        if run.config_file.exists():
            config = run.config()
            size = config.input_shape[:2]
            return {"data": config.data, "seed": config.seed, "begun_with": size}
    return {}


def _tensorboard(run, data):
    """What the commands show in TensorBoard."""
    import callbacks
    from mixer_tf.recipe import Recipe
    from mixer_tf.subject import sample
    from mixer_tf.variants import find_mixer

    config, folder = run.config(), run.folder
    recipe = Recipe.from_dict(config.recipe)
    images, labels = sample(data.test, config.input_shape[:2])
    shown = [
        callbacks.Curves(folder),
        callbacks.PatchProjections(folder),
        callbacks.EmbeddingProjector(folder, images, labels, data.class_names),
        callbacks.Throughput(folder, recipe.part_size),
        callbacks.Confusion(folder, images, labels, data.class_names),
    ]
    if find_mixer(config.model):
        # Of a long run some fifty drawings do: each takes as long as dozens of steps.
        shown.append(callbacks.TokenMixing(folder, every=-(-recipe.epochs // 50)))
    return shown


def _free(path):
    """`path`, or `path-2`, `path-3` ... where that holds something already."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def _report(result, out):
    click.echo(
        f"{result['model']} on {result['data']}: test accuracy "
        f"{100 * result['test_accuracy']:.2f} ± {100 * result['test_standard_error']:.2f} %, "
        f"{result['train_seconds']:.0f} s\n"
        f"run: {printable(str(out))}\n"
        f"curves and filters: tensorboard --logdir {out} --samples_per_plugin images=200"
    )
