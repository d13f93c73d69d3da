"""A run's figures: arrays from its model and its answers, given to `mixer_tf.figures`.

Each public function takes a `Subject` and a path and writes the file, or raises
`NotHere` with the reason why this run has none.
"""

import numpy as np

from mixer_tf import figures, stages
from mixer_tf.drawing import shuffling
from mixer_tf.drawing.subject import NotHere
from mixer_tf.runs import Run


def projections(subject, path):
    """Every filter of the stem."""
    kernel = figures.largest_kernel(subject.model.get_layer("stem").get_weights())
    if kernel is None:
        raise NotHere("the layer stem holds no convolution.")
    height, width, channels, count = kernel.shape
    title = f"{count} filters of {height} x {width} pixels, {channels} channels of input"
    figures.save(figures.projections(kernel[..., figures.by_frequency(kernel)], title), path)


def evolution(subject, path):
    """Some filters, epoch by epoch."""
    kernels, epochs, order = subject.snapshots
    some = order[figures.evenly(range(len(order)), 10)]
    figures.save(figures.evolution(kernels, epochs, some), path)


def animation(subject, path):
    """All filters over the epochs, a GIF."""
    kernels, epochs, order = subject.snapshots
    figures.animation(kernels[..., order], epochs, path)


def token_mixing(subject, path, block):
    """Units of a block's token mixing beside their opposites, and an untrained control."""
    if block >= len(subject.blocks):
        raise NotHere(f"the model has {len(subject.blocks)} blocks.")
    kernel = np.asarray(subject.blocks[block].token_mixing.dense_0.get_weights()[0], "float32")
    trained = figures.pairs_of(kernel, subject.grid)
    control = figures.pairs_of(figures.fresh_kernel(kernel.shape), subject.grid)
    if not len(trained.cosines):
        raise NotHere("a token-mixing MLP of one unit has no pairs.")
    title = f"block {block}: token-mixing units beside their opposites"
    figures.save(figures.token_mixing(trained, control, title), path)


def mixing_distance(subject, path):
    """How far each block mixes, beside untrained ones."""
    grid = subject.grid
    distances, untrained = [], []
    for i, block in enumerate(subject.blocks):
        first, _, second, _ = block.token_mixing.get_weights()
        distances.append(figures.mixing_distance(first, second, grid))
        untrained.append(figures.fresh_distances((first.shape, second.shape), grid, seed=i))
    tokens = grid[0] * grid[1]
    uniform = figures.mixing_distance(np.ones((tokens, 1)), np.ones((1, tokens)), grid)
    figures.save(figures.mixing_distances(distances, untrained, uniform), path)


def one_patch(subject, path):
    """What one inverted patch changes on its way through the first block and at the end."""
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


def confusion(subject, path):
    """Which classes are taken for which."""
    said = subject.answers[1].argmax(-1)
    drawn = figures.confusion(subject.pictures[1], said, subject.config.class_names)
    figures.save(drawn, path)


def mistakes(subject, path):
    """Test pictures whose wrong answer was surest."""
    drawn = figures.mistakes(*subject.pictures, subject.answers[1], subject.config.class_names)
    figures.save(drawn, path)


def embedding(subject, path):
    """Test pictures by two principal components of their pre-logits."""
    every = slice(None, None, -(-len(subject.pictures[1]) // 1000))  # more dots hide each other
    vectors, chances = (a[every] for a in subject.answers)
    labels = subject.pictures[1][every]
    names = subject.config.class_names
    figures.save(figures.embedding(vectors, labels, names, chances.argmax(-1) == labels), path)


def curves(subject, path):
    """Loss and accuracy by epoch."""
    try:
        history = subject.run.history()
    except ValueError as error:  # stopped before it was written, or damaged
        raise NotHere(str(error)) from error
    run = {"name": subject.config.model_name, "history": history}
    figures.save(figures.learning_curves([run]), path)


def _beside(subject):
    """This run and the ended ones in the folder it stands in, of the same data, at most 63."""
    own = subject.run.folder.resolve()
    try:
        others = sorted(folder for folder in own.parent.iterdir() if folder != own)
    except OSError:  # a folder that others may not look into
        others = []
    first, *rest = (_ended(folder, subject.config.data) for folder in [own, *others])
    if first is None:
        raise NotHere("the run has not ended.")
    # So many markers in so many colours can be told apart.
    return [first, *filter(None, rest)][:63]


def _ended(folder, data):
    """What `cost` shows of an ended run on the same data; None for any other folder."""
    run = Run(folder)
    try:
        if run.config_file.exists() and run.result_file.exists() and run.config().data == data:
            return {"name": folder.name, "history": run.history(), "result": run.result()}
    except (OSError, ValueError):  # not to be read, or damaged: not the drawn run's fault
        pass
    return None


def cost(subject, path):
    """Test accuracy over weights and seconds, beside the runs in the same folder."""
    runs = _beside(subject)
    figures.save(figures.accuracy_against_cost(runs), path)


def shuffles(subject, path):
    """First steps of trainings on pictures whose pixels are in three orders."""
    pictures, curves = shuffling.short_trainings(subject)
    figures.save(
        figures.shuffle_invariance(
            pictures, {subject.config.model_name: curves}, ylabel="training loss", xlabel="step"
        ),
        path,
    )
