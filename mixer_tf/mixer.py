"""MLP-Mixer: pictures in, logits out, every stage under its name.

Source: Tolstikhin et al. 2021 (arXiv 2105.01601), Figure 1 and section 2.
"""

import keras
from keras import layers

from mixer_tf.layers import MixerBlock
from mixer_tf.variants import MixerConfig


def build_mixer(config: MixerConfig, input_shape, num_classes, name="mixer"):
    """Build a Mixer as a functional Keras model.

    Args:
        config: what it is made of.
        input_shape: `(height, width, channels)`; height and width are whole
            numbers of patches, channels any number.
        num_classes: width of the logits; 0 leaves out the head, the model then
            returns the pre-logits `[B, C]`.
        name: of the model.

    Returns:
        A `keras.Model` from pictures `[B, height, width, channels]` in [0, 255]
        to float32 logits `[B, num_classes]`. Its layers are `rescale`, `stem`,
        `tokens`, `block_0` ..., `pre_head_layer_norm`, `pre_logits`, `head`.

    Raises:
        ValueError: the picture does not divide into patches, or a shape or
            number is out of range.
    """
    height, width, channels = input_shape
    rows, columns = config.token_grid(input_shape)
    images = keras.Input((height, width, channels), name="images")

    # [0, 255] -> [-1, 1], in float32 so that no precision policy rounds the pixels
    x = layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="rescale")(images)
    # [B, H, W, 3] -> [B, h, w, C]: one linear map, the same for every patch
    x = layers.Conv2D(config.hidden_dim, config.patch_size, strides=config.patch_size, name="stem")(
        x
    )
    if config.stem_norm:
        x = layers.LayerNormalization(epsilon=config.epsilon, name="stem_norm")(x)
    # [B, h, w, C] -> [B, S, C]
    x = layers.Reshape((rows * columns, config.hidden_dim), name="tokens")(x)

    for i in range(config.num_blocks):
        # Linear over depth (Huang et al. 2016): the first block never skips, the last most often,
        # which an only block is.
        share = i / (config.num_blocks - 1) if config.num_blocks > 1 else 1.0
        x = MixerBlock(
            config.tokens_mlp_dim,
            config.channels_mlp_dim,
            activation=config.activation,
            dropout=config.dropout,
            drop_path=config.stochastic_depth * share,
            epsilon=config.epsilon,
            name=f"block_{i}",
        )(x)

    if config.final_norm:
        x = layers.LayerNormalization(epsilon=config.epsilon, name="pre_head_layer_norm")(x)
    if config.token_dropout:
        x = layers.Dropout(config.token_dropout, name="token_dropout")(x)
    x = layers.GlobalAveragePooling1D(name="pre_logits")(x)  # [B, S, C] -> [B, C]
    if num_classes:
        if config.head_dropout:
            x = layers.Dropout(config.head_dropout, name="head_dropout")(x)
        # float32 under every policy: a softmax over rounded logits loses small differences.
        x = layers.Dense(num_classes, dtype="float32", name="head")(x)  # [B, C] -> [B, classes]
    return keras.Model(images, x, name=name)
