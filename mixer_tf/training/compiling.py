"""A run's config + recipe + runtime -> a compiled model."""

import keras
import numpy as np

from mixer_tf import stack
from mixer_tf.runtime import has_convolutions
from mixer_tf.training import cpu_step, finetune, starting_weights
from mixer_tf.training.optimizers import make_loss, make_optimizer, sum_first
from mixer_tf.training.recompute import recompute_blocks
from mixer_tf.training.sam import sharpen


def compiled(config, recipe, runtime, steps_per_epoch, load_pretrained):
    """Build and compile a run's model.

    Args:
        config: the `RunConfig`.
        recipe: its `Recipe`.
        runtime: a `Runtime`.
        steps_per_epoch: what schedules count in.
        load_pretrained: fill the model from `config.pretrained` first.

    Returns:
        The model, and in how many parts its fused blocks compute a batch; 0 where none
        are fused.

    Raises:
        ValueError: recipe, model and machine do not fit each other.
    """
    keras.utils.set_random_seed(config.seed)
    with runtime.scope():
        model = config.build()
        if load_pretrained:
            starting_weights.load(model, config.pretrained)
        _prepare(model, recipe, runtime)
        rates = finetune.layer_rates(model, recipe.layer_decay) if recipe.layer_decay < 1 else []
        optimizer = make_optimizer(recipe, steps_per_epoch, model.trainable_variables, rates)
        parts = cpu_step.prepare(model, recipe, runtime, config.parts)
        model.compile(
            optimizer=optimizer,
            loss=make_loss(recipe),
            weighted_metrics=["accuracy"],  # see `EvaluationBatches`
            jit_compile=not parts and runtime.jit_compile(has_convolutions(model)),
        )
        if runtime.strategy and runtime.backend == "tensorflow":
            sum_first(model.optimizer)
        _create_variables(model, config.num_classes, runtime)
    return model, parts


def _prepare(model, recipe, runtime):
    """What a recipe asks of the model itself."""
    if recipe.freeze:
        finetune.freeze(model, recipe.freeze)
    if recipe.recompute:
        recompute_blocks(model)
    if recipe.accumulate > 1 and runtime.replicas > 1:
        raise ValueError(
            f"accumulate is {recipe.accumulate}, but Keras cannot accumulate gradients over "
            f"{runtime.replicas} replicas; leave it out, or use one device."
        )
    if recipe.sam and recipe.recompute and runtime.backend == "tensorflow":
        raise ValueError(  # its blocks would get no gradient, without a word
            "On TensorFlow a block that is computed a second time takes its own weights, not those "
            "that SAM has moved; leave out sam or recompute, or use JAX (KERAS_BACKEND=jax)."
        )
    if recipe.sam:
        sharpen(model, recipe.sam)


def _create_variables(model, num_classes, runtime):
    """What Keras on TensorFlow would create in the first step, and so trace it twice."""
    if not stack.KERAS_3:
        return  # optimizers of tensorflow-addons cannot be built before
    model.optimizer.build(model.trainable_variables)
    if not runtime.strategy and runtime.backend == "tensorflow":
        some = np.zeros((1, num_classes), "float32")
        model.compute_metrics(None, some, some, None)
        model.reset_metrics()
