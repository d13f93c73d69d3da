"""What fusing a trained RepVGG changes: the logits of the test pictures, and the time.

    python -m mixer_tf train --model repvgg_a0 --data digits --out runs/repvgg
    python benchmarks/fuse.py runs/repvgg

Both forms are timed in turns, so that other load on the machine meets both; the ratio is the
median over pairs.
"""

import pathlib
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import mixer_tf
from mixer_tf.run_data import load_run_data
from mixer_tf.zoo import count_macs

PAIRS = 200


def seconds(model, images):
    """Time of one call."""
    started = time.perf_counter()
    model.predict_on_batch(images)
    return time.perf_counter() - started


def ratios(branched, fused, images):
    """Time of the branched form in units of the fused one's, pair by pair."""
    for model in (branched, fused):
        model.predict_on_batch(images)  # compiles
    found = []
    for i in range(PAIRS):
        order = (branched, fused) if i % 2 else (fused, branched)  # neither is always the first
        times = {model.name: seconds(model, images) for model in order}
        found.append(times[branched.name] / times[fused.name])
    return found


def main(folder):
    """Print the comparison for a run."""
    run = mixer_tf.Run.open(folder)
    config = run.config()
    data = load_run_data(config)
    test = data.test.no_larger(config.input_shape[:2])
    images = test.images[:1000].astype("float32")
    branched = run.model()
    fused = mixer_tf.fuse(branched)
    before, after = (np.asarray(m.predict(images, verbose=0)) for m in (branched, fused))
    print(
        f"{config.model_name} on {config.data}, {len(images):,} test pictures: largest difference "
        f"{np.abs(before - after).max():.1e} of logits up to {np.abs(before).max():.1f}; "
        f"{(before.argmax(1) != after.argmax(1)).sum()} answers differ"
    )
    for name, model in (("branched", branched), ("fused", fused)):
        print(f"{name}: {model.count_params():,} weights, {count_macs(model) / 1e6:.1f} M MACs")
    for count in (1, 128):
        found = ratios(branched, fused, images[:count])
        low, middle, high = np.percentile(found, (25, 50, 75))
        print(
            f"{count} pictures at once: the fused form is {middle:.2f} times as fast "
            f"(quartiles {low:.2f} to {high:.2f}, {PAIRS} pairs)"
        )


if __name__ == "__main__":
    main(sys.argv[1])
