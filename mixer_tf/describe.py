"""A model stage by stage: shapes, weights, and one picture through it."""

import re
import statistics
import time

import numpy as np

_GROUP = re.compile(r"stage_\d+_block_\d+|block_\d+|stem")  # many layers may make one stage


def stages(model):
    """What a picture becomes on its way to the logits.

    Args:
        model: a functional model of this suite.

    Returns:
        A list of `(name, shape, weights)`: the shape of one picture at the end
        of the stage, without the batch, and the number of weights in it.
    """
    found = {}
    for layer in model.layers[1:]:  # the first is the input
        group = _GROUP.match(layer.name)
        name = group[0] if group else layer.name
        _, _, weights = found.get(name, (name, (), 0))
        found[name] = (name, tuple(layer.output.shape[1:]), weights + layer.count_params())
    return list(found.values())


def forward_pass(model, repeats=10):
    """Pass one random picture through a model.

    Args:
        model: any Keras model of pictures.
        repeats: of the measurement, after one that is not counted.

    Returns:
        `(output, seconds)`: float32 `[1, classes]`, and the median time.
    """
    height, width, channels = model.input_shape[1:]
    picture = np.random.default_rng(0).integers(0, 256, (1, height, width, channels))
    picture = picture.astype("uint8")
    output = model.predict_on_batch(picture)  # compiles
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        model.predict_on_batch(picture)
        times.append(time.perf_counter() - started)
    return np.asarray(output), statistics.median(times)
