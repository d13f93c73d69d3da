"""What `compile` takes of a recipe: schedule, optimizer and loss.

Keras's optimizers too with a learning rate for each variable, or for several replicas.
"""

import keras

from mixer_tf import stack
from mixer_tf.training.kinds import UNDECAYED, kind_of


def make_schedule(recipe, steps_per_epoch):
    """Learning rate as a function of the step: linear warm-up, then a cosine or a constant.

    Args:
        recipe: gives epochs, peak, warm-up and form.
        steps_per_epoch: batches, or parts of batches, in one pass over the pictures.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`.
    """
    # Where gradients are accumulated, Keras asks for the rate of the part that completes a batch.
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    rest = max(1, recipe.epochs * steps_per_epoch - warmup)
    if recipe.schedule == "constant":
        final = recipe.learning_rate
    else:
        final = min(recipe.final_learning_rate, recipe.learning_rate)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else recipe.learning_rate,
        rest,
        alpha=final / recipe.learning_rate,
        warmup_target=recipe.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def make_optimizer(recipe, steps_per_epoch, variables=(), rates=()):
    """The recipe's optimizer for `compile`, with schedule, decay, clipping and averaging.

    Biases and the scales of the norms are not decayed, as in Google's training.

    Args:
        recipe: a `Recipe`.
        steps_per_epoch: as for `make_schedule`.
        variables: those that will be trained; needed only with `rates`.
        rates: share of the learning rate for each of them; all the same if left out.
    """
    stack.check(recipe)
    schedule = make_schedule(recipe, steps_per_epoch)
    weight_decay = recipe.weight_decay
    addon = stack.addons_optimizer(
        recipe.optimizer, schedule, weight_decay, UNDECAYED, recipe.clip_norm
    )
    if addon:
        return addon
    kind = kind_of(recipe.optimizer)
    if rates:
        decays = [0.0 if v.name in UNDECAYED else weight_decay for v in variables]
        kind, weight_decay = with_rates(kind, list(rates), decays), 0.0
    own = {
        "sgd": {"momentum": 0.9},
        # Muon is for what lies between hidden units. Stem, head, biases and norms are AdamW's,
        # which has a decay of its own that should be the same.
        "muon": {"exclude_layers": ["stem", "head"], "adam_weight_decay": weight_decay or None},
    }
    options = own.get(recipe.optimizer, {})
    if recipe.accumulate > 1:
        options["gradient_accumulation_steps"] = recipe.accumulate
    optimizer = kind(
        **options,
        learning_rate=schedule,
        # AdamW refuses None, the others would decay by 0.0 in vain
        weight_decay=weight_decay or (0.0 if recipe.optimizer == "adamw" else None),
        global_clipnorm=recipe.clip_norm or None,
        use_ema=bool(recipe.ema),
        # Keras averages after each part of a batch, also where the weights stay as they are.
        ema_momentum=recipe.ema ** (1 / recipe.accumulate) if recipe.ema else 0.99,
    )
    if weight_decay:
        optimizer.exclude_from_weight_decay(var_names=UNDECAYED)
    return optimizer


def make_loss(recipe):
    """Cross-entropy of logits against one-hot or mixed labels."""
    return keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=recipe.label_smoothing
    )


def with_rates(optimizer_class, rates, decays=None):
    """A Keras optimizer class that scales the learning rate variable by variable.

    Scaling the gradient would not do: Adam and its kin divide it by its own size.

    Args:
        optimizer_class: such as `keras.optimizers.AdamW`.
        rates: one number for each trainable variable of the model, in its order.
        decays: weight decay of each of them, decoupled and scaled by the same
            rate; none if left out. Give the class itself no `weight_decay`.

    Returns:
        A subclass of `optimizer_class`.
    """
    decays = decays or [0.0] * len(rates)

    class WithRates(optimizer_class):
        def build(self, variables):
            if len(variables) != len(rates):
                raise ValueError(
                    f"The optimizer has rates for {len(rates)} variables and is to train "
                    f"{len(variables)}; freeze before compiling."
                )
            super().build(variables)

        def update_step(self, gradient, variable, learning_rate):
            place = self._get_variable_index(variable)
            learning_rate = learning_rate * rates[place]
            if decays[place]:
                self.assign_sub(variable, variable * (learning_rate * decays[place]))
            super().update_step(gradient, variable, learning_rate)

    WithRates.__name__ = optimizer_class.__name__
    return WithRates


def sum_first(optimizer):
    """Let an optimizer sum gradients over all replicas before it looks at them.

    Under a `tf.distribute` strategy Keras clips, and checks for overflow, what
    each replica has of the gradient, and sums afterwards: clipping by the norm
    then gives another gradient than one device has, and two hosts may disagree on
    whether a step is left out, and wait for each other for ever.

    Args:
        optimizer: of a compiled model, made within the scope of a strategy; changed
            in place.
    """
    import tensorflow as tf

    apply = optimizer.apply

    def apply_sum(grads, trainable_variables=None):
        summed = tf.distribute.get_replica_context().all_reduce("SUM", list(grads))
        return apply(summed, trainable_variables)

    optimizer.apply = apply_sum
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner._all_reduce_sum_gradients = list  # pairs of gradients, summed already, and variables
