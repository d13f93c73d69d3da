"""The batch of a step: how large in all, how much of it on each device, at what learning rate.

A recipe's `batch_size` is that of all devices together, so the same recipe gives
the same training on one device and on many.
"""

import dataclasses


def per_replica(batch_size, replicas):
    """Pictures of each batch on each device.

    Raises:
        ValueError: they cannot be shared equally.
    """
    if batch_size % replicas:
        lower = batch_size // replicas * replicas
        nearest = f"{lower} or {lower + replicas}" if lower else f"{replicas}"
        raise ValueError(
            f"batch_size is {batch_size}, which {replicas} devices cannot share equally; give "
            f"{nearest}."
        )
    return batch_size // replicas


def scaled(recipe, pictures, replicas):
    """The recipe for `pictures` of each batch on each device.

    The peak of the learning rate follows the batch: k times the batch at k times
    the rate for SGD (Goyal et al. 2017, arXiv 1706.02677, section 2.1), at the
    square root of k times the rate for the others, whose steps do not grow with
    the gradient (Malladi et al. 2022, arXiv 2205.10287, for Adam). Both hold with
    a warm-up and up to a few thousand pictures a batch.
    """
    factor = pictures * replicas / recipe.batch_size
    if recipe.optimizer != "sgd":
        factor **= 0.5
    return dataclasses.replace(
        recipe,
        batch_size=pictures * replicas,
        learning_rate=recipe.learning_rate * factor,
        final_learning_rate=recipe.final_learning_rate * factor,
    )


def describe(recipe, replicas):
    """One line for people."""
    each = per_replica(recipe.batch_size, replicas)
    shared = f" ({replicas} x {each})" if replicas > 1 else ""
    return f"batch of {recipe.batch_size}{shared}, learning rate up to {recipe.learning_rate:g}"
