"""Weights from one Keras to another: trained models with their logits, written here, read there.

python tests/exchange.py write FOLDER mixer_nano resnet20    # under the one
python tests/exchange.py read  FOLDER mixer_nano resnet20    # under the other
"""

import json
import pathlib
import sys

import keras
import numpy as np

import mixer_tf

IMAGES = np.random.default_rng(0).uniform(0, 255, (20, 16, 16, 1)).astype("float32")


def build(name):
    """A model of the zoo, or `tiny`, for 16x16 digits."""
    config = mixer_tf.MixerConfig(2, 8, 6, 10, (4, 4)) if name == "tiny" else name
    return mixer_tf.build(config, (16, 16, 1), 10)


def write(folder, name):
    """Train a few steps, so that no weight is as it was made, and save weights and logits."""
    keras.utils.set_random_seed(0)
    split = mixer_tf.load_data("digits").train
    model, saved = build(name), build(name)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, jit_compile=False)
    model.fit(split.images[:160].astype("float32"), split.labels[:160], epochs=2, verbose=0)
    saved.set_weights(model.get_weights())  # a file without the optimizer
    saved.save_weights(folder / f"{name}.weights.h5")
    np.save(folder / f"{name}.npy", saved.predict(IMAGES, verbose=0))


def read(folder, name):
    """Largest difference, by the largest logit: without the weights, and with them."""
    model, expected = build(name), np.load(folder / f"{name}.npy")
    size = np.abs(expected).max()
    without = np.abs(model.predict(IMAGES, verbose=0) - expected).max() / size
    model.load_weights(folder / f"{name}.weights.h5")
    return float(without), float(np.abs(model.predict(IMAGES, verbose=0) - expected).max() / size)


if __name__ == "__main__":
    what, folder, *names = sys.argv[1:]
    action = {"write": write, "read": read}[what]
    print(json.dumps({name: action(pathlib.Path(folder), name) for name in names}))
