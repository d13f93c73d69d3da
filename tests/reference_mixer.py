"""A Mixer in plain numpy, written from the paper and Google's parameter names alone.

It shares no code with the library, so that agreement means something.
"""

import math

import numpy as np


def random_weights(
    blocks, channels, tokens, tokens_mlp, channels_mlp, patch, classes, final_norm=True, seed=0
):
    """Weights under Google's keys, none of them zero, biases included."""
    draws = np.random.default_rng(seed)

    def normal(*shape, centre=0.0, spread=0.1):
        return draws.normal(centre, spread, shape).astype("float32")

    def dense(name, wide, narrow):
        spread = 1 / math.sqrt(wide)
        return {
            f"{name}/kernel": normal(wide, narrow, spread=spread),
            f"{name}/bias": normal(narrow),
        }

    def norm(name):
        return {f"{name}/scale": normal(channels, centre=1.0), f"{name}/bias": normal(channels)}

    inputs = patch[0] * patch[1] * 3
    weights = {
        "stem/kernel": normal(*patch, 3, channels, spread=1 / math.sqrt(inputs)),
        "stem/bias": normal(channels),
    }
    for i in range(blocks):
        at = f"MixerBlock_{i}"
        weights |= norm(f"{at}/LayerNorm_0")
        weights |= norm(f"{at}/LayerNorm_1")
        weights |= dense(f"{at}/token_mixing/Dense_0", tokens, tokens_mlp)
        weights |= dense(f"{at}/token_mixing/Dense_1", tokens_mlp, tokens)
        weights |= dense(f"{at}/channel_mixing/Dense_0", channels, channels_mlp)
        weights |= dense(f"{at}/channel_mixing/Dense_1", channels_mlp, channels)
    if final_norm:
        weights |= norm("pre_head_layer_norm")
    return weights | dense("head", channels, classes)


def logits(weights, images):
    """Logits `[B, classes]` of pictures `[B, H, W, 3]` in [0, 255]."""
    kernel = weights["stem/kernel"]
    height, width, depth, channels = kernel.shape
    batch, rows, columns = len(images), images.shape[1] // height, images.shape[2] // width
    x = images.astype("float64") / 127.5 - 1
    x = x.reshape(batch, rows, height, columns, width, depth).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, rows * columns, height * width * depth)
    x = x @ kernel.reshape(-1, channels).astype("float64") + weights["stem/bias"]
    i = 0
    while f"MixerBlock_{i}/LayerNorm_0/scale" in weights:
        at = f"MixerBlock_{i}"
        y = _norm(weights, f"{at}/LayerNorm_0", x).swapaxes(1, 2)
        x = x + _mlp(weights, f"{at}/token_mixing", y).swapaxes(1, 2)
        x = x + _mlp(weights, f"{at}/channel_mixing", _norm(weights, f"{at}/LayerNorm_1", x))
        i += 1
    if "pre_head_layer_norm/scale" in weights:
        x = _norm(weights, "pre_head_layer_norm", x)
    return x.mean(axis=1) @ weights["head/kernel"] + weights["head/bias"]


def _norm(weights, at, x):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return scaled * weights[f"{at}/scale"] + weights[f"{at}/bias"]


def _mlp(weights, at, x):
    x = x @ weights[f"{at}/Dense_0/kernel"].astype("float64") + weights[f"{at}/Dense_0/bias"]
    x = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x @ weights[f"{at}/Dense_1/kernel"].astype("float64") + weights[f"{at}/Dense_1/bias"]
