"""How a model is trained, as data: `Recipe` and its `Augmentation`.

The same recipe serves every model of a comparison; those with a name are in `recipes`.
"""

import dataclasses

from mixer_tf.plain import make_plain
from mixer_tf.reading.report import printable

FREEZABLE = ("stem", "blocks")  # "blocks": with the stem
OPTIMIZERS = ("adamw", "adam", "sgd", "lamb", "muon", "radam")  # no stack has all, see `stack`


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Which augmentations a training batch passes through, in this order."""

    shift: float = 0.0  # moved by up to this share of height and width, the gap black ("crop")
    flip: bool = False  # mirrored left to right, half of the time
    rotation: float = 0.0  # turned by up to this share of a full turn either way
    zoom: float = 0.0  # height and width scaled by up to this share, each for itself
    rand_augment: int = 0  # operations applied to each picture (Cubuk et al. 2020), 0 for none
    magnitude: float = 0.5  # of those operations, in [0, 1]
    mixup: float = 0.0  # alpha of Beta(alpha, alpha) (Zhang et al. 2018), 0 for none
    cutmix: float = 0.0  # alpha of Beta(alpha, alpha) (Yun et al. 2019), 0 for none
    mix_probability: float = 1.0  # share of batches that are mixed, by MixUp or CutMix in turns

    def __post_init__(self):
        make_plain(self)
        bounds = {"shift": 1, "rotation": 1, "zoom": 1, "magnitude": 1, "mix_probability": 1}
        bounds |= {"mixup": 100, "cutmix": 1}
        for name, upper in bounds.items():
            if not 0 <= getattr(self, name) <= upper:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number in [0, {upper}].")
        if not 0 <= self.rand_augment <= 11:
            raise ValueError(f"rand_augment is {self.rand_augment}; give 0 to 11 operations.")


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
    warmup_epochs: float = 3.0  # linear from 0 to the peak, at most half of the run
    schedule: str = "cosine"  # or "constant"
    weight_decay: float = 0.05  # decoupled; kernels only
    label_smoothing: float = 0.1
    clip_norm: float = 1.0  # of all gradients together, 0 for none
    sam: float = 0.0  # radius of sharpness-aware minimization, see `sam`; 0 for none
    ema: float = 0.0  # momentum of the averaged weights that are evaluated and kept, 0 for none
    token_dropout: float = 0.0  # rate on a Mixer's tokens before their mean; others have none
    augmentation: Augmentation = Augmentation()
    steps: int = 0  # updates in all, instead of epochs; 0: epochs count
    warmup_steps: int = 0  # instead of warmup_epochs, at most a tenth of the run
    # Parts that a batch is computed in, where memory is short; each looks for its own sharpness.
    accumulate: int = 1
    recompute: bool = False  # blocks computed a second time instead of kept: less memory, slower
    freeze: str = ""  # "stem", or "blocks": stem and blocks; what does not train
    layer_decay: float = 1.0  # factor on the learning rate from each block to the one before it
    shares: int = 1  # parts that a batch is augmented in, so that hosts can share that work

    def __post_init__(self):
        make_plain(self)
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
        if self.freeze not in ("", *FREEZABLE):
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

    @property
    def evaluation_size(self):
        """Pictures at once where nothing is kept for a backward pass."""
        # Frozen and recomputed blocks keep next to nothing for one in training, either.
        return min(256, (1 if self.freeze or self.recompute else 4) * self.part_size)

    @property
    def scoring_size(self):
        """The same where one device has the whole batch, however many shared those of training."""
        return min(64, self.evaluation_size)

    def in_epochs(self, pictures):
        """The same recipe with `steps` and `warmup_steps` said in epochs.

        Args:
            pictures: number of training pictures. The run is rounded up to whole
                passes over them.
        """
        updates = max(1, pictures // self.batch_size)  # in one epoch
        epochs = -(-self.steps // updates) if self.steps else self.epochs
        warmup = min(self.warmup_epochs, epochs / 2)  # or a short run would end before its peak
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
