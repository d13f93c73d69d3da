"""Several models, one data set, one recipe: a table and a picture."""

import pathlib

from mixer_tf import figures, zoo
from mixer_tf.distributed import hosts
from mixer_tf.runs import Run
from mixer_tf.storage import files
from mixer_tf.train import check, resume, train


def compare(models, data, recipe, out, *, resuming=False, callbacks=lambda run: [], **options):
    """Train each model into `out/<model>` and put them side by side.

    Args:
        models: names in `MODELS`, at least one.
        data: a `Data`, or one for each name in a dict.
        recipe: the `Recipe` that all of them follow.
        out: folder of the comparison.
        resuming: go on with what is there: ended runs are taken as they are.
        callbacks: as for `train`.
        **options: further arguments of `train`.

    Returns:
        One result (as in `result.json`) for each model. Beside the run folders
        are written `comparison.png` and `comparison.md`.

    Raises:
        ValueError: a name is unknown or stands twice, or `out` holds other files, or
            one of the models cannot be trained so; nothing has been trained then.
    """
    if not len(models):
        raise ValueError("No model is given; name at least one.")
    if not isinstance(data, dict):
        data = dict.fromkeys(models, data)
    out = pathlib.Path(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder.")
    for name in models:
        if not (resuming and (begun := Run(out / name)).config_file.exists()):
            given = {k: options[k] for k in ("image_size", "pretrained") if k in options}
            check(name, data[name], recipe, **given)
        elif begun.config().recipe.to_dict() != recipe.in_epochs(len(data[name].train)).to_dict():
            raise ValueError(
                f"{begun.folder} began with another recipe; compare under the one in its "
                "config.json, or begin a new comparison."
            )
        if list(models).count(name) > 1:
            raise ValueError(f"{name} stands twice among the models; give each one once.")
    several = hosts.join()
    is_chief = several is None or several.is_chief
    if is_chief and out.exists() and any(out.iterdir()) and not resuming:
        raise ValueError(f"{out} is not empty; give another --out, or --resume to go on with it.")

    results = []
    for name in models:
        folder = out / name
        if resuming and (folder / "config.json").exists():
            kept = {name: options[name] for name in ("save_every", "quiet") if name in options}
            results.append(resume(folder, data[name], callbacks=callbacks, **kept))
        else:
            results.append(train(name, data[name], recipe, folder, callbacks=callbacks, **options))

    if not is_chief:
        return results
    runs = [_summary(out / name, name) for name in models]
    with files.replacing(out / "comparison.png") as beside:
        figures.save(figures.comparison(runs, data[models[0]].name), beside)
    with files.replacing(out / "comparison.md") as beside:
        beside.write_text(table(runs) + "\n", "utf-8")
    return results


def _summary(folder, name):
    run = Run.open(folder)
    model = run.config().build()
    return {
        "name": name,
        "history": run.history(),
        "result": run.result(),
        "macs": zoo.count_macs(model),
    }


def table(runs):
    """The comparison as a Markdown table, one row a model."""
    lines = [
        "| model | weights | MACs per picture | test accuracy | time, all included "
        "| pictures/s (median epoch) |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for run in runs:
        result = run["result"]
        lines.append(
            f"| {run['name']} | {result['parameters']:,} | {run['macs'] / 1e6:.1f} M "
            f"| {100 * result['test_accuracy']:.2f} ± {100 * result['test_standard_error']:.2f} % "
            f"| {result['train_seconds']:,.0f} s | {result['images_per_second']:,.0f} |"
        )
    return "\n".join(lines)
