"""The two stacks that are served, and how they differ.

One is Keras 3. The other is TensorFlow 2.15 with Keras 2.15 and tensorflow-addons 0.23, the last
that fit each other (`requirements-tfa.txt`). What both have is used everywhere as it is; all that
only one of them has is asked for here.
"""

import contextlib
import functools
import itertools
import warnings

import keras

from mixer_tf.layers import dtype_policy

KERAS_3 = hasattr(keras, "ops")
PyDataset = keras.utils.PyDataset if KERAS_3 else keras.utils.Sequence
OPTIMIZERS = ("adamw", "adam", "sgd", "lamb", "muon" if KERAS_3 else "radam")

# What a recipe asks Keras 3 for, and the value that does not ask for it.
_NEEDS_KERAS_3 = {
    **{"ema": 0, "sam": 0, "accumulate": 1, "recompute": False, "layer_decay": 1, "shares": 1},
    **{"rand_augment": 0, "mixup": 0, "cutmix": 0},
}


def check(recipe):
    """Refuse a recipe that asks for what the installed stack does not have.

    Raises:
        ValueError: it needs the other one.
    """
    here = f"Keras {keras.__version__}"
    if recipe.optimizer not in OPTIMIZERS:
        other = "requirements-tfa.txt (tensorflow-addons)" if KERAS_3 else "requirements.txt"
        raise ValueError(
            f"{here} has no optimizer {recipe.optimizer!r}; it has {', '.join(OPTIMIZERS)}: "
            f"choose one (--optimizer, --learning-rate). The environment of {other} has it."
        )
    if KERAS_3:
        return
    values = {**vars(recipe), **vars(recipe.augmentation)}
    asked = [name for name, without in _NEEDS_KERAS_3.items() if values[name] != without]
    if asked:
        raise ValueError(
            f"{here} has no {', '.join(asked)}; leave that out (the recipe digits has none of "
            "it), or use Keras 3, the environment of requirements.txt."
        )


@contextlib.contextmanager
def policy(name=None):
    """Context in which layers are made under a dtype policy; afterwards all is as before.

    Args:
        name: of the policy; the one that is set if left out.
    """
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(name or before)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def policy_of(model):
    """The context `policy` with the one that a model of this suite was made under."""
    return policy(dtype_policy(model.get_layer("stem")).name)


def only_keras_3(what):
    """Refuse, under Keras 2.15, something that it does not do here (ValueError)."""
    if not KERAS_3:
        raise ValueError(
            f"Keras {keras.__version__} does no {what} here; use Keras 3, the environment of "
            "requirements.txt."
        )


def addons_optimizer(name, schedule, weight_decay, undecayed, clip_norm):
    """An optimizer of tensorflow-addons, None where it is Keras's own that is meant.

    Args:
        name: one of `OPTIMIZERS`.
        schedule: learning rate by step.
        weight_decay: share of a weight that a step takes off, in units of the learning rate.
        undecayed: names of variables that keep theirs.
        clip_norm: of all gradients together, 0 for none.
    """
    if KERAS_3 or name not in ("adamw", "lamb", "radam"):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says at every import that it has ended
            from tensorflow_addons import optimizers
    except ImportError as error:
        raise ValueError(
            f"The optimizer {name!r} needs tensorflow-addons; install requirements-tfa.txt."
        ) from error
    options = {"learning_rate": schedule, "exclude_from_weight_decay": undecayed}
    if clip_norm:
        options["global_clipnorm"] = clip_norm
    if name == "lamb":
        return optimizers.LAMB(weight_decay=weight_decay, **options)
    kind = optimizers.AdamW
    if name == "radam":  # its own decay would spare no variable
        kind = optimizers.extend_with_decoupled_weight_decay(optimizers.RectifiedAdam)
    # These take off what they are given, whatever the learning rate.
    made = kind(weight_decay=lambda: weight_decay * schedule(made.iterations), **options)
    return made


def build_optimizer(optimizer, variables):
    """Make an optimizer's own variables, where there are none yet."""
    if hasattr(optimizer, "_create_all_weights"):  # of tensorflow-addons
        optimizer._create_all_weights(variables)
    elif not getattr(optimizer, "built", getattr(optimizer, "_built", False)):
        optimizer.build(variables)


def optimizer_variables(optimizer):
    """All variables that an optimizer holds."""
    found = optimizer.variables
    return found() if callable(found) else found


def reseed(layer, numbers):
    """Set the random state of an image layer, of those that have one.

    Args:
        layer: a Keras layer.
        numbers: function that gives two whole numbers below 2^31, called once where needed.
    """
    if KERAS_3:
        generator = getattr(layer, "generator", None)
        if generator is not None:
            generator.state.assign(numbers().astype("uint32"))
        return
    layer._random_generator._maybe_init()
    first, second = map(int, numbers())
    layer._random_generator._generator.reset_from_seed(first << 31 | second)


def traced(layer):
    """A function of a batch that calls an image layer as in training.

    As one graph on TensorFlow: an image layer is dozens of small operations, and calling each
    from Python takes longer than computing it. What it gives is the same to the last bit.
    """
    call = functools.partial(layer, training=True)
    if not KERAS_3 or keras.backend.backend() != "tensorflow":
        return call
    import tensorflow as tf

    return tf.function(call)


def endless(batches):
    """What `fit` takes to go through `TrainingBatches` from step to step without end."""
    return batches if KERAS_3 else map(batches.__getitem__, itertools.count())
