"""Units of the token-mixing MLPs as opposite pairs (the paper's Figure 5)."""

import keras

from callbacks import layers, writer
from mixer_tf import figures


class TokenMixing(keras.callbacks.Callback):
    """Draws the first token-mixing kernel of chosen blocks, once an epoch.

    Each unit is drawn on the token grid beside its most opposite partner; pairs
    are sorted by spatial frequency, their cosine stands below. An untrained
    kernel, paired in the same way, stands beside them: pairing finds some
    opposition in noise too. The mean cosine also becomes a scalar.

    Args:
        log_dir: folder that TensorBoard reads.
        blocks: numbers of the blocks; the first three there are if left out.
        layer: name of the first Dense of a block, `{}` for its number.
        grid: `(rows, columns)` of tokens; if left out, what the layer `stem`
            puts out, or else a square.
        every: epochs from one drawing to the next; the last is always drawn.

    Raises:
        ValueError: at the start of training: no such layer, no grid for its
            tokens, or a folder that cannot be written.
    """

    def __init__(
        self,
        log_dir,
        blocks=None,
        layer="block_{}.token_mixing.dense_0",
        grid=None,
        every=1,
    ):
        super().__init__()
        if every < 1:
            raise ValueError(f"every is {every}; give a number of epochs, at least 1.")
        self.log_dir = str(log_dir)
        self.blocks = blocks
        self.layer = layer
        self.grid = grid
        self.every = every

    def on_train_begin(self, logs=None):
        self._epoch = self._drawn = None
        self._blocks = self.blocks
        if self._blocks is None:
            numbers = range(3 if "{}" in self.layer else 1)
            there = [i for i in numbers if layers.has_layer(self.model, self.layer.format(i))]
            self._blocks = there or [0]
        self._grids, self._controls = {}, {}
        for block in self._blocks:
            kernel = layers.kernel(self.model, self.layer.format(block))
            self._grids[block] = self._find_grid(kernel.shape[0], block)
            control = figures.fresh_kernel(kernel.shape)
            self._controls[block] = figures.pairs_of(control, self._grids[block])
        writer.check_folder(self.log_dir)

    def _find_grid(self, tokens, block):
        grid = self.grid or _stem_grid(self.model, tokens)
        side = round(tokens**0.5)
        if grid is None and side * side == tokens:
            grid = (side, side)
        if grid is None or grid[0] * grid[1] != tokens:
            raise ValueError(
                f"{self.layer.format(block)!r} mixes {tokens} tokens, which are no "
                f"{'square' if grid is None else f'grid of {grid[0]} x {grid[1]}'}; give "
                f"grid=(rows, columns) with rows x columns = {tokens}."
            )
        return grid

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = epoch
        if (epoch + 1) % self.every == 0:
            self._draw(epoch)

    def on_train_end(self, logs=None):
        if self._epoch is not None and self._drawn != self._epoch:
            self._draw(self._epoch)

    def _draw(self, epoch):
        self._drawn = epoch
        for block in self._blocks:
            kernel = layers.kernel(self.model, self.layer.format(block))
            pairs = figures.pairs_of(kernel, self._grids[block])
            if not len(pairs.cosines):
                continue  # a single unit has no partner
            control = self._controls[block]
            title = f"block {block}, epoch {epoch + 1}: token-mixing units beside their opposites"
            writer.write_image(
                self.log_dir,
                f"token_mixing/block_{block}",
                figures.to_image(figures.token_mixing(pairs, control, title), dpi=80),
                epoch,
                "Pairs of opposite units on the token grid, low frequency first. A cosine near "
                "-1 and smooth patterns are learned; what looks like the control is not.",
            )
            cosines = {
                f"token_mixing/block_{block}/mean_cosine": pairs.cosines.mean(),
                f"token_mixing/block_{block}/mean_cosine_untrained": control.cosines.mean(),
            }
            writer.write_scalars(self.log_dir, cosines, epoch)


def _stem_grid(model, tokens):
    """`(rows, columns)` of what the layer `stem` puts out, where that is known and fits."""
    try:
        shape = tuple(layers.find_layer(model, "stem").output.shape)
    except (ValueError, AttributeError):  # no stem, or a model that is not functional
        return None
    if len(shape) == 4 and None not in shape[1:3] and shape[1] * shape[2] == tokens:
        return shape[1], shape[2]
    return None
