"""What of weights that a training began with may change, and how fast."""

from mixer_tf import stages, zoo
from mixer_tf.recipe import FREEZABLE


def freeze(model, upto):
    """Keep the first layers of a Mixer as they are while the rest trains.

    Args:
        model: a Mixer, not yet compiled.
        upto: `"stem"`, or `"blocks"`: the stem and all blocks, so that only the
            last norm and the head train.

    Raises:
        ValueError: `upto` is neither, or the model is no Mixer.
    """
    if upto not in FREEZABLE:
        raise ValueError(zoo.unknown("part to freeze", upto, FREEZABLE))
    blocks = stages.blocks(model)
    for layer in [*_stem(model), *(blocks if upto == "blocks" else [])]:
        layer.trainable = False


def layer_rates(model, decay):
    """Share of the learning rate for each trainable variable, falling towards the input.

    The head and the last norm get 1, the last block `decay`, the one before it
    `decay`^2 ..., the stem the smallest (Clark et al. 2020, ELECTRA; BEiT).

    Args:
        model: a Mixer.
        decay: in (0, 1].

    Returns:
        A list of numbers in the order of `model.trainable_variables`.
    """
    blocks = stages.blocks(model)
    shares = {}
    for depth, group in enumerate([_stem(model), *([block] for block in blocks)]):
        share = decay ** (len(blocks) + 1 - depth)
        shares |= {id(v): share for layer in group for v in layer.trainable_variables}
    return [shares.get(id(variable), 1.0) for variable in model.trainable_variables]


def _stem(model):
    """What stands before the blocks and has weights."""
    names = [name for name in ("stem", "stem_norm") if stages.has_layer(model, name)]
    return [model.get_layer(name) for name in names]
