"""The commands that train: `train` and `compare`."""

import contextlib
import shlex

import click

from mixer_tf import zoo
from mixer_tf.command_line.flags import training_flags
from mixer_tf.command_line.plan import make_plan
from mixer_tf.reading.report import printable


class Stopped(click.ClickException):
    """Ctrl-C during a training whose state has been saved; exit code 130, as shells expect."""


@contextlib.contextmanager
def _resumable(how):
    """Say how to go on where a training is stopped: `how`, flags for the same command."""
    from mixer_tf.training.saving import Interrupted

    try:
        yield
    except Interrupted as error:
        raise Stopped(f"stopped and saved; {how} goes on from here") from error


@click.command()
@click.option("--model", default="mixer_nano", show_default=True, help="A name from `models`.")
@training_flags
def train(model, **flags):
    """Train one model into a run directory."""
    zoo.find(model)
    plan = make_plan([model], {**flags, "model": model}, f"{{data}}-{model}")
    data = plan.data[model]
    own = {"callbacks": lambda run: tensorboard_callbacks(run, data), "own_process": True}
    from mixer_tf import train as training

    with _resumable(f"--resume --out {shlex.quote(str(plan.out))}"):
        if flags["resume"]:
            save_every = plan.options["save_every"]
            result = training.resume(plan.out, data, save_every=save_every, **own)
        else:
            result = training.train(model, data, plan.recipe, plan.out, **plan.options, **own)
    if _is_chief():
        _report(result, plan.out)


@click.command()
@click.option(
    "--models",
    "names",
    multiple=True,
    help="Names from `models`, for example --models mixer_nano resnet20.",
)
@click.argument("more", nargs=-1)
@training_flags
def compare(names, more, **flags):
    """Train several models under one recipe and put them side by side."""
    names = [*names, *more] or ["mixer_nano", "resnet20"]
    for name in names:
        zoo.find(name)
    if flags["resume"] and flags["out"]:
        begun = sorted(path.parent.name for path in flags["out"].glob("*/config.json"))
        single = (flags["out"] / "config.json").exists()
        if single or not any((flags["out"] / name).exists() for name in names):
            raise ValueError(
                f"{flags['out']} holds "
                + ("a single run: train --resume goes on with it." if single else "no comparison.")
            )
        if set(begun) - set(names):
            raise ValueError(
                f"{flags['out']} compares {', '.join(begun)}, and --models says "
                f"{', '.join(names)}; give the command it began with, and --resume."
            )
    plan = make_plan(names, flags, "compare-{data}")
    out = plan.out
    from mixer_tf import compare as comparing

    # The whole of it: models that have not begun need all that the first ones were given.
    with _resumable(f"the same command with --resume --out {shlex.quote(str(out))}"):
        comparing.compare(
            names,
            plan.data,
            plan.recipe,
            out,
            resuming=flags["resume"],
            callbacks=lambda run: tensorboard_callbacks(run, plan.data[run.folder.name]),
            **plan.options,
        )
    if not _is_chief():
        return
    click.echo((out / "comparison.md").read_text("utf-8"), nl=False)
    click.echo(f"\npicture: {out / 'comparison.png'}\n{_how_to_look(out)}")


def _is_chief():
    from mixer_tf.distributed import hosts

    return hosts.join() is None or hosts.join().is_chief


def tensorboard_callbacks(run, data):
    """What the commands show in TensorBoard.

    Raises:
        ValueError: another module has the name of the package `callbacks`.
    """
    import callbacks

    if not hasattr(callbacks, "Curves"):
        raise ValueError(
            f"{callbacks.__file__} hides this suite's package callbacks; start in another folder, "
            "or give that file another name."
        )
    from mixer_tf.sampling import sample
    from mixer_tf.variants import find_mixer

    config, folder = run.config(), run.folder
    # Not of the test set: who looks on while a model learns would choose by what he sees.
    images, labels = sample(data.validation, config.input_shape[:2])
    shown = [
        callbacks.Curves(folder),
        callbacks.PatchProjections(folder),
        callbacks.EmbeddingProjector(folder, images, labels, data.class_names),
        callbacks.Throughput(folder, config.recipe.part_size),
        callbacks.Confusion(folder, images, labels, data.class_names),
    ]
    if find_mixer(config.model):
        # Of a long run some fifty drawings do: each takes as long as dozens of steps.
        shown.append(callbacks.TokenMixing(folder, every=-(-config.recipe.epochs // 50)))
    return shown


def _report(result, out):
    click.echo(
        f"{result['model']} on {result['data']}: test accuracy "
        f"{100 * result['test_accuracy']:.2f} ± {100 * result['test_standard_error']:.2f} %, "
        f"{result['train_seconds']:.0f} s\n"
        f"run: {printable(str(out))}\n"
        f"{_how_to_look(out)}"
    )


def _how_to_look(out):
    folder = shlex.quote(str(out))
    return f"curves and filters: tensorboard --logdir {folder} --samples_per_plugin images=200"
