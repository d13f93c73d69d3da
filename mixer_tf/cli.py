"""The commands. Everything heavy is imported by the command that needs it."""

import contextlib
import dataclasses
import importlib
import json
import os
import pathlib
import shlex
import sys

import click

from mixer_tf import zoo
from mixer_tf.cluster import TRY_AGAIN, WorkerLost
from mixer_tf.report import printable
from mixer_tf.version import __version__


def main(arguments=None):
    """Run a command; a mistake of the user's ends with one line and exit code 2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        commands.main(arguments, prog_name="python -m mixer_tf", standalone_mode=False)
    except click.exceptions.Abort:
        _stop("stopped", 130)
    except click.ClickException as error:
        _stop(error.format_message(), 130 if isinstance(error, _Stopped) else 2)
    except WorkerLost as error:
        print(f"mixer_tf: {error}", file=sys.stderr, flush=True)
        os._exit(TRY_AGAIN)  # an engine that has lost its peers may wait for them at its end
    except (ValueError, OSError) as error:
        if os.environ.get("MIXER_TF_TRACEBACK"):
            raise
        _stop(str(error), 2)


def _load_backend():
    """Import Keras, and where the environment names other hosts, join them.

    The lines that TensorFlow writes to standard error as it starts are left out:
    they come from C++ before its logging can be turned down, and would bury the
    one line that matters. What fails still raises.
    """
    with _silence():
        importlib.import_module("keras")
    from mixer_tf import hosts

    hosts.join()  # before anything is computed
    with _silence():
        importlib.import_module("keras").activations.relu([0.0])


@contextlib.contextmanager
def _silence():
    """Nothing that is written to standard error, by C++ either, is seen."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _stop(message, code):
    # A message of several lines would hide which of them matters.
    print("mixer_tf: " + printable(" ".join(message.split())), file=sys.stderr)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mixer_tf")
def commands():
    """MLP-Mixer for Keras: train it, compare it, look inside it."""


class _Stopped(click.ClickException):
    """Ctrl-C during a training whose state has been saved; exit code 130, as shells expect."""


@contextlib.contextmanager
def _resumable(out):
    """Say how to go on where a training is stopped."""
    from mixer_tf.state import Interrupted

    try:
        yield
    except Interrupted as error:
        raise _Stopped(f"stopped and saved; --resume --out {out} goes on from here") from error


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
        click.option("--recipe", help="How to train; by default what suits the data."),
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


@commands.command()
def models():
    """List every model: weights, multiply-accumulates of one picture, tokens."""
    header = ("name", "weights", "MACs", "tokens", "picture", "")
    rows = [
        (
            name,
            f"{entry.weights:,}",
            f"{entry.macs / 1e6:,.1f} M",
            f"{zoo.count_tokens(name) or '-'}",
            "x".join(str(n) for n in entry.input_shape[:2]),
            entry.about,
        )
        for name, entry in zoo.MODELS.items()
    ]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(6)]
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, 5)), row[5]]
        click.echo("  ".join(cells).rstrip())


@commands.command()
@click.argument("model")
@click.option("--image-size", type=click.IntRange(1), help="By default the published one.")
@click.option("--classes", type=click.IntRange(0), help="By default the published number.")
def describe(model, image_size, classes):
    """Show the stages of a model, and pass one random picture through it."""
    height, width, channels = zoo.find(model).input_shape
    if image_size:
        height = width = image_size
    _load_backend()
    from mixer_tf import describe as describing

    built = zoo.build(model, (height, width, channels), classes)
    rows = [
        (name, "x".join(map(str, shape)), f"{weights:,}")
        for name, shape, weights in describing.stages(built)
    ]
    for name, shape, weights in [("stage", "shape", "weights"), *rows]:
        click.echo(f"{name:20}  {shape:>12}  {weights:>12}")
    output, seconds = describing.forward_pass(built)
    click.echo(
        f"{model}: {built.count_params():,} weights, {zoo.count_macs(built) / 1e6:,.1f} M MACs\n"
        f"one random picture -> {output.shape[1]} logits, {1000 * seconds:.1f} ms"
    )


@commands.command()
@click.option("--model", default="mixer_nano", show_default=True, help="A name from `models`.")
@_training_flags
def train(model, **flags):
    """Train one model into a run directory."""
    zoo.find(model)
    data, recipe, out, options = _prepare([model], flags, f"{_stem(flags)}-{model}")
    from mixer_tf import train as trainer

    with _resumable(out):
        if flags["resume"]:
            kept = {name: options[name] for name in ("callbacks", "save_every")}
            result = trainer.resume(out, data, own_process=True, **kept)
        else:
            result = trainer.train(model, data, recipe, out, own_process=True, **options)
    if _is_chief():
        _report(result, out)


@commands.command()
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
    data, recipe, out, options = _prepare(names, flags, f"compare-{_stem(flags)}")
    from mixer_tf import compare as comparing

    with _resumable(out):
        comparing.compare(names, data, recipe, out, resuming=flags["resume"], **options)
    if not _is_chief():
        return
    click.echo((out / "comparison.md").read_text("utf-8"), nl=False)
    click.echo(
        f"\npicture: {out / 'comparison.png'}\ncurves and filters: tensorboard --logdir {out} "
        "--samples_per_plugin images=200"
    )


@commands.command()
@click.argument("run", type=click.Path(path_type=pathlib.Path))
@click.option("--data", help="By default what the run was trained on.")
def evaluate(run, data):
    """Test the best weights of a run."""
    from mixer_tf.runs import Run

    opened = Run.open(run)
    config = opened.config()
    _load_backend()
    from mixer_tf.data import load_data
    from mixer_tf.evaluate import predict_logits, score

    test = load_data(data or config.data, config.input_shape[:2], seed=config.seed)
    _remark(test.report)
    if test.class_names != config.class_names:
        raise ValueError(
            f"{run} was trained on {len(config.class_names)} classes of {config.data}; "
            f"{test.name} has {len(test.class_names)} others."
        )
    logits = predict_logits(opened.model(), test.test, config.num_classes)
    scores = score(logits, test.test.labels)
    click.echo(
        f"{config.model_name} on {test.name}: accuracy {100 * scores['accuracy']:.2f} ± "
        f"{100 * scores['standard_error']:.2f} %, loss {scores['loss']:.4f}, "
        f"{scores['n']:,} test pictures"
    )


@commands.command()
@click.argument("run", type=click.Path(path_type=pathlib.Path))
def visualize(run):
    """Draw what a run learned, as PNG and one page, into RUN/figures."""
    from mixer_tf import visualize as drawing

    page = drawing.visualize(run)
    click.echo(f"open {page}")


@commands.command()
@click.argument("run", type=click.Path(path_type=pathlib.Path))
@click.argument("pictures", nargs=-1, required=True, type=click.Path(path_type=pathlib.Path))
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Classes named.")
@click.option("--json", "as_json", is_flag=True, help="For programs: a list of objects.")
def predict(run, pictures, top, as_json):
    """Name the likeliest classes of pictures, or of all pictures in folders."""
    from mixer_tf.runs import Run

    opened = Run.open(run)
    names = opened.config().class_names
    _load_backend()
    from mixer_tf import predict as predicting
    from mixer_tf.report import Report

    report = Report()
    answers = predicting.predict(opened.model(), names, pictures, top, report)
    if as_json:
        click.echo(json.dumps(list(answers), indent=2, ensure_ascii=False))
        answers = ()
    for answer in answers:
        click.echo(printable(answer["picture"]))
        for row in answer["top"]:
            click.echo(f"  {100 * row['probability']:6.2f} %  {printable(row['class'])}")
    _remark(report)


@commands.command()
@click.argument("source", type=click.Path(path_type=pathlib.Path))
@click.argument("target", type=click.Path(path_type=pathlib.Path))
@click.option("--model", help="A Mixer's name from `models`; a run knows its own.")
@click.option("--classes", type=click.IntRange(0), help="Of a .weights.h5; by default published.")
@click.option("--image-size", type=click.IntRange(1), help="By default the published one.")
def convert(source, target, model, classes, image_size):
    """Convert weights between Google's, timm's and Keras's files.

    SOURCE is an .npz (Google), a .safetensors (timm), a .weights.h5 (Keras) or a
    run; TARGET is an .npz or a .weights.h5.
    """
    _load_backend()
    from mixer_tf import convert as converting

    built = converting.convert(source, target, model, classes, image_size)
    click.echo(f"{target}: {built.name}, {built.count_params():,} weights")


@commands.command()
@click.argument("run", type=click.Path(path_type=pathlib.Path))
@click.option("--format", "form", default="saved_model", help="saved_model, onnx or tflite.")
@click.option("--precision", default="float32", help="float32; for tflite also float16 or int8.")
@click.option("--out", type=click.Path(path_type=pathlib.Path), help="By default within RUN.")
def export(run, form, precision, out):
    """Write a run's model for another runtime."""
    from mixer_tf.runs import Run

    opened = Run.open(run)
    config = opened.config()
    _load_backend()
    from mixer_tf import export as exporting

    endings = {"saved_model": "saved_model", "onnx": "model.onnx"}
    out = out or run / endings.get(form, f"model-{precision}.tflite")
    examples = None
    if precision == "int8":
        from mixer_tf.data import load_data

        data = load_data(config.data, config.input_shape[:2], seed=config.seed)
        examples = exporting.examples(data.train, config.input_shape[:2])
    exporting.export(opened.model(), out, form, precision, examples)
    click.echo(f"{out}: {exporting.size_on_disk(out) / 1e6:,.2f} MB")


def _is_one_of_several():
    from mixer_tf import hosts

    return hosts.join() is not None


def _is_chief():
    from mixer_tf import hosts

    return hosts.join() is None or hosts.join().is_chief


def _remark(report):
    """Say what a person should know of the pictures, where there is anything."""
    if report.summary():
        click.echo(f"mixer_tf: {report.summary()}", err=True)


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
    _load_backend()
    if not flags["out"] and _is_one_of_several():
        raise ValueError("Several hosts need --out, one folder that all of them see.")
    from mixer_tf.recipe import RECIPES, default_recipe

    name = flags["recipe"] or default_recipe(_stem(flags))
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
    data = load_data(
        flags["data"],
        size or zoo.find(names[0]).input_shape[:2],
        seed=flags["seed"],
        strict=flags["strict"],
    )
    _remark(data.report)
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
    """Data and seed that a run to be resumed began with: they decide which pictures train."""
    from mixer_tf.runs import Run

    runs = [Run(folder) for folder in (out, *(out / name for name in names))]
    for run in runs:
        if run.config_file.exists():
            config = run.config()
            return {"data": config.data, "seed": config.seed}
    return {}


def _tensorboard(run, data):
    """What the commands show in TensorBoard."""
    import keras

    import callbacks
    from mixer_tf.recipe import Recipe
    from mixer_tf.subject import sample
    from mixer_tf.variants import find_mixer

    config, folder = run.config(), run.folder
    images, labels = sample(data.test, config.input_shape[:2])
    shown = [
        keras.callbacks.TensorBoard(folder, write_graph=False),
        callbacks.PatchProjections(folder),
        callbacks.EmbeddingProjector(folder, images, labels, data.class_names),
        callbacks.Throughput(folder, Recipe.from_dict(config.recipe).part_size),
        callbacks.Confusion(folder, images, labels, data.class_names),
    ]
    return [*shown, callbacks.TokenMixing(folder)] if find_mixer(config.model) else shown


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
