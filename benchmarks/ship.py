"""Take an ended run into `weights/`, with its model card.

    python benchmarks/ship.py runs/nano cifar10 --note "JPEG copy of CIFAR-10"

The card is made from what the run wrote; nothing in it is typed by hand but the note, and a line
"Changed since" where what the command does has changed.
"""

import argparse
import hashlib
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from results import minutes

from mixer_tf import figures, shipped
from mixer_tf.runs import Run
from mixer_tf.storage import files

SNAPSHOTS = 10  # of the stem's filters; a column each in a figure
CARD = """# {model}, trained on {data}

- **Model:** `{use}`, {parameters:,} weights, pictures {size}, {classes} classes
- **Input and output:** pictures [N, {shape}] in [0, 255]; logits [N, {classes}] of {names}
- **Data:** {data}{note}
- **Recipe:** {recipe}
- **Command, one run, seed {seed}:** `{command}`
- **Test accuracy:** {accuracy:.2f} ± {error:.2f} % (standard error over {pictures:,} pictures)
- **Hardware and time:** {hardware}, {epochs} epochs, {minutes:.0f} minutes at their median rate
- **Versions:** {versions}
- **Limits:** knows these {classes} classes only and answers with one of them for any picture
- **Licence:** Apache-2.0
- **SHA-256 of model.weights.h5:** {sum}
"""


def main():
    """Copy, then write the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("data")
    parser.add_argument("--note", default="")
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    config, result = run.config(), run.result()
    folder = ship(run, arguments.data)
    sums = (folder / shipped.SUMS).read_text().splitlines()
    card = CARD.format(
        model=config.model_name,
        use=f'mixer_tf.build("{config.model_name}", weights="{arguments.data}")',
        data=arguments.data,
        note=f" ({arguments.note})" if arguments.note else "",
        parameters=result["parameters"],
        size="x".join(map(str, config.input_shape)),
        classes=config.num_classes,
        names=", ".join(config.class_names),
        shape=", ".join(map(str, config.input_shape)),
        recipe=", ".join(f"{name} {value}" for name, value in said(config.recipe.to_dict())),
        command=result["command"],
        seed=result["seed"],
        accuracy=100 * result["test_accuracy"],
        error=100 * result["test_standard_error"],
        pictures=result["test_pictures"],
        hardware=f"{result['device']}, matrix products in {result['products']}",
        minutes=minutes(run, result["epochs"]),
        epochs=result["epochs"],
        versions=", ".join(f"{name} {value}" for name, value in result["versions"].items()),
        sum=next(line.split()[0] for line in sums if line.endswith(run.best_file.name)),
    )
    (folder / "README.md").write_text(card)
    print(folder)


def ship(run, data):
    """Put what others need of an ended run into `weights/`.

    Args:
        run: a `Run` that has ended.
        data: short name of what it was trained on.

    Returns:
        The folder. Its model card is left to write.

    Raises:
        ValueError: the run has not ended, or was trained on something else.
    """
    run.result()  # or says that it has not ended
    if not isinstance(run.config().model, str):
        raise ValueError(
            f"{run.folder} is of a model without a name; weights are asked for by one."
        )
    trained_on = pathlib.Path(run.config().data).stem
    if trained_on != data:
        raise ValueError(f"{run.folder} was trained on {trained_on}; it cannot go as {data!r}.")
    folder = shipped.FOLDER / f"{run.config().model_name}-{data}"
    folder.mkdir(parents=True, exist_ok=True)
    kept = [run.config_file, run.best_file, run.history_file, run.result_file]
    for file in kept:
        with files.replacing(folder / file.name) as beside:
            beside.write_bytes(file.read_bytes())
    if run.filters_file.exists():
        kept.append(run.filters_file)
        ship_filters(run.filters_file, folder / run.filters_file.name)
    sums = [
        f"{hashlib.sha256((folder / file.name).read_bytes()).hexdigest()}  {file.name}"
        for file in kept
    ]
    with files.replacing(folder / shipped.SUMS) as beside:
        beside.write_text("\n".join(sums) + "\n")
    return folder


def ship_filters(source, target):
    """Some of the snapshots that `callbacks.PatchProjections` wrote, evenly over the epochs."""
    with np.load(source, allow_pickle=False) as file:
        order, epochs, kernels = file["order"], file["epochs"], file["kernels"]
    some = figures.evenly(epochs, SNAPSHOTS)
    with files.replacing(target) as beside, open(beside, "wb") as file:
        np.savez_compressed(file, order=order, epochs=epochs[some], kernels=kernels[some])


def said(recipe):
    """What a recipe does, without what it leaves alone: (name, value)."""
    alone = {"accumulate": 1, "shares": 1, "layer_decay": 1.0}
    augmentation = dict(recipe["augmentation"])
    if not augmentation["rand_augment"]:
        del augmentation["magnitude"]
    if not (augmentation["mixup"] or augmentation["cutmix"]):
        del augmentation["mix_probability"]
    for name, value in {**recipe, **augmentation}.items():
        if name != "augmentation" and value and value != alone.get(name):
            yield name.replace("_", " "), value


if __name__ == "__main__":
    main()
