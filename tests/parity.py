"""Prints how far the library's logits are from the reference's, on the backend Keras runs on.

python tests/parity.py mixer_s32 mixer_b16 mixer_rows
"""

import json
import pathlib
import sys
import tempfile

import numpy as np
import reference_mixer

import mixer_tf

# blocks, channels, tokens, D_S, D_C, patch, classes, final norm: the paper's Table 1 at 224 px,
# and the Mixer whose tokens are the rows of a 32x32 picture.
SIZES = {
    "mixer_s32": (8, 512, 49, 256, 2048, (32, 32), 1000, True),
    "mixer_b16": (12, 768, 196, 384, 3072, (16, 16), 1000, True),
    "mixer_rows": (12, 512, 32, 512, 512, (1, 32), 10, False),
}


def compare(name, folder):
    """Largest difference of the logits, and whether npz -> model -> npz kept every byte."""
    weights = reference_mixer.random_weights(*SIZES[name])
    np.savez(folder / "in.npz", **weights)
    model = mixer_tf.load_npz(mixer_tf.build(name), folder / "in.npz")
    images = np.random.default_rng(1).uniform(0, 255, (2, *model.input_shape[1:]))
    images = images.astype("float32")
    difference = np.abs(np.asarray(model(images)) - reference_mixer.logits(weights, images)).max()
    mixer_tf.save_npz(model, folder / "out.npz")
    with np.load(folder / "out.npz") as out:
        same = set(out.files) == set(weights) and all(
            out[key].dtype == array.dtype and out[key].tobytes() == array.tobytes()
            for key, array in weights.items()
        )
    return {"difference": float(difference), "same_bytes": same}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({name: compare(name, pathlib.Path(folder)) for name in sys.argv[1:]}))
