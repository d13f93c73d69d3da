"""What a trained model sees in pictures: the likeliest classes with their probabilities."""

import itertools

import numpy as np

from mixer_tf.evaluate import log_probabilities
from mixer_tf.reading.pictures import read_pictures

_BATCH = 32


def predict(model, class_names, sources, top=5, report=None):
    """The likeliest classes of pictures.

    Args:
        model: a `keras.Model` of this suite.
        class_names: one for each logit.
        sources: pictures and folders of pictures; they are decoded and resized as
            in training.
        top: classes to name for each picture, fewer where there are fewer.
        report: a `Report`, which notes pictures of a folder that cannot be read; by
            default they are refused.

    Yields:
        One dict for each picture: `picture` (its path) and `top`, a list of
        `{"class": name, "probability": in [0, 1]}`, the likeliest first.

    Raises:
        ValueError: a picture is missing or cannot be read, or the names are not
            as many as the logits.
    """
    if len(class_names) != model.output_shape[-1]:
        raise ValueError(
            f"There are {len(class_names)} class names for {model.output_shape[-1]} logits."
        )
    shape = model.input_shape[1:]
    found = itertools.chain.from_iterable(
        read_pictures(source, shape, report) for source in sources
    )
    while batch := list(itertools.islice(found, _BATCH)):
        paths, images = zip(*batch)
        logits = model(np.stack(images).astype("float32"), training=False)
        for path, row in zip(paths, np.exp(log_probabilities(logits))):
            likeliest = np.argsort(-row, kind="stable")[:top]
            yield {
                "picture": str(path),
                "top": [{"class": class_names[i], "probability": float(row[i])} for i in likeliest],
            }
