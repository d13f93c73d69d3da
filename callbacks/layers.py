"""Finding a model's layers, weights and answers by name, on every backend and Keras."""

import numpy as np

from mixer_tf import figures


def find_layer(model, path):
    """A layer by its name, parts of layers after a dot: `block_0.token_mixing.dense_0`.

    Models inside the model are searched too.

    Raises:
        ValueError: there is none; the message lists what there is.
    """
    if (whole := _search(model, path)) is not None:  # a name may have dots of its own
        return whole
    first, *rest = path.split(".")
    found = _search(model, first)
    if found is None:
        raise ValueError(
            f"The model {model.name!r} has no layer {first!r}; its layers are: "
            f"{', '.join(layer.name for layer in model.layers)}."
        )
    for name in rest:
        parts = list(found._flatten_layers(include_self=False, recursive=False))
        inner = [part for part in parts if part.name == name]
        if not inner:
            raise ValueError(
                f"The layer {found.name!r} has no part {name!r}; its parts are: "
                f"{', '.join(part.name for part in parts) or 'none'}."
            )
        found = inner[0]
    return found


def has_layer(model, path):
    """Whether `find_layer` finds it."""
    try:
        find_layer(model, path)
    except ValueError:
        return False
    return True


def as_array(value):
    """A variable, tensor or number as numpy's; mirrored variables know `numpy()` alone."""
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def _search(model, name):
    for layer in model.layers:
        if layer.name == name:
            return layer
    for layer in model.layers:
        parts = getattr(layer, "layers", None)
        # Layers in a list, as a model has them: a layer may call its depth or its widths so.
        if isinstance(parts, list) and all(hasattr(part, "name") for part in parts):
            found = _search(layer, name)
            if found is not None:
                return found
    return None


def _weights(model, path):
    """Arrays of a layer; a model that has none yet is refused."""
    layer = find_layer(model, path)
    if not model.built and not layer.built:
        raise ValueError(
            f"The layer {path!r} has no weights yet; call the model on one batch before fit, or "
            "give it a keras.Input."
        )
    return layer.get_weights()


def filters(model, path):
    """The kernel of a convolution, `[height, width, channels, C]`.

    A layer that holds several (a branched stem) is shown by its largest one.

    Raises:
        ValueError: there is no such layer, or it is no convolution.
    """
    weights = _weights(model, path)
    largest = figures.largest_kernel(weights)
    if largest is None:
        raise ValueError(
            f"The layer {path!r} is no convolution: it needs a kernel [height, width, channels, "
            f"filters], its weights have the shapes {[w.shape for w in weights]}."
        )
    return largest


def kernel(model, path):
    """The kernel of a Dense layer, `[inputs, units]`.

    Raises:
        ValueError: there is no such layer, or it is no Dense.
    """
    weights = _weights(model, path)
    if not weights or weights[0].ndim != 2:
        raise ValueError(
            f"The layer {path!r} is no Dense layer: it needs a kernel [inputs, units], its "
            f"weights have the shapes {[w.shape for w in weights]}."
        )
    return np.asarray(weights[0], "float32")


def reader(model, outputs=None):
    """A model of one's own that shares the weights, so that `fit` finds its model as it left it.

    Args:
        model: any Keras model of one input.
        outputs: symbolic outputs; the model's own if left out.

    Returns:
        A functional model, or the model itself where it is not functional.
    """
    import keras

    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        return model
    made = keras.Model(model.inputs[0], model.outputs[0] if outputs is None else outputs)
    made.jit_compile = False  # XLA compiles for longer than these few pictures take
    return made


def answers(reading, images, batch_size=64):
    """What a model answers to pictures.

    Args:
        reading: what `reader` gave.
        images: `[N, H, W, channels]`.
        batch_size: pictures at once; few stay in the processor's cache, and a power of two is
            whole parts for all of the devices that JAX may share them among.

    Returns:
        `[N, ...]` float32, or a list of them for several outputs.
    """
    images = np.asarray(images, "float32")
    count = len(images)
    # Whole batches only: another shape would be compiled anew.
    images = np.concatenate([images, np.repeat(images[-1:], -count % batch_size, axis=0)])
    if getattr(reading, "inputs", None):
        found = reading.predict(images, batch_size=batch_size, verbose=0)
    else:  # not functional: its own `predict` may belong to others
        starts = range(0, len(images), batch_size)
        parts = [reading(images[i : i + batch_size], training=False) for i in starts]
        found = np.concatenate([np.asarray(part) for part in parts])
    if isinstance(found, (list, tuple)):
        return [np.asarray(part)[:count].astype("float32") for part in found]
    return np.asarray(found)[:count].astype("float32")


def drawable(images):
    """Pictures as uint8, in whatever range a model takes them: to 255, to 1, or about 0."""
    images = np.nan_to_num(np.asarray(images))
    if images.dtype.kind == "f":
        low, high = float(images.min()), float(images.max())
        if low < 0:  # the darkest black, the lightest white
            images = (images - low) * (255 / (high - low or 1))
        elif high <= 1.5:  # resizing may leave a little more than 1
            images = images * 255
    return np.clip(np.round(images), 0, 255).astype("uint8")


def check_pictures(model, images, labels, class_names):
    """Refuse pictures, labels and names that do not belong together (ValueError)."""
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or not len(images) or labels.shape != (len(images),):
        raise ValueError(
            f"images have the shape {images.shape} and labels {labels.shape}; give "
            "[N, height, width, channels] and [N], with N at least 1."
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels are {labels.dtype}; give the whole number of each one's class.")
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise ValueError(
            f"labels go from {labels.min()} to {labels.max()}, but there are {len(class_names)} "
            "class names; give one name for each class."
        )
    inputs, outputs = (getattr(model, name, None) or [] for name in ("inputs", "outputs"))
    if inputs:
        expected, several = tuple(inputs[0].shape)[1:], len(inputs) > 1 or len(outputs) > 1
    else:  # of a model that is not functional an answer tells
        try:
            answer = model(np.asarray(images[:1], "float32"), training=False)
        except Exception as error:  # whatever its own code raises
            raise ValueError(
                f"The model takes no images of the shape {images.shape[1:]} ({error}); resize them "
                "first."
            ) from error
        expected, several = (), isinstance(answer, (list, tuple, dict))
        outputs = [answer]
    if several:
        raise ValueError(
            f"The model {model.name!r} has several inputs or outputs; give the callback to one "
            "that takes pictures alone and answers with a number for each class."
        )
    if len(expected) == 3 and any(e not in (None, n) for e, n in zip(expected, images.shape[1:])):
        raise ValueError(
            f"images have the shape {images.shape[1:]}, but the model takes {expected}; resize "
            "them first."
        )
    answered = tuple(outputs[0].shape)
    if len(answered) != 2:
        raise ValueError(
            f"The model answers with the shape {answered}; it must be [N, {len(class_names)}], a "
            "number for each class."
        )
    if answered[-1] == 1:
        raise ValueError(
            f"The model {model.name!r} answers with a single number; the callback needs one for "
            "each class, such as two under softmax."
        )
    if answered[-1] not in (None, len(class_names)):
        raise ValueError(
            f"There are {len(class_names)} class names, but the model answers with "
            f"{answered[-1]} numbers; give one name for each."
        )


def probabilities(answer):
    """Logits, or probabilities, `[N, classes]` as probabilities that sum to 1.

    Those of a sigmoid do not: they are divided by their sum. A hundredth above 1 is rounding, of a
    sum in float16 for example. Nothing but zeros, a head that has learned nothing, says each class.
    """
    answer = np.nan_to_num(np.asarray(answer, "float64"))
    if (answer >= 0).all() and (answer <= 1.01).all():
        answer = np.where(answer.any(-1, keepdims=True), answer, 1)
        return answer / answer.sum(-1, keepdims=True)
    shifted = np.exp(answer - answer.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)
