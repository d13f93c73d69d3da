"""The data that a run was trained on, or other data with the same classes."""

from mixer_tf.data import load_data


def check_classes(config, data):
    """Refuse data whose classes are not those that a run knows.

    Args:
        config: the run's `RunConfig`.
        data: a `Data`.

    Raises:
        ValueError: number or names of its classes are others.
    """
    if data.class_names != config.class_names:
        raise ValueError(
            f"The run was trained on {config.num_classes} classes of {config.data}; {data.name} "
            f"has {data.num_classes} others."
        )


def load_run_data(config, source=None):
    """Load what a run was trained on, split as it was.

    Args:
        config: the run's `RunConfig`.
        source: other data with the same classes, as for `load_data`.

    Returns:
        A `Data`, with pictures no larger than the model takes.

    Raises:
        ValueError: it cannot be read, or has other classes.
    """
    data = load_data(source or config.data, config.input_shape[:2], seed=config.seed)
    check_classes(config, data)
    return data
