"""What several test modules use."""

import keras

# On JAX what is compiled runs once or twice: compiling it well is what takes the time.
SLOW_CODE_SOON = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def without_xla(patch):
    """Let trainings run as Keras does by itself: compiling takes longer than their few steps.

    That is both the step of XLA and the ten programs of fused blocks, which what `compile` is
    given says nothing of.
    """
    from mixer_tf.runtime import Runtime

    if keras.backend.backend() == "tensorflow":  # on JAX not compiling takes longer
        patch.setattr(Runtime, "jit_compile", lambda self, has_convolutions: False)
        patch.setattr(Runtime, "fuses_blocks", False)
