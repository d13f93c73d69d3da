"""What several test modules use."""

import keras


def without_xla(patch):
    """Let trainings run as Keras does by itself: compiling takes longer than their few steps.

    That is both the step of XLA and the ten programs of fused blocks, which what `compile` is
    given says nothing of.
    """
    from mixer_tf.runtime import Runtime

    if keras.backend.backend() == "tensorflow":  # on JAX not compiling takes longer
        patch.setattr(Runtime, "jit_compile", lambda self, has_convolutions: False)
        patch.setattr(Runtime, "fuses_blocks", False)
