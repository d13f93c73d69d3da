"""Arrays in, matplotlib Figures out. Nothing here knows Keras."""

from mixer_tf.figures.curves import accuracy_against_cost, comparison, learning_curves
from mixer_tf.figures.evolution import animation, evenly, evolution, projections
from mixer_tf.figures.mixing import mixing_distances, one_patch, token_mixing
from mixer_tf.figures.outcome import confusion, embedding, mistakes
from mixer_tf.figures.patterns import (
    Pairs,
    by_frequency,
    fresh_distances,
    fresh_kernel,
    largest_kernel,
    mixing_distance,
    opposite_pairs,
    pairs_of,
    spatial_frequency,
)
from mixer_tf.figures.shuffles import (
    shuffle_invariance,
    shuffle_patches,
    shuffle_pixels,
    shuffled_orders,
)
from mixer_tf.figures.style import COLOURS, save, to_image
from mixer_tf.figures.tiles import as_rgb, filter_tiles, sheet_of_filters, sprite_sheet, stitch

__all__ = [
    "COLOURS",
    "Pairs",
    "accuracy_against_cost",
    "animation",
    "as_rgb",
    "by_frequency",
    "comparison",
    "confusion",
    "embedding",
    "evenly",
    "evolution",
    "filter_tiles",
    "fresh_distances",
    "fresh_kernel",
    "largest_kernel",
    "learning_curves",
    "mistakes",
    "mixing_distance",
    "mixing_distances",
    "one_patch",
    "opposite_pairs",
    "pairs_of",
    "projections",
    "save",
    "sheet_of_filters",
    "shuffle_invariance",
    "shuffle_patches",
    "shuffle_pixels",
    "shuffled_orders",
    "spatial_frequency",
    "sprite_sheet",
    "stitch",
    "to_image",
    "token_mixing",
]
