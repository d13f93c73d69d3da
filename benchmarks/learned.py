"""How many of the pictures that a run was trained on its best weights have right.

    python benchmarks/learned.py weights/mixer_nano_7-cifar10

The pictures are as they are in the data, not augmented: the figure tells learning by heart.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from mixer_tf.command_line import console

PICTURES = 10_000


def main():
    """Load, draw, count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    run = parser.parse_args().run
    console.load_backend()

    import numpy as np

    from mixer_tf.evaluate import predict_logits, score
    from mixer_tf.run_data import load_run_data
    from mixer_tf.runs import Run

    run = Run.open(run)
    config = run.config()
    pictures = load_run_data(config).train
    count = min(PICTURES, len(pictures))
    drawn = np.random.default_rng(0).choice(len(pictures), count, replace=False)
    pictures = pictures.take(np.sort(drawn))
    scores = score(predict_logits(run.model(), pictures, config.num_classes), pictures.labels)
    right = f"{100 * scores['accuracy']:.1f} % of {count:,} training pictures"
    print(f"{right}, cross-entropy {scores['loss']:.3f}")


if __name__ == "__main__":
    main()
