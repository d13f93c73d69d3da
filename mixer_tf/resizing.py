"""A trained Mixer for pictures of another size.

A Mixer's token-mixing weights belong to places in the picture, so another size
needs other weights. Where the size is a whole multiple, Tolstikhin et al. 2021
(arXiv 2105.01601), Appendix C, give an exact construction; for every other size
there is an approximation.
"""

import dataclasses

import numpy as np

from mixer_tf import stack, stages
from mixer_tf.checkpoints import ModelWeights, fill
from mixer_tf.mixer import build_mixer


def resize(model, input_shape):
    """A new Mixer for another picture size, with weights made from a trained one's.

    Where height and width are whole multiples of the model's own, by K_h and
    K_w, this is the paper's Appendix C and exact: `tokens_mlp_dim` grows by
    K_h K_w, every token-mixing weight becomes block-diagonal, and the logits are
    the mean of the logits of the K_h x K_w tiles of the picture.

    For every other size it is an approximation: `tokens_mlp_dim` stays, and the
    token-mixing MLPs see the new grid of tokens averaged or interpolated to the
    old one, and write back the other way. Expect to fine-tune afterwards.

    Args:
        model: a Mixer of this suite.
        input_shape: `(height, width, channels)`, whole numbers of patches and
            the model's own number of channels.

    Returns:
        A `keras.Model` like `model`, which is left as it is.

    Raises:
        ValueError: the model is no Mixer, or the shape does not fit it.
    """
    config, source = weights_for(model, input_shape)
    with stack.policy_of(model):
        resized = build_mixer(config, input_shape, stages.num_classes(model), name=model.name)
    return fill(resized, source)


def weights_for(model, input_shape):
    """What `resize` makes its Mixer of.

    Args:
        model, input_shape: as for `resize`.

    Returns:
        The `MixerConfig` and a source for `checkpoints.fill`, which computes each array as it is
        asked for.

    Raises:
        ValueError: as `resize`.
    """
    config = stages.config_of(model)
    _, height, width, channels = model.input_shape
    if len(input_shape) != 3 or input_shape[2] != channels:
        raise ValueError(
            f"input_shape is {tuple(input_shape)}; give (height, width, {channels}), the channels "
            "being those of the model."
        )
    old, new = config.token_grid((height, width)), config.token_grid(input_shape)
    if not (new[0] % old[0] or new[1] % old[1]):
        copies = (new[0] // old[0]) * (new[1] // old[1])
        config = dataclasses.replace(config, tokens_mlp_dim=config.tokens_mlp_dim * copies)
        return config, _Tiled(model, old, new)
    return config, _Interpolated(model, old, new)


class _Changed:
    """The weights of a model, those of its token-mixing MLPs changed."""

    def __init__(self, model):
        self._own = ModelWeights(model)
        self.shapes = {
            name: self.read(name).shape if "token_mixing" in name else shape
            for name, shape in self._own.shapes.items()
        }

    def __str__(self):
        return str(self._own)

    def read(self, name):
        """One array of the new model."""
        array = self._own.read(name)
        for part, change in self.changes.items():
            if f"token_mixing/{part}" in name:
                return change(array)
        return array


class _Tiled(_Changed):
    """Appendix C: each tile of the new grid has the old MLP for itself."""

    def __init__(self, model, old, new):
        tiles = [
            (top, left) for top in range(0, new[0], old[0]) for left in range(0, new[1], old[1])
        ]
        numbers = np.arange(new[0] * new[1]).reshape(new)
        # Which tokens of the new grid, counted row by row, belong to each tile.
        self._tokens = [
            numbers[top : top + old[0], left : left + old[1]].ravel() for top, left in tiles
        ]
        self.changes = {
            "Dense_0/kernel": self._spread,  # [S, D_S] -> [S', D_S']
            "Dense_0/bias": lambda b: np.tile(b, len(tiles)),  # [D_S] -> [D_S']
            "Dense_1/kernel": lambda w: self._spread(w.T).T,  # [D_S, S] -> [D_S', S']
            "Dense_1/bias": self._repeat,  # [S] -> [S']
        }
        super().__init__(model)

    def _spread(self, kernel):
        tokens, units = kernel.shape
        count = len(self._tokens)
        large = np.zeros((count * tokens, count * units), kernel.dtype)
        for i, chosen in enumerate(self._tokens):
            large[chosen, i * units : (i + 1) * units] = kernel
        return large

    def _repeat(self, bias):
        large = np.empty(len(self._tokens) * len(bias), bias.dtype)
        for chosen in self._tokens:
            large[chosen] = bias
        return large


class _Interpolated(_Changed):
    """The approximation: down to the old grid before the old MLP, up again behind it."""

    def __init__(self, model, old, new):
        down = np.kron(resampling(new[0], old[0]), resampling(new[1], old[1]))  # [S, S']
        up = np.kron(resampling(old[0], new[0]), resampling(old[1], new[1]))  # [S', S]
        self.changes = {
            # The rows of `down` sum to 1, so each unit's weights keep their sum over the tokens.
            "Dense_0/kernel": lambda w: (down.T @ w).astype(w.dtype),  # [S, D_S] -> [S', D_S]
            "Dense_0/bias": lambda b: b,
            "Dense_1/kernel": lambda w: (w @ up.T).astype(w.dtype),  # [D_S, S] -> [D_S, S']
            "Dense_1/bias": lambda b: (up @ b).astype(b.dtype),  # [S] -> [S']
        }
        super().__init__(model)


def resampling(old, new):
    """The matrix `[new, old]` that resamples `old` places in a row to `new`.

    Linear, with the kernel widened where places become fewer (so that none is
    skipped), as in Pillow's bilinear resizing. Every row sums to 1.
    """
    step = old / new
    centres = (np.arange(new) + 0.5) * step - 0.5  # of the new places, counted in old ones
    distance = np.abs(centres[:, None] - np.arange(old)[None, :])
    weights = np.maximum(0.0, 1.0 - distance / max(step, 1.0))
    return weights / weights.sum(axis=1, keepdims=True)
