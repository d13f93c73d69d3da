"""What does a Mixer lose whose tokens are the rows of a picture? The model zoo's, width by width.

    MIXER_TF_DATA_DIR=FOLDER python benchmarks/rows.py --out FOLDER --widths 64 128

Each width is trained twice by the zoo's own recipe (`rows`): with patches of 1x32, as there, and
of 4x8, which also make 32 tokens of 96 values. So both have the same weights and the same
arithmetic, and only the form of the patch differs. Width 512 is `mixer_rows` itself. A second start
goes on where the first ended. Training accuracy is that of the last epoch, on augmented pictures
and under dropout.
"""

import argparse
import dataclasses
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from mixer_tf.command_line import console

FORMS = {"rows": (1, 32), "blocks": (4, 8)}


def main():
    """Train what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the runs")
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--epochs", type=int, help="fewer than the recipe's 56")
    options = parser.parse_args()
    console.load_backend(training=True)

    from resumable import train_to_the_end

    from mixer_tf.data import load_data
    from mixer_tf.recipes import RECIPES
    from mixer_tf.runs import Run
    from mixer_tf.variants import VARIANTS

    data = load_data("cifar10")
    recipe = RECIPES["rows"]
    if options.epochs:
        recipe = dataclasses.replace(recipe, epochs=options.epochs)
    print("| tokens | width | weights | epochs | training accuracy | test accuracy |")
    print("|---|---:|---:|---:|---:|---:|")
    for width in options.widths:
        sizes = dict.fromkeys(("hidden_dim", "tokens_mlp_dim", "channels_mlp_dim"), width)
        for form in options.forms:
            model = dataclasses.replace(VARIANTS["mixer_rows"], patch_size=FORMS[form], **sizes)
            folder = options.out / f"{form}_{width}"
            result = train_to_the_end(model, data, recipe, folder, quiet=True)
            trained = 100 * Run.open(folder).history()["accuracy"][-1]
            accuracy, error = 100 * result["test_accuracy"], 100 * result["test_standard_error"]
            print(
                f"| {form}, {'x'.join(map(str, FORMS[form]))} | {width} | {result['parameters']:,} "
                f"| {result['epochs']} | {trained:.1f} % | {accuracy:.2f} ± {error:.2f} % |",
                flush=True,
            )


if __name__ == "__main__":
    main()
