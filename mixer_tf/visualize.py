"""Everything that can be drawn of a run: arrays from its model, figures, one page.

The texts beside the figures stand here, what they are drawn by in `drawings`.
"""

import functools

from mixer_tf.drawing import drawings, page
from mixer_tf.drawing.subject import NotHere, Subject
from mixer_tf.runs import Run
from mixer_tf.storage import files


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
            # Its data may only be out of reach today: an older drawing is kept, off the page.
            kept = f" An earlier drawing is still there: {name}." if (out / name).exists() else ""
            left_out.append((heading, f"{reason}{kept}"))
        else:
            drawn.append((name, heading, reading, against))
    title = f"{subject.config.model_name} on {subject.config.data}"
    page.write_page(out / "index.html", title, subject.facts(), drawn, left_out)
    return out / "index.html"


# file, heading, function, how to read it, what would contradict it
_FIGURES = [
    (
        "projections.png",
        "What the stem looks for",
        drawings.projections,
        "Every filter of the first layer, scaled by itself: mid-grey is zero. Low spatial "
        "frequencies come first. Smooth waves, edges and blobs of colour are learned.",
        "pixel noise throughout: then the filters have hardly left their random start.",
    ),
    (
        "evolution.png",
        "How filters came to be",
        drawings.evolution,
        "A row is one filter, a column one epoch, 0 before training. A row has one scale, so "
        "growth shows as contrast.",
        "rows that do not change from the first column to the last: nothing was learned there.",
    ),
    (
        "evolution.gif",
        "All filters over the epochs",
        drawings.animation,
        "The same for every filter at once, in motion. Filters settle one after another.",
        "flicker to the very end: then the learning rate never came down.",
    ),
    *(
        (
            f"token_mixing_block_{i}.png",
            f"Token mixing, block {i}",
            functools.partial(drawings.token_mixing, block=i),
            "After the paper's Figure 5: the weights of a unit on the token grid, beside the "
            "unit most opposite to it, low frequencies first, the cosine below; of many pairs the "
            "64 most opposite. Trained long on much data, units become opposite twins (cosine near "
            "−1) with smooth patterns; small models and short trainings show this weakly.",
            "a trained side that looks like the untrained control, and the same mean cosine: "
            "pairing finds some opposition in noise, too.",
        )
        for i in range(3)
    ),
    (
        "mixing_distance.png",
        "How far each block mixes",
        drawings.mixing_distance,
        "The mean distance on the token grid between an output token and its inputs, weighted "
        "by |W0 W1| of the token-mixing MLP (its nonlinearity and the residual path left out). "
        "Below the untrained line, a block prefers near tokens.",
        "a trained line on the untrained one: the network has learned nothing about nearness.",
    ),
    (
        "one_patch.png",
        "One changed patch",
        drawings.one_patch,
        "One patch of a test picture is inverted. After the stem one token has moved; mixing "
        "tokens spreads it to the others; mixing channels alone leaves it in its token.",
        "a second token that moves after the stem, or where channels alone are mixed.",
    ),
    (
        "curves.png",
        "While training",
        drawings.curves,
        "Loss and accuracy by epoch: solid on validation data, dotted in training. A dotted "
        "curve that leaves the solid one behind is learning by heart. Augmentation makes "
        "training harder, so dotted may stay the worse one.",
        "a validation loss that rises from the start.",
    ),
    (
        "cost.png",
        "Accuracy against cost",
        drawings.cost,
        "This run and the ended runs on the same data in the folder it stands in: test "
        "accuracy and its standard error against weights and against seconds of training. "
        "Better is higher and further left.",
        "error bars that overlap: then there is no difference to explain.",
    ),
    (
        "confusion.png",
        "Which classes are mistaken",
        drawings.confusion,
        "Test pictures by their true class (row) and predicted class (column): all, or 2,000 "
        "evenly taken (of large pictures fewer), as in the figure below.",
        "mistakes spread evenly over a row: then the classes have nothing in common that "
        "explains them.",
    ),
    (
        "mistakes.png",
        "The surest mistakes",
        drawings.mistakes,
        "Test pictures whose wrong answer had the highest probability, surest first.",
        "pictures that a person finds easy: a doubtful label or crop is then no excuse.",
    ),
    (
        "embedding.png",
        "The pre-logits as a map",
        drawings.embedding,
        "Test pictures, at most 1,000 of those, by the first two principal components of what the "
        "head sees; rings mark wrong answers. Classes that lie apart here are told apart with ease "
        "(more than 18 have one colour). The Projector of TensorBoard shows all components.",
        "rings spread evenly over the map instead of where classes meet.",
    ),
    (
        "shuffles.png",
        "Which order of pixels matters",
        drawings.shuffles,
        "After the paper's Figure 4: the first steps of three short trainings on the same "
        "pictures in three orders of pixels. With its initial weights permuted alike, a Mixer "
        "on permuted patches and pixels within them takes exactly the same course; with all "
        "pixels permuted it does not. A convolutional network notices both. So few steps show "
        "that courses differ, not yet which ends better.",
        "for a Mixer, a second line that leaves the first by more than rounding.",
    ),
]
