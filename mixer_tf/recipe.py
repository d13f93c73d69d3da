"""How a model is trained: `Recipe`, and what `compile` takes of it.

A recipe is data. The same recipe serves every model of a comparison; those with
a name are in `recipes`.
"""

import dataclasses

import keras

from mixer_tf import stack
from mixer_tf.augment import Augmentation
from mixer_tf.optimizers import with_rates
from mixer_tf.report import printable

OPTIMIZERS = ("adamw", "adam", "sgd", "lamb", "muon", "radam")  # no stack has all, see `stack`
_UNDECAYED = ["bias", "beta", "gamma"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides a training but the model, the data and the seed.

    Raises:
        ValueError: a value is outside its range; the message names it.
    """

    epochs: int = 30
    batch_size: int = 128
    optimizer: str = "adamw"  # one of OPTIMIZERS
    learning_rate: float = 2e-3  # peak, after the warm-up
    final_learning_rate: float = 1e-6  # where the cosine ends
    warmup_epochs: float = 3.0  # linear from 0 to the peak
    schedule: str = "cosine"  # or "constant"
    weight_decay: float = 0.05  # decoupled; kernels only
    label_smoothing: float = 0.1
    clip_norm: float = 1.0  # of all gradients together, 0 for none
    sam: float = 0.0  # radius of sharpness-aware minimization, see `sam`; 0 for none
    ema: float = 0.0  # momentum of the averaged weights that are evaluated and kept, 0 for none
    token_dropout: float = 0.0  # rate on a Mixer's tokens before their mean
    augmentation: Augmentation = Augmentation()
    steps: int = 0  # updates in all, instead of epochs; 0: epochs count
    warmup_steps: int = 0  # instead of warmup_epochs, at most a tenth of the run
    accumulate: int = 1  # parts that a batch is computed in, where memory is short
    recompute: bool = False  # blocks computed a second time instead of kept: less memory, slower
    freeze: str = ""  # "stem", or "blocks": stem and blocks; what does not train
    layer_decay: float = 1.0  # factor on the learning rate from each block to the one before it
    shares: int = 1  # parts that a batch is augmented in, so that hosts can share that work

    def __post_init__(self):
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"There is no optimizer {self.optimizer!r}; there are: {', '.join(OPTIMIZERS)}."
            )
        if self.schedule not in ("cosine", "constant"):
            raise ValueError(f"schedule is {self.schedule!r}; give 'cosine' or 'constant'.")
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least 1.")
        for name in ("steps", "warmup_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 or more.")
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            raise ValueError(
                f"accumulate is {self.accumulate}; give a number that divides batch_size, "
                f"{self.batch_size}."
            )
        if self.shares < 1 or self.part_size % self.shares:
            raise ValueError(
                f"shares is {self.shares}; give a number that divides the batch, {self.part_size}."
            )
        if self.freeze not in ("", "stem", "blocks"):
            raise ValueError(f"freeze is {self.freeze!r}; give 'stem' or 'blocks'.")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay is {self.layer_decay}; give a number in (0, 1].")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; give a number above 0.")
        for name in ("final_learning_rate", "warmup_epochs", "weight_decay", "clip_norm", "sam"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 or more.")
        for name in ("label_smoothing", "ema", "token_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number in [0, 1).")

    @property
    def part_size(self):
        """Pictures that pass through the model at once."""
        return self.batch_size // self.accumulate

    def in_epochs(self, pictures):
        """The same recipe with `steps` and `warmup_steps` said in epochs.

        Args:
            pictures: number of training pictures. The run is rounded up to whole
                passes over them.
        """
        updates = max(1, pictures // self.batch_size)  # in one epoch
        epochs = -(-self.steps // updates) if self.steps else self.epochs
        warmup = self.warmup_epochs
        if self.warmup_steps:
            warmup = min(self.warmup_steps / updates, epochs / 10)
        return dataclasses.replace(
            self, epochs=epochs, warmup_epochs=warmup, steps=0, warmup_steps=0
        )

    def to_dict(self):
        """As plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values):
        """What `to_dict` gave, back as a `Recipe` (ValueError where it is damaged)."""
        try:
            augmentation = Augmentation(**values["augmentation"])
            return cls(**{**values, "augmentation": augmentation})
        except (KeyError, TypeError) as error:
            reason = printable(str(error))  # it may quote a name from a file
            raise ValueError(f"The recipe is incomplete or damaged ({reason}).") from error


def make_schedule(recipe, steps_per_epoch):
    """Learning rate as a function of the step: linear warm-up, then a cosine or a constant.

    Args:
        recipe: gives epochs, peak, warm-up and form.
        steps_per_epoch: batches, or parts of batches, in one pass over the pictures.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`.
    """
    # Where gradients are accumulated, Keras asks for the rate of the part that completes a batch.
    warmup = int(recipe.warmup_epochs * steps_per_epoch)
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
        recipe.optimizer, schedule, weight_decay, _UNDECAYED, recipe.clip_norm
    )
    if addon:
        return addon
    names = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD", "lamb": "Lamb", "muon": "Muon"}
    kind = getattr(keras.optimizers, names[recipe.optimizer])
    if rates:
        decays = [0.0 if v.name in _UNDECAYED else weight_decay for v in variables]
        kind, weight_decay = with_rates(kind, list(rates), decays), 0.0
    own = {
        "sgd": {"momentum": 0.9},
        # Muon is for matrices between hidden units. The rest, such as the stem, the head, biases
        # and convolutions, is AdamW's, which has a decay of its own that should be the same.
        "muon": {"exclude_layers": ["head"], "adam_weight_decay": weight_decay or None},
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
        ema_momentum=recipe.ema or 0.99,
    )
    if weight_decay:
        optimizer.exclude_from_weight_decay(var_names=_UNDECAYED)
    return optimizer


def make_loss(recipe):
    """Cross-entropy of logits against one-hot or mixed labels."""
    return keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=recipe.label_smoothing
    )
