"""Keras optimizers with a learning rate for each variable, or for several replicas."""


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
