"""Reading a Mixer by the names of its layers: its stages, and what it is made of."""

import keras
from keras.layers import Dropout

from mixer_tf.variants import MixerConfig


def blocks(model):
    """The `MixerBlock`s of a Mixer, first to last.

    Raises:
        ValueError: the model is no Mixer of this suite.
    """
    names = {layer.name for layer in model.layers}
    count = sum(name.startswith("block_") for name in names)
    expected = {"stem", "tokens", "pre_logits", *(f"block_{i}" for i in range(count))}
    found = [model.get_layer(f"block_{i}") for i in range(count) if f"block_{i}" in names]
    if not count or expected - names or not all(hasattr(b, "token_mixing") for b in found):
        raise ValueError(
            f"The model {model.name!r} is no Mixer of this suite: it has no layers stem, tokens, "
            "block_0 ..., pre_logits."
        )
    return found


def is_mixer(model):
    """Whether a model is a Mixer of this suite."""
    try:
        return bool(blocks(model))
    except ValueError:
        return False


def has_layer(model, name):
    """Whether a model has a layer of this name."""
    return any(layer.name == name for layer in model.layers)


def config_of(model):
    """The `MixerConfig` that a Mixer was built from, read from its layers.

    Args:
        model: a Mixer of this suite.

    Raises:
        ValueError: it is none.
    """
    first, last = blocks(model)[0], blocks(model)[-1]
    stem = model.get_layer("stem")
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, Dropout)}
    return MixerConfig(
        num_blocks=len(blocks(model)),
        hidden_dim=stem.filters,
        tokens_mlp_dim=first.tokens_mlp_dim,
        channels_mlp_dim=first.channels_mlp_dim,
        patch_size=stem.kernel_size,
        dropout=first.dropout,
        stochastic_depth=last.drop_path,
        final_norm=has_layer(model, "pre_head_layer_norm"),
        activation=first.activation,
        epsilon=first.epsilon,
        stem_norm=has_layer(model, "stem_norm"),
        head_dropout=rates.get("head_dropout", 0.0),
        token_dropout=rates.get("token_dropout", 0.0),
    )


def num_classes(model):
    """Width of a model's logits, 0 where it has no head."""
    return model.get_layer("head").units if has_layer(model, "head") else 0


def features(model):
    """Every stage of a Mixer as an output, in one pass.

    Args:
        model: a Mixer of this suite; the result shares its weights.

    Returns:
        A `keras.Model` from pictures `[B, height, width, channels]` in [0, 255] to
        a dict: `stem` `[B, h, w, C]`, `tokens` `[B, S, C]`, `block_0` ... each
        `[B, S, C]`, `pre_head_layer_norm` `[B, S, C]` where there is one,
        `pre_logits` `[B, C]`, `logits` `[B, classes]` where there is a head.

    Raises:
        ValueError: the model is no Mixer of this suite.
    """
    names = ["stem", "tokens", *(block.name for block in blocks(model))]
    names += ["pre_head_layer_norm"] if has_layer(model, "pre_head_layer_norm") else []
    stages = {name: model.get_layer(name).output for name in [*names, "pre_logits"]}
    if has_layer(model, "head"):
        stages["logits"] = model.get_layer("head").output
    return keras.Model(model.input, stages, name=f"{model.name}_features")
