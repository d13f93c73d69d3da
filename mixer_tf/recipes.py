"""The recipes that have a name.

Where one was run to its end here, its docstring says what came of it, on what, in
which time, and the command that does it again. `benchmarks/results.md` has all the runs.
"""

import dataclasses

from mixer_tf.recipe import Augmentation, Recipe

_ADAM_LIKE = {"adamw", "adam", "lamb", "radam"}  # a rate that suits one suits the others


@dataclasses.dataclass(frozen=True)
class Digits(Recipe):
    """1,797 small grey pictures: shifts only, a mirrored digit is no digit."""

    epochs: int = 30
    batch_size: int = 64
    augmentation: Augmentation = Augmentation(shift=0.1)


@dataclasses.dataclass(frozen=True)
class _PlainAdam(Recipe):
    """Adam at a constant rate, and none of what came after it."""

    optimizer: str = "adam"
    schedule: str = "constant"
    warmup_epochs: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    clip_norm: float = 0.0


@dataclasses.dataclass(frozen=True)
class Ancestor(_PlainAdam):
    """What sayakpaul/MLP-Mixer-CIFAR10 did on four GPUs, 512 pictures each, for comparison with it.

    Pictures turn before they are enlarged, and are scaled to [-1, 1] instead of by their own
    mean and variance.

    `mixer_cifar_4` (200,202 weights): 68.35 ± 0.47 % on CIFAR-10's test pictures (JPEG copy), one
    seed, 89 minutes at the median rate, beside other work, on 2 cores of an AMD EPYC, TensorFlow
    2.21.0, by `python -m mixer_tf train --model mixer_cifar_4 --recipe ancestor --data cifar10`.
    Published: 71.2 % of the original pictures.
    """

    epochs: int = 100
    batch_size: int = 2048
    learning_rate: float = 4e-3
    token_dropout: float = 0.25
    augmentation: Augmentation = Augmentation(flip=True, rotation=0.02, zoom=0.2)


@dataclasses.dataclass(frozen=True)
class Quick(Recipe):
    """Short runs on small colour pictures.

    `mixer_cifar_4` (200,202 weights): 76.46 ± 0.42 % on CIFAR-10's test pictures (JPEG copy), one
    seed, in 10.3 minutes from the command to its result (9.2 of them in `fit`) on 2 cores of an
    AMD EPYC, TensorFlow 2.21.0, by
    `python -m mixer_tf train --model mixer_cifar_4 --recipe quick --data cifar10`.

    `resnet20` (269,722 weights trained): 87.24 ± 0.33 %, one seed, 28 minutes at the median rate
    on 2 cores of a faster AMD EPYC, the same versions, with `--epochs 30`.
    """

    epochs: int = 15
    warmup_epochs: float = 1.0
    optimizer: str = "muon"
    learning_rate: float = 1e-2
    label_smoothing: float = 0.0
    augmentation: Augmentation = Augmentation(shift=0.125, flip=True)


@dataclasses.dataclass(frozen=True)
class Cifar(Recipe):
    """Long runs on small colour pictures: what keeps a Mixer from learning them by heart.

    `mixer_cifar_4` (200,202 weights): 83.41 ± 0.37 % on CIFAR-10's test pictures (JPEG copy), one
    seed, 72 minutes at the median rate on 2 cores of an AMD EPYC, TensorFlow 2.21.0, by
    `python -m mixer_tf train --model mixer_cifar_4 --recipe cifar --data cifar10`, when four of
    RandAugment's operations were wrong (docs/accuracy.md).

    `mixer_nano_7` (991,626 weights): 84.56 ± 0.36 %, one seed, 84 minutes at the median rate on 2
    cores of a faster AMD EPYC, with the operations as they are, by
    `python -m mixer_tf train --model mixer_nano_7 --recipe cifar --data cifar10`.

    `resnet20` (269,722 weights trained): 89.52 ± 0.31 %, one seed, 101 minutes at the median rate
    on the faster one, with the operations as they are, by
    `python -m mixer_tf train --model resnet20 --recipe cifar --data cifar10`.
    """

    epochs: int = 100
    warmup_epochs: float = 5.0
    optimizer: str = "muon"
    learning_rate: float = 1e-2
    augmentation: Augmentation = Augmentation(
        shift=0.125, flip=True, rand_augment=1, cutmix=1.0, mix_probability=0.5
    )


@dataclasses.dataclass(frozen=True)
class Heavy(Cifar):
    """`cifar` with heavier augmentation and twice as long, for what learns the pictures by heart.

    `mixer_nano_7` (991,626 weights): 87.53 ± 0.33 % on CIFAR-10's test pictures (JPEG copy), one
    seed, 169 minutes at the median rate on 2 cores of the faster AMD EPYC, TensorFlow 2.21.0, by
    `python -m mixer_tf train --model mixer_nano_7 --recipe heavy --data cifar10`.
    """

    epochs: int = 200
    augmentation: Augmentation = Augmentation(
        shift=0.125, flip=True, rand_augment=2, cutmix=1.0, mix_probability=0.75
    )


@dataclasses.dataclass(frozen=True)
class Finetune(Recipe):
    """Google's fine-tuning of its Mixers on CIFAR (google-research/vision_transformer), 224 px.

    Its augmentation, crops of 5 to 100 % of the area and flips, is shifts and flips here.
    """

    steps: int = 10_000
    warmup_steps: int = 500
    batch_size: int = 512
    optimizer: str = "sgd"
    learning_rate: float = 0.03
    final_learning_rate: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    augmentation: Augmentation = Augmentation(shift=0.125, flip=True)


@dataclasses.dataclass(frozen=True)
class Rows(_PlainAdam):
    """The model zoo's row mixer: plain Adam; the dropout of 0.1 is the model's own."""

    epochs: int = 56
    batch_size: int = 100
    learning_rate: float = 1e-3
    augmentation: Augmentation = Augmentation(shift=0.125, flip=True)


_NAMED = (Digits, Ancestor, Quick, Cifar, Heavy, Finetune, Rows)
RECIPES = {kind.__name__.lower(): kind() for kind in _NAMED}


def default_recipe(source, pretrained=False):
    """Name of the recipe that suits a source of data where none was asked for."""
    if pretrained:
        return "finetune"  # the others would soon destroy what the weights know
    return "digits" if source == "digits" else "quick"


def tailored(recipe, changes, name="given"):
    """A recipe with some of its values changed, and what follows from them.

    A run of another length is warmed up for the same share of it. An optimizer of another kind
    needs a learning rate of its own.

    Args:
        recipe: a `Recipe`.
        changes: field -> value.
        name: of the recipe, for errors.

    Raises:
        ValueError: a value is out of range, or the learning rate is that of another optimizer.
    """
    changes = dict(changes)
    if "epochs" in changes:
        share = recipe.warmup_epochs / recipe.epochs
        if recipe.steps:  # one that counts in steps
            share = recipe.warmup_steps / recipe.steps
            changes |= {"steps": 0, "warmup_steps": 0}
        changes.setdefault("warmup_epochs", share * changes["epochs"])
    changed = dataclasses.replace(recipe, **changes)
    kinds = {changed.optimizer, recipe.optimizer}
    if len(kinds) > 1 and not kinds <= _ADAM_LIKE and "learning_rate" not in changes:
        raise ValueError(
            f"The recipe {name} has a learning rate for {recipe.optimizer}, "
            f"{recipe.learning_rate}; with --optimizer {changed.optimizer} give --learning-rate "
            "and --weight-decay as well. Usual are, together: 0.002 and 0.05 for adamw, 0.01 and "
            "0.05 for muon, 0.1 and 0.005 for sgd."
        )
    return changed
