"""Keras's optimizer classes by the names of `recipe.OPTIMIZERS`, two of them with another step.

Under Keras 2.15 adam and sgd alone come from here, the others from tensorflow-addons (`stack`).
"""

import keras

UNDECAYED = ["bias", "beta", "gamma"]  # as in Google's training
_NAMES = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD"}


def kind_of(optimizer):
    """The class of an optimizer of a recipe."""
    own = {"lamb": _lamb, "muon": _muon}
    return own[optimizer]() if optimizer in own else getattr(keras.optimizers, _NAMES[optimizer])


def _lamb():
    """Keras's Lamb, but that what is not decayed moves as under Adam.

    As with tensorflow-addons. Keras scales those steps too by the size of what they change, so
    that a bias, which begins at zero, hardly moves at all.
    """

    class Lamb(keras.optimizers.Lamb):
        amsgrad = False  # which the step of Adam asks for

        def update_step(self, gradient, variable, learning_rate):
            # `variable` may be TensorFlow's own, of another name.
            name = self._trainable_variables[self._get_variable_index(variable)].name
            kind = keras.optimizers.Adam if name in UNDECAYED else keras.optimizers.Lamb
            kind.update_step(self, gradient, variable, learning_rate)

    return Lamb


def _muon():
    """Keras's Muon for kernels of convolutions too, each as the matrix that patches meet.

    As in Muon's own implementation (github.com/KellerJordan/Muon); Keras leaves them to AdamW. A
    Mixer has none but its stem, which, as the first layer, is AdamW's in either.
    """

    def as_matrix(kernel):  # [height, width, channels, C] -> [height width channels, C]
        return keras.ops.reshape(kernel, (-1, kernel.shape[-1]))

    class Muon(keras.optimizers.Muon):
        def _should_use_adamw(self, variable):
            if len(variable.shape) != 4:
                return super()._should_use_adamw(variable)
            return any(name in variable.path for name in self.exclude_layers)

        def zeropower_via_newtonschulz5(self, x, steps):
            step = super().zeropower_via_newtonschulz5(as_matrix(x), steps)
            return keras.ops.reshape(step, x.shape)

        def lr_adjust(self, x):
            return keras.ops.reshape(super().lr_adjust(as_matrix(x)), x.shape)

    return Muon
