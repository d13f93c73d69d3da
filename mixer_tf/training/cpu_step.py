"""Which training step is the fastest for a model on a CPU with TensorFlow.

A Mixer's blocks are fused (`fused_blocks`), and its batches computed in parts
(`split_batch`), as far as either is possible.
"""

import keras

from mixer_tf import stack, variants
from mixer_tf.distributed import hosts


def set_threads(model, input_shape, recipe, precision="auto"):
    """In a process that trains this one model: set TensorFlow's threads for it.

    Args:
        model: a name in `MODELS`, or a `MixerConfig`.
        input_shape: `(height, width, channels)` that it sees.
        recipe: the `Recipe`.
        precision: as for `runtime.choose`, which comes after this.
    """
    on_tensorflow = stack.KERAS_3 and keras.backend.backend() == "tensorflow"
    if not on_tensorflow or precision not in ("auto", "float32"):
        return
    import tensorflow as tf

    mixer = variants.find_mixer(model)
    if mixer is None or hosts.join() or tf.config.list_physical_devices("GPU"):
        return
    from mixer_tf.training import fused_blocks, split_batch

    if _draws(mixer) or recipe.token_dropout:
        return  # then parts follow each other, see `prepare`
    parts = _parts(mixer, input_shape, recipe, split_batch.cores())
    if parts > 1 and not recipe.recompute and not fused_blocks.why_not_config(mixer):
        split_batch.one_thread_each()


def prepare(model, recipe, runtime, parts=0):
    """Make the step of a model the fastest one, before it is compiled.

    Args:
        model: a `keras.Model`, as the recipe wants it.
        recipe: the `Recipe`.
        runtime: the `Runtime` chosen.
        parts: of a batch, where a run began with them; another number would add up in
            another order. 0: those that suit this machine.

    Returns:
        In how many parts a batch is computed; `compile` then needs `jit_compile=False`. 0
        where the model is left as it was.
    """
    if not runtime.fuses_blocks or recipe.recompute:
        return 0
    from mixer_tf import stages
    from mixer_tf.training import fused_blocks, split_batch

    if fused_blocks.why_not(model):
        return 0
    fused_blocks.fuse_blocks(model, runtime.products)
    mixer = stages.config_of(model)
    # One random stream gives the same numbers again only if its parts are drawn in turns.
    at_once = 1 if _draws(mixer) else split_batch.parts_at_once()
    parts = parts or _parts(mixer, model.input_shape[1:], recipe, at_once)
    split_batch.split_steps(model, parts, at_once if parts > 1 else 1)
    return parts


def _draws(mixer):
    """Whether a training step asks a random stream."""
    return mixer.stochastic_depth or mixer.head_dropout or mixer.token_dropout


def _parts(mixer, input_shape, recipe, at_once):
    """Of a batch; 1 where the step is not Keras's."""
    from mixer_tf.training import split_batch

    if recipe.sam:
        return 1
    rows, columns = mixer.token_grid(input_shape)
    return split_batch.part_count(recipe.part_size, rows * columns, at_once)
