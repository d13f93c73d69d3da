"""How a model is trained: `Recipe`, the named recipes, and what `compile` takes.

A recipe is data. The same recipe serves every model of a comparison.
"""

import dataclasses

import keras

from mixer_tf.augment import Augmentation

OPTIMIZERS = ("adamw", "adam", "sgd", "lamb")


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
    ema: float = 0.0  # momentum of the averaged weights that are evaluated and kept, 0 for none
    augmentation: Augmentation = Augmentation()

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
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; give a number above 0.")
        for name in ("final_learning_rate", "warmup_epochs", "weight_decay", "clip_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 or more.")
        for name in ("label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number in [0, 1).")

    def to_dict(self):
        """As plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values):
        """What `to_dict` gave, back as a `Recipe`."""
        augmentation = Augmentation(**values["augmentation"])
        return cls(**{**values, "augmentation": augmentation})


RECIPES = {
    # 1,797 small grey pictures: shifts only, a mirrored digit is no digit.
    "digits": Recipe(
        epochs=30,
        batch_size=64,
        warmup_epochs=3,
        augmentation=Augmentation(shift=0.1),
    ),
    # Short runs on small colour pictures.
    "quick": Recipe(
        epochs=30,
        augmentation=Augmentation(shift=0.125, flip=True),
    ),
    # Long runs on small colour pictures: what keeps a Mixer from learning them by heart.
    "cifar": Recipe(
        epochs=300,
        warmup_epochs=10,
        ema=0.999,
        augmentation=Augmentation(
            shift=0.125, flip=True, rand_augment=2, cutmix=1.0, mix_probability=0.5
        ),
    ),
}


def default_recipe(data_name):
    """Name of the recipe that suits a data set where none was asked for."""
    return data_name if data_name in RECIPES else "quick"


def make_schedule(recipe, steps_per_epoch):
    """Learning rate as a function of the step: linear warm-up, then a cosine or a constant.

    Args:
        recipe: gives epochs, peak, warm-up and form.
        steps_per_epoch: batches in one pass over the pictures.

    Returns:
        A number, or a `keras.optimizers.schedules.LearningRateSchedule`.
    """
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


def make_optimizer(recipe, steps_per_epoch):
    """The recipe's `keras.optimizers.Optimizer`, with schedule, decay, clipping and averaging.

    Biases and the scales of the norms are not decayed, as in Google's training.
    """
    kinds = {
        "adamw": lambda **k: keras.optimizers.AdamW(**k),
        "adam": lambda **k: keras.optimizers.Adam(**k),
        "sgd": lambda **k: keras.optimizers.SGD(momentum=0.9, **k),
        "lamb": lambda **k: keras.optimizers.Lamb(**k),
    }
    optimizer = kinds[recipe.optimizer](
        learning_rate=make_schedule(recipe, steps_per_epoch),
        weight_decay=recipe.weight_decay or None,
        global_clipnorm=recipe.clip_norm or None,
        use_ema=bool(recipe.ema),
        ema_momentum=recipe.ema or 0.99,
    )
    if recipe.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer


def make_loss(recipe):
    """Cross-entropy of logits against one-hot or mixed labels."""
    return keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=recipe.label_smoothing
    )
