"""What a training run shows in TensorBoard: Keras callbacks that find layers by name."""

from callbacks.patch_projections import PatchProjections

__all__ = ["PatchProjections"]
