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

from mixer_tf import console


def main():
    """Train, print the best validation accuracy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("changes", nargs="*", metavar="FIELD=VALUE")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--data", default="cifar10")
    options = parser.parse_intermixed_args()
    console.load_backend(computing=False)

    from mixer_tf.augment import Augmentation
    from mixer_tf.data import load_data
    from mixer_tf.recipe import Recipe
    from mixer_tf.runs import Run
    from mixer_tf.train import resume, train

    known = {field.name for field in dataclasses.fields(Augmentation)}
    changes = dict(change.split("=", 1) for change in options.changes)
    values = {k: v if k == "optimizer" else ast.literal_eval(v) for k, v in changes.items()}
    augmentation = Augmentation(**{k: v for k, v in values.items() if k in known})
    recipe = {k: v for k, v in values.items() if k not in known}
    data = load_data(options.data)
    data = dataclasses.replace(data, test=data.validation)
    if (options.out / "config.json").exists():
        resume(options.out, data, own_process=True)
    else:
        recipe = Recipe(**recipe, augmentation=augmentation)
        train(options.model, data, recipe, options.out, own_process=True)
    result = Run.open(options.out).result()
    print(f"{options.model}: {100 * result['best_val_accuracy']:.1f} % of validation")


if __name__ == "__main__":
    main()
