"""The flags that every command that trains has."""

import pathlib

import click


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
            help="How to train: quick, cifar, digits, finetune, rows or ancestor; by default "
            "finetune with --pretrained, digits for the digits, else quick.",
        ),
        click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's."),
        click.option("--batch-size", type=click.IntRange(1), help="Instead of the recipe's."),
        click.option(
            "--optimizer", help="Instead of the recipe's: adamw, adam, sgd, lamb, muon or radam."
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
            "--layer-decay", type=float, help="Factor on the learning rate from block to block."
        ),
        click.option(
            "--accumulate", type=click.IntRange(1), help="Parts to compute each batch in."
        ),
        click.option(
            "--recompute", is_flag=True, default=None, help="Less memory for deep Mixers, slower."
        ),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
        click.option(
            "--per-device",
            type=click.IntRange(1),
            help="Pictures of each batch on each device; the recipe's learning rate follows.",
        ),
        click.option(
            "--shares", type=click.IntRange(1), help="Parts of a batch that hosts augment apart."
        ),
        click.option(
            "--save-every", type=click.IntRange(1), default=None, help="Steps between two savings."
        ),
        click.option("--resume", is_flag=True, help="Go on with the run in --out."),
        click.option("--strict", is_flag=True, help="Refuse pictures that cannot be read."),
    ]
    for flag in reversed(flags):
        command = flag(command)
    return command
