"""Keras optimizers with a learning rate of its own for each variable."""


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
