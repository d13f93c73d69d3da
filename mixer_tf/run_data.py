"""The data that a run was trained on, or other data with the same classes."""

from mixer_tf.data import load_data


def check_classes(config, data):
    """Refuse data whose classes are not those that a run knows.

    Args:
        config: the run's `RunConfig`.
        data: a `Data`.

    Raises:
        ValueError: number or names of its classes are others, or the channels of its pictures.
    """
    if data.class_names != config.class_names:
        raise ValueError(
            f"The run was trained on {config.num_classes} classes of {config.data}; {data.name} "
            f"has {data.num_classes} others."
        )
    channels, needed = data.image_shape[2], config.input_shape[2]
    if channels != needed:
        raise ValueError(
            f"The run was trained on pictures of {needed} channels; those of {data.name} have "
            f"{channels}. Give pictures that are {'grey' if needed == 1 else 'RGB'} throughout."
        )


def check_same(config, data, folder):
    """Refuse data that is not what a run was trained on.

    Args:
        config: the run's `RunConfig`.
        data: a `Data`.
        folder: of the run, for the message.

    Raises:
        ValueError: its classes are others, its labels, which of its pictures are held out, or the
            size they were read at.
    """
    check_classes(config, data)
    if config.split and data.split and config.split != data.split:
        raise ValueError(
            f"{folder} was trained with other pictures held out for validation: share and seed "
            f"were {config.split}, are {data.split}. Load the data with those."
        )
    for was, split, how in (
        (config.pictures, data.train, "trained"),
        (config.validation, data.validation, "validated"),
    ):
        if not split.agrees(was):
            raise ValueError(
                f"{folder} was {how} on other pictures of {config.data} than are there now (number "
                f"and checksums of labels and names were {was}, are {split.fingerprint()}); bring "
                "those back, or begin a new run."
            )
    if config.loaded_size not in (None, data.image_shape[:2]):
        raise ValueError(
            f"{folder} was trained on pictures read at {config.loaded_size}, these are "
            f"{data.image_shape[:2]}. Load the data with image_size={config.loaded_size}."
        )


def load_run_data(config, source=None):
    """Load what a run was trained on, split as it was.

    Args:
        config: the run's `RunConfig`.
        source: other data with the same classes, as for `load_data`.

    Returns:
        A `Data`, with pictures of the size that they had then; other data's are no larger than
        the model takes.

    Raises:
        ValueError: it cannot be read, has other classes, or is no more what the run was
            trained on and has no test set of its own, so that pictures it was trained on may
            have come into the one that is held out now.
    """
    size = config.input_shape[:2] if source else config.read_size
    data = load_data(source or config.data, size, **config.how_split)
    check_classes(config, data)
    known = data.train.agrees(config.pictures)
    if not (source or known) and data.test_from_train:
        raise ValueError(
            f"{config.data} holds other pictures than the run was trained on (number, checksums "
            f"of labels and names were {config.pictures}, are {data.train.fingerprint()}), and no "
            "test set of its own: pictures that were trained on may be held out to test on now. "
            "Bring those back, or name a test set."
        )
    return data
