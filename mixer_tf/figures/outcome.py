"""What came out: confusion matrix, mistakes, and a map of the pre-logits."""

import numpy as np
from matplotlib.figure import Figure

from mixer_tf.figures import style
from mixer_tf.figures.tiles import as_rgb


def confusion(labels, predictions, class_names):
    """A confusion matrix, one row for each true class.

    Args:
        labels: `[N]`, numbers of the true classes.
        predictions: `[N]`, numbers of the predicted ones.
        class_names: of all classes.

    Returns:
        A Figure: the colour is the share of the row, the number the count
        (numbers for at most 20 classes).
    """
    from sklearn.metrics import confusion_matrix

    count = len(class_names)
    matrix = confusion_matrix(labels, predictions, labels=np.arange(count))  # [classes, classes]
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(7.6, 7), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    if count <= 20:
        for row, column in np.ndindex(count, count):
            if matrix[row, column]:
                axes.text(
                    column,
                    row,
                    int(matrix[row, column]),
                    ha="center",
                    va="center",
                    size=9 if count <= 12 else 6,
                    color="white" if share[row, column] > 0.5 else "black",
                )
    ticks = np.arange(0, count, max(1, -(-count // 25)))
    names = [style.short(class_names[i], 14) for i in ticks]
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, names)
    right = np.trace(matrix) / max(1, matrix.sum())
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(f"{matrix.sum():,} pictures, {100 * right:.1f} % right", size=11)
    figure.colorbar(image, ax=axes, label="share of the true class (%)", shrink=0.8)
    return figure


def mistakes(images, labels, chances, class_names, count=16):
    """The most confident mistakes, the surest first.

    Args:
        images: `[N, H, W, channels]` in [0, 255].
        labels: `[N]`, numbers of the true classes.
        chances: `[N, classes]`, probabilities.
        class_names: of the classes.
        count: so many are drawn, or as many as there are.

    Returns:
        A Figure; it says so where there is no mistake.
    """
    wrong = np.flatnonzero(chances.argmax(-1) != labels)
    wrong = wrong[np.argsort(-chances.max(-1)[wrong], kind="stable")][:count]
    images = np.asarray(images)[wrong]
    figure = Figure(figsize=(9, 10.4), layout="constrained")
    if not len(images):
        figure.set_size_inches(5, 2)
        figure.text(0.5, 0.5, "no mistake among these pictures", ha="center", va="center")
        return figure
    images = as_rgb(np.clip(images.astype("float64") / 255, 0, 1))
    rows = -(-len(images) // 4)
    figure.set_size_inches(9, 2.6 * rows)
    figure.get_layout_engine().set(h_pad=0.08)
    grid = figure.subplots(rows, 4, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, image, number in zip(grid, images, wrong):
        axes.imshow(image, interpolation="nearest")
        said = chances[number].argmax()
        truth, answer = (style.short(class_names[i], 18) for i in (labels[number], said))
        sure = 100 * chances[number, said]
        axes.set_title(f"true: {truth}\nsaid: {answer}, {sure:.0f} %", size=9)
    return figure


def embedding(vectors, labels, class_names, right):
    """Pictures by the first two principal components of their pre-logits.

    Args:
        vectors: `[N, C]`.
        labels: `[N]`, numbers of the true classes.
        class_names: of the classes.
        right: `[N]` bool, whether the prediction was right.

    Returns:
        A Figure: colour and marker by class for at most 18 classes, else
        one colour for all; wrong predictions are ringed.
    """
    vectors = np.nan_to_num(np.asarray(vectors, "float64"))
    labels, right = np.asarray(labels), np.asarray(right, bool)
    centred = vectors - vectors.mean(0)
    _, singular, axes_of = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ axes_of[:2].T
    if flat.shape[1] < 2:  # a model with a single pre-logit
        flat = np.pad(flat, ((0, 0), (0, 1)))
    share = 100 * singular**2 / max(float((singular**2).sum()), 1e-30)
    share = np.append(share, [0, 0])
    figure = Figure(figsize=(8.4, 6.2), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*flat[~right].T, s=58, facecolors="none", edgecolors="0.45", lw=0.7, label="wrong")
    if len(class_names) <= 18:
        groups = [(name, labels == i) for i, name in enumerate(class_names)]
    else:
        groups = [(f"{len(class_names)} classes", np.ones(len(flat), bool))]
    for i, (name, members) in enumerate(groups):
        style_of = {"color": style.colour(i), "marker": style.marker(i + i // 7)}
        axes.scatter(*flat[members].T, s=16, lw=0, label=style.short(name), **style_of)
    axes.set(
        xlabel=f"first component ({share[0]:.0f} % of the variance)",
        ylabel=f"second component ({share[1]:.0f} %)",
    )
    figure.legend(loc="outside right upper", frameon=False, markerscale=1.4)
    return figure
