"""Training a deep Mixer in less memory: blocks computed a second time instead of kept.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost". Between the
forward and the backward pass only the tokens between blocks are kept.
"""

import keras

from mixer_tf import stages


def recompute_blocks(model):
    """Let every block of a Mixer forget its inner values until the backward pass.

    The gradients stay the same; a step takes about a third longer. `keras.RematScope`
    would do this while a model is built, but it fails for layers that are
    called with keywords, as `training=` always is.

    Args:
        model: a Mixer, not yet compiled.

    Raises:
        ValueError: it is no Mixer, or it has dropout: its second computation would
            draw other masks than the first, and the gradients would be wrong.
    """
    check(stages.config_of(model))
    for block in stages.blocks(model):
        block.call = _recomputed(block.call)


def check(config):
    """Refuse a `MixerConfig` whose blocks draw at random (ValueError)."""
    if config.dropout or config.stochastic_depth:
        raise ValueError(
            f"Blocks cannot be computed a second time under dropout ({config.dropout}) or "
            f"stochastic depth ({config.stochastic_depth}); set both to 0, or leave recompute out."
        )


def _recomputed(call):
    def recomputed(x, training=None):
        return keras.remat(lambda tokens: call(tokens, training=training))(x)

    return recomputed
