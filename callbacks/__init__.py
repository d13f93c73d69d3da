"""What a training run shows in TensorBoard: Keras callbacks that find layers by name."""

from callbacks.confusion import Confusion
from callbacks.curves import Curves
from callbacks.embedding_projector import EmbeddingProjector
from callbacks.patch_projections import PatchProjections
from callbacks.throughput import Throughput
from callbacks.token_mixing import TokenMixing

__all__ = [
    "Confusion",
    "Curves",
    "EmbeddingProjector",
    "PatchProjections",
    "Throughput",
    "TokenMixing",
]
