"""The flags that every command that trains has."""

import pathlib

import click

from mixer_tf.recipes import RECIPES


def training_flags(command):
    """The flags that every command that trains has."""
    flags = [
        click.option(
            "--data",
            default="digits",
            show_default=True,
            help="digits, cifar10, cifar100, a folder or a .zip of class folders.",
        ),
        click.option(
            "--out",
            type=click.Path(path_type=pathlib.Path),
            help="Folder for the run; by default a new one below runs/.",
        ),
        click.option(
            "--recipe",
            help=f"How to train: {', '.join(RECIPES)}; by default finetune with --pretrained, "
            "digits for the digits, else quick.",
        ),
        click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's."),
        click.option("--batch-size", type=click.IntRange(1), help="Instead of the recipe's."),
        click.option(
            "--optimizer",
            help="Instead of the recipe's: adamw, adam, sgd, lamb, or muon (Keras 3), or radam "
            "(tensorflow-addons).",
        ),
        click.option(
            "--learning-rate",
            type=click.FloatRange(0, min_open=True),
            help="Its peak, instead of the recipe's.",
        ),
        click.option("--weight-decay", type=click.FloatRange(0), help="Instead of the recipe's."),
        click.option(
            "--image-size",
            type=click.IntRange(1),
            help="Height and width the model sees, in pixels.",
        ),
        click.option(
            "--precision",
            default="auto",
            show_default=True,
            help="auto, float32, mixed_float16 or mixed_bfloat16.",
        ),
        click.option(
            "--pretrained",
            help="Weights to begin with: a Google .npz, a timm .safetensors, a run, or a name "
            "such as mixer_b16_in21k.",
        ),
        click.option("--freeze", help="What does not train: stem, or blocks (with the stem)."),
        click.option(
            "--layer-decay",
            type=float,
            help="Factor on the learning rate from each block to the one before it.",
        ),
        click.option(
            "--accumulate", type=click.IntRange(1), help="Parts to compute each batch in."
        ),
        click.option(
            "--recompute", is_flag=True, default=None, help="Less memory for deep Mixers, slower."
        ),
        click.option(
            "--seed",
            type=click.IntRange(0),
            default=0,
            show_default=True,
            help="Decides first weights, order, augmentation and which pictures validate.",
        ),
        click.option(
            "--validation-fraction",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            default=0.1,
            show_default=True,
            help="Share of the training pictures that the best epoch is chosen by, where the data "
            "has none for that.",
        ),
        click.option(
            "--per-device",
            type=click.IntRange(1),
            help="Pictures of each batch on each device; the recipe's learning rate follows.",
        ),
        click.option(
            "--shares",
            type=click.IntRange(1),
            help="Parts that a batch is augmented in; as many as hosts, and each augments its own.",
        ),
        click.option(
            "--save-every",
            type=click.IntRange(1),
            help="Save after every so many steps too, not only after each epoch.",
        ),
        click.option("--resume", is_flag=True, help="Go on with the run in --out."),
        click.option("--strict", is_flag=True, help="Refuse pictures that cannot be read."),
    ]
    for flag in reversed(flags):
        command = flag(command)
    return command
