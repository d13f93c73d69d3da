"""The commands. Everything heavy is imported by the command that needs it."""

import json
import os
import pathlib
import sys

import click

from mixer_tf import zoo
from mixer_tf.command_line.console import load_backend, remark
from mixer_tf.command_line.training import Stopped, compare, train
from mixer_tf.distributed.cluster import TRY_AGAIN, WorkerLost
from mixer_tf.reading.report import printable
from mixer_tf.version import __version__


def main(arguments=None):
    """Run a command; a mistake of the user's ends with one line and exit code 2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if getattr(sys.stdout, "errors", "") == "strict":  # a path may be no text: printed all the same
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        commands.main(arguments, prog_name="python -m mixer_tf", standalone_mode=False)
    except click.exceptions.Abort:
        _stop("stopped", 130)
    except click.ClickException as error:
        _stop(error.format_message(), 130 if isinstance(error, Stopped) else 2)
    except WorkerLost as error:
        print(f"mixer_tf: {error}", file=sys.stderr, flush=True)
        os._exit(TRY_AGAIN)  # an engine that has lost its peers may wait for them at its end
    except (ValueError, OSError) as error:
        if os.environ.get("MIXER_TF_TRACEBACK"):
            raise
        _stop(str(error), 2)
    except Exception as error:
        from mixer_tf.training.guard import is_memory_full

        if os.environ.get("MIXER_TF_TRACEBACK") or not is_memory_full(error):
            raise
        _stop(f"The memory is full ({str(error)[:200] or 'of the computer'}).", 2)


def _stop(message, code):
    # A message of several lines would hide which of them matters.
    print("mixer_tf: " + printable(" ".join(message.split())), file=sys.stderr)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mixer_tf")
def commands():
    """MLP-Mixer for Keras: train it, compare it, look inside it."""


commands.add_command(train)
commands.add_command(compare)


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
    load_backend()
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
        f"one random picture -> {output.shape[1]} {'pre-logits' if classes == 0 else 'logits'}, "
        f"{1000 * seconds:.1f} ms"
    )


@commands.command()
@click.argument("run", type=click.Path(path_type=pathlib.Path))
@click.option(
    "--data",
    help="Whose test set to take, by default what the run was trained on; of class folders "
    "without a test set, the tenth that training would hold out.",
)
def evaluate(run, data):
    """Test the best weights of a run."""
    from mixer_tf.runs import Run

    opened = Run.open(run)
    config = opened.config()
    load_backend()
    from mixer_tf import evaluate as evaluating
    from mixer_tf.run_data import load_run_data

    found = load_run_data(config, data)
    remark(found.report)
    scores = evaluating.evaluate(opened, found)
    click.echo(
        f"{config.model_name} on {found.name}: accuracy {100 * scores['accuracy']:.2f} ± "
        f"{100 * scores['standard_error']:.2f} %, loss {scores['loss']:.4f}, "
        f"{scores['n']:,} test pictures"
    )


@commands.command()
@click.argument("run", type=click.Path(path_type=pathlib.Path))
def visualize(run):
    """Draw what a run learned, as PNG and one page, into RUN/figures."""
    from mixer_tf.runs import Run

    Run.open(run)  # or says that there is none
    load_backend()
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
    load_backend()
    from mixer_tf import predict as predicting
    from mixer_tf.reading.report import Report

    report = Report()
    answers = predicting.predict(opened.model(), names, pictures, top, report)
    if as_json:
        click.echo(json.dumps(list(answers), indent=2, ensure_ascii=False))
        answers = ()
    for answer in answers:
        click.echo(printable(answer["picture"]))
        for row in answer["top"]:
            click.echo(f"  {100 * row['probability']:6.2f} %  {printable(row['class'])}")
    remark(report)


@commands.command()
@click.argument("source", type=click.Path(path_type=pathlib.Path))
@click.argument("target", type=click.Path(path_type=pathlib.Path))
@click.option("--model", help="Its name from `models`; a run knows its own.")
@click.option("--classes", type=click.IntRange(0), help="Of a .weights.h5; by default published.")
@click.option("--image-size", type=click.IntRange(1), help="By default the published one.")
def convert(source, target, model, classes, image_size):
    """Convert weights of Google, timm or Keras to a file of Google or Keras.

    SOURCE is an .npz (Google), a .safetensors (timm), a .weights.h5 (Keras) or a
    run; TARGET is an .npz or a .weights.h5.
    """
    load_backend()
    from mixer_tf.exchange import convert as converting

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
    load_backend()
    from mixer_tf import export as exporting

    exporting.check(form, precision)  # before pictures are read for it
    endings = {"saved_model": "saved_model", "onnx": "model.onnx"}
    out = out or run / endings.get(form, f"model-{precision}.tflite")
    examples = None
    if precision == "int8":
        from mixer_tf.run_data import load_run_data
        from mixer_tf.sampling import sample

        examples, _ = sample(load_run_data(config).train, config.input_shape[:2], count=200)
    exporting.export(opened.model(), out, form, precision, examples)
    click.echo(f"{out}: {exporting.size_on_disk(out) / 1e6:,.2f} MB")
