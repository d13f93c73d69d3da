"""One short training on validation pictures alone, to choose a recipe by; the test set is not read.

    python benchmarks/trial.py mixer_cifar_4 --out runs/trials/a epochs=10 warmup_epochs=1 \\
        optimizer=muon learning_rate=0.01 label_smoothing=0 shift=0.125 flip=True

Words are fields of `Recipe` and of `Augmentation` and their values; what is left out has the
default of those classes. A second start goes on where the first ended. What came of the trials
stands in docs/accuracy.md.
"""

import argparse
import ast
import dataclasses
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from mixer_tf.command_line import console


def main():
    """Train, print the best validation accuracy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("changes", nargs="*", metavar="FIELD=VALUE")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--data", default="cifar10")
    options = parser.parse_intermixed_args()
    console.load_backend(training=True)

    from resumable import train_to_the_end

    from mixer_tf.data import load_data
    from mixer_tf.recipe import Augmentation, Recipe

    changes = dict(change.split("=", 1) for change in options.changes)
    augmentation = Augmentation(**values(Augmentation, changes))
    recipe = Recipe(**values(Recipe, changes), augmentation=augmentation)
    if changes:
        parser.error(f"no field of Recipe or Augmentation: {', '.join(changes)}")
    data = load_data(options.data)
    # Not the name of the data: its "test accuracy" is one of validation pictures.
    data = dataclasses.replace(
        data, name=f"{data.name}, validation", source="", test=data.validation
    )
    result = train_to_the_end(options.model, data, recipe, options.out)
    print(f"{options.model}: {100 * result['best_val_accuracy']:.1f} % of validation")


def values(kind, changes):
    """What `changes` says of the fields of a dataclass, taken out of it."""
    said = [field for field in dataclasses.fields(kind) if field.name in changes]
    texts = {field.name: changes.pop(field.name) for field in said}
    return {
        field.name: texts[field.name] if field.type is str else ast.literal_eval(texts[field.name])
        for field in said
    }


if __name__ == "__main__":
    main()
