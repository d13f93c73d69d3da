"""A training that a second start of the same command takes to its end."""

from mixer_tf.runs import Run
from mixer_tf.train import resume, train


def train_to_the_end(model, data, recipe, folder, **options):
    """Train into `folder`, or go on with what began there.

    Args:
        model: a name or a `MixerConfig`.
        data: a `Data`.
        recipe: a `Recipe`.
        folder: of the run, a `pathlib.Path`.
        options: of `train` and `resume` alike.

    Returns:
        The dict that `result.json` holds.

    Raises:
        ValueError: what began there has another model or recipe.
    """
    run = Run(folder)
    if not run.config_file.exists():
        return train(model, data, recipe, folder, own_process=True, **options)
    config = run.config()
    has, asked = config.recipe.to_dict(), recipe.in_epochs(len(data.train)).to_dict()
    if (config.model, has) != (model, asked):  # the recipe's class may be a named one's
        raise ValueError(
            f"{folder} began with {config.model} and {has}; asked for are {model} and "
            f"{asked}. Give another folder, or the command it began with."
        )
    return resume(folder, data, own_process=True, **options)
