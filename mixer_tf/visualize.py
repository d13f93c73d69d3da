"""Everything that can be drawn of a run: arrays from its model, figures, one page.

Each figure is a function that takes a `Subject` and a path and writes the file,
or raises `NotHere` with the reason why this run has none.
"""

import functools

import numpy as np

from mixer_tf import figures, files, page, shuffling, stages
from mixer_tf.runs import Run
from mixer_tf.subject import NotHere, Subject


def visualize(folder):
    """Draw a run into `RUN/figures`: PNG files, a GIF, and `index.html` with all of them.

    Args:
        folder: of the run.

    Returns:
        Path of `index.html`.

    Raises:
        ValueError: the folder holds no run, or no epoch of it has ended.
    """
    subject = Subject(Run.open(folder))
    subject.model  # noqa: B018 - a run without weights has nothing to draw
    out = subject.run.folder / "figures"
    out.mkdir(exist_ok=True)
    drawn, left_out = [], []
    for name, heading, draw, reading, against in _FIGURES:
        try:
            with files.replacing(out / name) as beside:
                draw(subject, beside)
        except NotHere as reason:
            (out / name).unlink(missing_ok=True)  # an older one would be taken for this run's
            left_out.append((heading, str(reason)))
        else:
            drawn.append((name, heading, reading, against))
    title = f"{subject.config.model_name} on {subject.config.data}"
    page.write_page(out / "index.html", title, subject.facts(), drawn, left_out)
    return out / "index.html"


def _stem(subject):
    kernels = [w for w in subject.model.get_layer("stem").get_weights() if w.ndim == 4]
    if not kernels:
        raise NotHere("the layer stem holds no convolution.")
    return np.asarray(max(kernels, key=lambda w: w.shape[0] * w.shape[1]), "float32")


def _projections(subject, path):
    kernel = _stem(subject)
    height, width, channels, count = kernel.shape
    title = f"{count} filters of {height} x {width} pixels, {channels} channels of input"
    figures.save(figures.projections(kernel[..., figures.by_frequency(kernel)], title), path)


def _evolution(subject, path):
    figures.save(figures.evolution(*subject.snapshots), path)


def _animation(subject, path):
    figures.animation(*subject.snapshots, path)


def _token_mixing(subject, path, block):
    if block >= len(subject.blocks):
        raise NotHere(f"the model has {len(subject.blocks)} blocks.")
    kernel = np.asarray(subject.blocks[block].token_mixing.dense_0.get_weights()[0], "float32")
    trained = figures.pairs_of(kernel, subject.grid)
    control = figures.pairs_of(figures.fresh_kernel(kernel.shape), subject.grid)
    if not len(trained.cosines):
        raise NotHere("a token-mixing MLP of one unit has no pairs.")
    title = f"block {block}: token-mixing units beside their opposites"
    figures.save(figures.token_mixing(trained, control, title), path)


def _mixing_distance(subject, path):
    grid = subject.grid
    distances, untrained = [], []
    for i, block in enumerate(subject.blocks):
        first, _, second, _ = block.token_mixing.get_weights()
        distances.append(figures.mixing_distance(first, second, grid))
        untrained.append(figures.fresh_distances((first.shape, second.shape), grid, seed=i))
    tokens = grid[0] * grid[1]
    uniform = figures.mixing_distance(np.ones((tokens, 1)), np.ones((1, tokens)), grid)
    figures.save(figures.mixing_distances(distances, untrained, uniform), path)


def _one_patch(subject, path):
    block, last = subject.blocks[0], subject.blocks[-1]
    picture = subject.pictures[0][:1]
    changed = picture.copy()
    rows, columns = subject.grid
    height, width = picture.shape[1] // rows, picture.shape[2] // columns
    y, x = rows // 2 * height, columns // 2 * width
    changed[:, y : y + height, x : x + width] = 255 - changed[:, y : y + height, x : x + width]

    passes = []
    staged = stages.features(subject.model)
    for image in (picture, changed):
        seen = staged(image, training=False)
        tokens = seen["tokens"]
        mixed = tokens + block.mix_tokens(tokens)
        passes.append(
            [
                tokens,
                mixed,
                mixed + block.mix_channels(mixed),
                tokens + block.mix_channels(tokens),
                seen[last.name],
            ]
        )
    titles = [
        "after the stem",
        "block 0: + mixing tokens",
        "block 0: + mixing channels",
        "block 0, mixing channels alone",
        f"after the last block ({last.name})",
    ]
    before, after = ([np.asarray(t)[0].astype("float32") for t in p] for p in passes)
    panels = [(title, np.abs(a - b)) for title, a, b in zip(titles, after, before)]
    pictures = (picture[0].astype("uint8"), changed[0].astype("uint8"))
    figures.save(figures.one_patch(*pictures, panels), path)


def _confusion(subject, path):
    from sklearn.metrics import confusion_matrix

    labels, said = subject.pictures[1], subject.answers[1].argmax(-1)
    names = subject.config.class_names
    matrix = confusion_matrix(labels, said, labels=np.arange(len(names)))
    figures.save(figures.confusion(matrix, names), path)


def _mistakes(subject, path):
    images, labels = subject.pictures
    chances, names = subject.answers[1], subject.config.class_names
    wrong = figures.surest_mistakes(labels, chances)
    which = (labels[wrong], chances[wrong].argmax(-1))
    truths, predictions = ([names[i] for i in numbers] for numbers in which)
    sure = chances[wrong].max(-1)
    figures.save(figures.mistakes(images[wrong], truths, predictions, sure), path)


def _embedding(subject, path):
    every = slice(None, None, -(-len(subject.pictures[1]) // 1000))  # more dots hide each other
    vectors, chances = (a[every] for a in subject.answers)
    labels = subject.pictures[1][every]
    names = subject.config.class_names
    figures.save(figures.embedding(vectors, labels, names, chances.argmax(-1) == labels), path)


def _curves(subject, path):
    run = {"name": subject.config.model_name, "history": subject.run.history()}
    figures.save(figures.learning_curves([run]), path)


def _beside(subject):
    """This run and the ended ones in the folder it stands in, of the same data, at most 63."""
    runs, own = [], subject.run.folder.absolute()
    for folder in [own, *sorted(f for f in own.parent.iterdir() if f != own)]:
        run = Run(folder)
        if not (run.config_file.exists() and run.result_file.exists()):
            continue
        try:
            if run.config().data == subject.config.data:
                runs.append({"name": folder.name, "history": run.history(), "result": run.result()})
        except ValueError:  # of another format, or damaged: not this run's fault
            continue
    return runs[:63]  # so many markers in so many colours can be told apart


def _cost(subject, path):
    runs = _beside(subject)
    if not runs:
        raise NotHere("the run has not ended.")
    figures.save(figures.accuracy_against_cost(runs), path)


def _shuffles(subject, path):
    pictures, curves = shuffling.short_trainings(subject)
    figures.save(
        figures.shuffle_invariance(
            pictures, {subject.config.model_name: curves}, ylabel="training loss", xlabel="step"
        ),
        path,
    )


# file, heading, function, how to read it, what would contradict it
_FIGURES = [
    (
        "projections.png",
        "What the stem looks for",
        _projections,
        "Every filter of the first layer, scaled by itself: mid-grey is zero. Low spatial "
        "frequencies come first. Smooth waves, edges and blobs of colour are learned.",
        "pixel noise throughout: then the filters have hardly left their random start.",
    ),
    (
        "evolution.png",
        "How filters came to be",
        _evolution,
        "A row is one filter, a column one epoch, 0 before training. A row has one scale, so "
        "growth shows as contrast.",
        "rows that do not change from the first column to the last: nothing was learned there.",
    ),
    (
        "evolution.gif",
        "All filters over the epochs",
        _animation,
        "The same for every filter at once, in motion. Filters settle one after another.",
        "flicker to the very end: then the learning rate never came down.",
    ),
    *(
        (
            f"token_mixing_block_{i}.png",
            f"Token mixing, block {i}",
            functools.partial(_token_mixing, block=i),
            "After the paper's Figure 5: the weights of a unit on the token grid, beside the "
            "unit most opposite to it, low frequencies first, the cosine below. Trained long on "
            "much data, units become opposite twins (cosine near −1) with smooth patterns; "
            "small models and short trainings show this weakly.",
            "a trained side that looks like the untrained control, and the same mean cosine: "
            "pairing finds some opposition in noise, too.",
        )
        for i in range(3)
    ),
    (
        "mixing_distance.png",
        "How far each block mixes",
        _mixing_distance,
        "The mean distance on the token grid between an output token and its inputs, weighted "
        "by |W0 W1| of the token-mixing MLP (its nonlinearity and the residual path left out). "
        "Below the untrained line, a block prefers near tokens.",
        "a trained line on the untrained one: the network has learned nothing about nearness.",
    ),
    (
        "one_patch.png",
        "One changed patch",
        _one_patch,
        "One patch of a test picture is inverted. After the stem one token has moved; mixing "
        "tokens spreads it to the others; mixing channels alone leaves it in its token.",
        "a second token that moves after the stem, or where channels alone are mixed.",
    ),
    (
        "curves.png",
        "While training",
        _curves,
        "Loss and accuracy by epoch: solid on validation data, dotted in training. A dotted "
        "curve that leaves the solid one behind is learning by heart. Augmentation makes "
        "training harder, so dotted may stay the worse one.",
        "a validation loss that rises from the start.",
    ),
    (
        "cost.png",
        "Accuracy against cost",
        _cost,
        "This run and the ended runs on the same data in the folder it stands in: test "
        "accuracy and its standard error against weights and against seconds of training. "
        "Better is higher and further left.",
        "error bars that overlap: then there is no difference to explain.",
    ),
    (
        "confusion.png",
        "Which classes are mistaken",
        _confusion,
        "Test pictures by their true class (row) and predicted class (column).",
        "mistakes spread evenly over a row: then the classes have nothing in common that "
        "explains them.",
    ),
    (
        "mistakes.png",
        "The surest mistakes",
        _mistakes,
        "Test pictures whose wrong answer had the highest probability, surest first.",
        "pictures that a person finds easy: a doubtful label or crop is then no excuse.",
    ),
    (
        "embedding.png",
        "The pre-logits as a map",
        _embedding,
        "Test pictures by the first two principal components of what the head sees; rings mark "
        "wrong answers. Classes that lie apart here are told apart with ease. The Projector of "
        "TensorBoard shows all components.",
        "rings spread evenly over the map instead of where classes meet.",
    ),
    (
        "shuffles.png",
        "Which order of pixels matters",
        _shuffles,
        "After the paper's Figure 4: the first steps of three short trainings on the same "
        "pictures in three orders of pixels. With its initial weights permuted alike, a Mixer "
        "on permuted patches and pixels within them takes exactly the same course; with all "
        "pixels permuted it does not. A convolutional network notices both. So few steps show "
        "that courses differ, not yet which ends better.",
        "for a Mixer, a second line that leaves the first by more than rounding.",
    ),
]
