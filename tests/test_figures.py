import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from mixer_tf import figures

DRAWS = np.random.default_rng(0)


# ---- what is measured ----


def gratings(frequencies, side=12):
    """One plane wave for each (cycles down, cycles across), on a grid of side x side."""
    y, x = np.mgrid[:side, :side] / side
    return np.stack([np.cos(2 * np.pi * (fy * y + fx * x) + 0.7) for fy, fx in frequencies])


WAVES = [(0, 1), (1, 1), (2, 0), (2, 1), (2, 2), (0, 3), (3, 2), (0, 4), (4, 2), (5, 0)]


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_noisy_gratings_find_their_opposites(seed):
    draws = np.random.default_rng(seed)
    waves = gratings(WAVES)
    units = np.concatenate([waves, -waves]).reshape(2 * len(WAVES), -1)
    units = units + 0.3 * draws.standard_normal(units.shape)
    shuffle = draws.permutation(len(units))

    pairs = figures.pairs_of(units[shuffle].T, (12, 12))

    members = shuffle[pairs.members]  # numbers before shuffling
    assert np.array_equal(np.sort(members.ravel()), np.arange(len(units)))  # one to one
    assert np.array_equal(members[:, 0] % len(WAVES), members[:, 1] % len(WAVES))
    lengths = [np.hypot(*WAVES[k]) for k in members[:, 0] % len(WAVES)]
    assert lengths == sorted(lengths)
    assert pairs.cosines.max() < -0.7
    assert np.array_equal(pairs.tiles[3, 1].ravel(), units[shuffle][pairs.members[3, 1]])


def test_noise_pairs_less_well_than_gratings():
    control = figures.pairs_of(figures.fresh_kernel((144, 20)), (12, 12))
    assert control.cosines.mean() > -0.35


def test_pairs_need_their_grid():
    with pytest.raises(ValueError, match="3 x 4 tokens; its first axis must be 12"):
        figures.pairs_of(np.ones((16, 4)), (3, 4))


@settings(max_examples=40, deadline=None)
@given(
    arrays(
        "float64",
        st.tuples(st.integers(1, 9), st.integers(1, 6)),
        # rounded: the squares of weights below 1e-160 are no longer numbers
        elements=st.floats(-3, 3).map(lambda x: round(x, 3)),
    )
)
def test_pairing_is_one_to_one_and_greedy(units):
    pairs, cosines = figures.opposite_pairs(units)
    assert len(pairs) == len(units) // 2
    assert len(set(pairs.ravel())) == pairs.size
    assert np.all(np.diff(cosines) >= -1e-12)
    # The first pair is the best of all there are.
    best = 2.0
    for i in range(len(units)):
        for j in range(i):
            lengths = np.linalg.norm(units[i]) * np.linalg.norm(units[j])
            best = min(best, units[i] @ units[j] / lengths if lengths > 1e-200 else 0.0)
    if len(pairs):
        assert cosines[0] == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(("down", "across"), [(0, 0), (1, 0), (0, 3), (3, 4)])
def test_frequency_of_a_wave_is_its_own(down, across):
    wave = gratings([(down, across)], side=16)
    assert figures.spatial_frequency(wave)[0] == pytest.approx(np.hypot(down, across) / 16)


@settings(max_examples=40, deadline=None)
@given(
    arrays(
        "float64",
        st.tuples(*[st.integers(1, 5)] * 4),
        elements=st.floats(-5, 5).map(lambda x: round(x, 2)),
    ),
    st.floats(0.1, 9),
)
def test_frequency_has_bounds_and_no_scale(tiles, factor):
    frequency = figures.spatial_frequency(tiles)
    assert np.all((frequency >= 0) & (frequency <= np.hypot(0.5, 0.5) + 1e-12))
    assert np.allclose(figures.spatial_frequency(-factor * tiles), frequency, atol=1e-9)
    assert np.allclose(figures.spatial_frequency(np.roll(tiles, 1, 1)), frequency, atol=1e-9)


def test_control_of_mixing_distance_draws_two_kernels_that_differ():
    """Mean of many draws, against draws made here; one kernel twice would give 0.03 less."""
    rows, columns = np.divmod(np.arange(64), 8)
    apart = np.hypot(rows[:, None] - rows, columns[:, None] - columns)
    expected = []
    for _ in range(200):
        weights = np.abs(DRAWS.uniform(-1, 1, (64, 64)) @ DRAWS.uniform(-1, 1, (64, 64)))
        expected.append(((weights * apart).sum(0) / weights.sum(0)).mean())
    found = figures.fresh_distances([(64, 64), (64, 64)], (8, 8), seed=3, draws=200)
    error = np.hypot(np.std(found), np.std(expected)) / np.sqrt(200)
    assert abs(found.mean() - np.mean(expected)) < 4 * error < 0.015
    assert len(set(found)) == 200
    other = figures.fresh_distances([(64, 64), (64, 64)], (8, 8), seed=4, draws=5)
    assert not set(other) & set(found)


def test_mixing_distance_of_known_weights():
    assert figures.mixing_distance(np.eye(12), np.eye(12), (3, 4)) == 0
    uniform = figures.mixing_distance(np.ones((9, 2)), np.ones((2, 9)), (1, 9))
    assert uniform == pytest.approx((9**2 - 1) / (3 * 9))  # mean distance of two places of a line
    shift = np.roll(np.eye(4), 1, axis=1)[:3, :3]  # token s feeds token s + 1; the first has none
    assert figures.mixing_distance(np.eye(3), shift, (1, 3)) == pytest.approx(2 / 3)


# ---- pixels ----


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.integers(1, 7)] * 4), st.integers(0, 3))
def test_filters_of_any_shape_fill_their_own_range(shape, seed):
    kernel = np.random.default_rng(seed).normal(size=shape) * 10.0 ** np.arange(shape[-1])
    tiles = figures.filter_tiles(kernel)
    assert tiles.shape == (shape[3], shape[0], shape[1], 3)
    assert tiles.min() >= 0
    assert tiles.max() <= 1
    extent = np.abs(tiles - 0.5).max(axis=(1, 2, 3))
    assert np.allclose(extent, 0.5)  # each by itself, not all by the largest
    sheet = figures.sheet_of_filters(kernel)
    assert sheet.min() >= 0
    assert sheet.max() <= 1


def test_colour_only_where_there_are_three_channels():
    kernel = DRAWS.normal(size=(2, 2, 3, 5))
    largest = np.abs(kernel[..., 4]).max()
    assert np.allclose(figures.filter_tiles(kernel)[4], 0.5 + kernel[..., 4] / largest / 2)
    grey = figures.filter_tiles(DRAWS.normal(size=(2, 2, 4, 5)))
    assert np.all(grey == grey[..., :1])


def test_zero_is_grey_and_what_is_not_finite_is_magenta():
    kernel = np.zeros((2, 2, 3, 2))
    kernel[0, 1, 2, 1] = np.nan
    tiles = figures.filter_tiles(kernel)
    assert np.all(tiles[0] == 0.5)
    assert np.array_equal(tiles[1, 0, 1], [1, 0, 1])
    assert np.all(tiles[1, 1] == 0.5)


def test_a_strip_is_widened_to_be_seen():
    sheet = figures.sheet_of_filters(DRAWS.normal(size=(1, 32, 3, 4)))
    assert sheet.shape[0] > 60
    assert sheet.shape[1] >= 128


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 5), st.integers(1, 3))
def test_stitch_puts_each_picture_in_its_place(count, columns, gap, zoom):
    tiles = np.random.default_rng(count).random((count, 2, 3, 3))
    sheet = figures.stitch(tiles, columns=columns, gap=gap, zoom=zoom)
    for i in range(count):
        y, x = i // columns * (2 * zoom + gap), i % columns * (3 * zoom + gap)
        assert np.array_equal(sheet[y : y + 2 * zoom : zoom, x : x + 3 * zoom : zoom], tiles[i])


def test_sprites_can_be_cut_out_again():
    for count in (1, 2, 5, 7, 12, 30, 128):
        tiles = DRAWS.integers(0, 255, (count, 4, 4, 3), dtype="uint8")
        sheet, side = figures.sprite_sheet(tiles)
        # TensorBoard's shader: rows and columns each from their own side of the sheet,
        # the place of a sprite by the number of rows.
        down, across = sheet.shape[0] / side, sheet.shape[1] / side
        for i in range(count):
            y, x = int(i // down) * side, int(i % across) * side
            assert np.array_equal(sheet[y : y + side, x : x + side], tiles[i]), (count, i)
        assert np.all(sheet[side * (count // int(across) + 1) :] == 255)
    strips, side = figures.sprite_sheet(DRAWS.random((4, 1, 32, 3)))
    assert strips.shape == (64, 64, 3)
    assert side == 32
    small, side = figures.sprite_sheet(DRAWS.random((100, 8, 8, 3)), limit=50)
    assert small.shape == (50, 50, 3)
    assert side == 5
    with pytest.raises(ValueError, match="do not fit"):
        figures.sprite_sheet(tiles, limit=2)


def test_of_several_kernels_that_of_most_pixels_is_drawn():
    shapes = [(1, 1, 3, 8), (8,), (3, 2, 3, 8), (1, 5, 3, 8), (64, 8)]
    assert figures.largest_kernel([np.zeros(shape) for shape in shapes]).shape == (3, 2, 3, 8)
    assert figures.largest_kernel([np.zeros((64, 8)), np.zeros(8)]) is None


def test_a_name_that_begins_with_an_underscore_is_in_the_legend():
    drawn = figures.embedding(
        DRAWS.random((6, 3)), np.arange(6) % 2, ["_background_", "dog"], np.ones(6, bool)
    )
    texts = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert {"_background_", "dog"} <= {text.strip() for text in texts}


# ---- orders of pixels ----


def test_shuffled_patches_stay_together():
    images = np.arange(2 * 6 * 4 * 3).reshape(2, 6, 4, 3)
    shuffled = figures.shuffle_patches(images, (3, 2), seed=5)

    def patches(image):
        return [image[y : y + 3, x : x + 2] for y in (0, 3) for x in (0, 2)]

    for image, other in zip(images, shuffled):
        before = {frozenset(p.ravel()) for p in patches(image)}
        assert {frozenset(p.ravel()) for p in patches(other)} == before
        assert not np.array_equal(image, other)
    # Every picture alike: their difference is the same everywhere.
    assert np.all(shuffled[1] - shuffled[0] == images[1, 0, 0, 0])
    orders = figures.shuffled_orders(4, 6, seed=5)
    first = patches(images[0])[orders[0][0]].reshape(6, 3)[orders[1]]
    assert np.array_equal(patches(shuffled[0])[0].reshape(6, 3), first)
    with pytest.raises(ValueError, match="6x4 are no whole number of 4x4"):
        figures.shuffle_patches(images, (4, 4))


def test_shuffled_pixels_are_the_same_pixels():
    images = np.arange(2 * 6 * 4 * 3).reshape(2, 6, 4, 3)
    shuffled = figures.shuffle_pixels(images, seed=5)
    assert np.array_equal(np.sort(shuffled.reshape(2, -1, 3), 1), images.reshape(2, -1, 3))
    assert np.all(shuffled[1] - shuffled[0] == images[1, 0, 0, 0])


# ---- Figures ----

LONG = "a $_{$ name that is much longer than any place for it, with\ttabs and\nlines"


def history(epochs):
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    return {name: list(np.linspace(0.1, 0.9, epochs)) for name in names}


def runs(count, epochs=12):
    result = {"test_accuracy": 0.8, "test_standard_error": 0.01, "device": "a processor"}
    result |= {"images_per_second": 1234.5}
    return [
        {
            "name": f"{LONG} {i}" if i % 2 else f"run {i}",
            "history": history(epochs),
            "result": {**result, "parameters": 10 ** (4 + i), "train_seconds": 50.0 + i},
        }
        for i in range(count)
    ]


def pairs(tokens, units, grid, seed=0):
    return figures.pairs_of(np.random.default_rng(seed).normal(size=(tokens, units)), grid)


def drawings():
    images = DRAWS.integers(0, 256, (16, 8, 8, 3))
    kernels = DRAWS.normal(size=(20, 4, 4, 3, 24))
    points = DRAWS.normal(size=(50, 6))
    labels, right = DRAWS.integers(0, 10, 50), DRAWS.random(50) > 0.2
    said, few = DRAWS.integers(0, 10, 50), np.zeros(16, int)  # of 16 pictures
    sure = DRAWS.uniform(0.5, 1, 16)
    wrong = np.stack([1 - sure, sure], axis=-1)
    table = DRAWS.random((16, 32))
    hundred = [f"class {i}" for i in range(100)]
    whole = [{**run, "macs": 10**6 * 7**i} for i, run in enumerate(runs(6))]
    yield "comparison", lambda: figures.comparison(whole, "data")
    yield "comparison of one", lambda: figures.comparison(whole[:1], "data")
    yield "curves", lambda: figures.learning_curves(runs(9))
    yield "curves of one epoch", lambda: figures.learning_curves(runs(1, epochs=1))
    yield "cost", lambda: figures.accuracy_against_cost(runs(5))
    yield "cost of one", lambda: figures.accuracy_against_cost(runs(1))
    yield "confusion", lambda: figures.confusion(labels, said, [LONG] * 10)
    yield "confusion 100", lambda: figures.confusion(range(100), range(100), hundred)
    yield "confusion of one", lambda: figures.confusion([0], [0], ["a"])
    yield "mistakes", lambda: figures.mistakes(images, few, wrong, [LONG, LONG])
    yield "one mistake", lambda: figures.mistakes(images[..., :1], few, wrong, ["a", "b"], 1)
    yield "no mistake", lambda: figures.mistakes(images, 1 - few, wrong, ["a", "b"])
    yield "map", lambda: figures.embedding(points, labels, [LONG] * 10, right)
    yield "map 100", lambda: figures.embedding(points, labels, hundred, right)
    yield "map of one", lambda: figures.embedding(points[:, :1], labels, hundred[:10], right)
    yield "evolution", lambda: figures.evolution(kernels, np.arange(20))
    yield "evolution of strips", lambda: figures.evolution(kernels[:2, :1], [0, 1], [3])
    yield "projections", lambda: figures.projections(kernels[0], "title")
    yield (
        "pairs",
        lambda: figures.token_mixing(pairs(64, 64, (8, 8)), pairs(64, 64, (8, 8), 1), "title"),
    )
    yield (
        "pairs of a strip",
        lambda: figures.token_mixing(pairs(32, 9, (32, 1)), pairs(32, 9, (32, 1), 1), "title"),
    )
    yield (
        "many pairs",
        lambda: figures.token_mixing(pairs(196, 384, (14, 14)), pairs(196, 384, (14, 14)), "title"),
    )
    yield "one patch", lambda: figures.one_patch(images[0], images[1], [("panel", table)] * 5)
    yield "nothing moved", lambda: figures.one_patch(images[0], images[1], [("panel", 0 * table)])
    yield (
        "distances",
        lambda: figures.mixing_distances(np.ones(12), DRAWS.random((12, 5)), 2.0),
    )
    two = images[..., :2]
    yield "two channels", lambda: figures.one_patch(two[0], two[1], [("panel", table)])
    yield "two, shuffled", lambda: figures.shuffle_invariance({"a": two[0]}, {"mixer": {"a": [1]}})
    curves = {"mixer": {"as it is": [1, 2, 3], "all pixels": [1, 1, 2]}, "resnet": {"a": [1]}}
    yield (
        "shuffles",
        lambda: figures.shuffle_invariance({"as it is": images[0], "b": images[1]}, curves),
    )


@pytest.mark.parametrize(
    ("name", "draw"), list(drawings()), ids=lambda x: x if isinstance(x, str) else ""
)
def test_every_text_is_inside_its_figure(name, draw):
    figure = draw()
    pixels = figures.to_image(figure, dpi=60)
    assert pixels.ndim == 3
    assert pixels.dtype == np.uint8
    assert pixels.std() > 1  # not blank
    drawn = figure.get_tightbbox(figure.canvas.get_renderer())  # in inches
    width, height = figure.get_size_inches()
    assert drawn.x0 > -0.01, name
    assert drawn.y0 > -0.01, name
    assert drawn.x1 < width + 0.01, name
    assert drawn.y1 < height + 0.01, name


def test_numbers_stand_where_they_belong():
    many = pairs(196, 384, (14, 14))
    shown = np.sort(np.argsort(many.cosines, kind="stable")[:64])
    texts = [text.get_text() for text in figures.token_mixing(many, many, "t").axes[0].texts]
    assert texts == [f"{cosine:.2f}".replace("-", "−") for cosine in many.cosines[shown]]
    two = [{**run, "macs": 1} for run in runs(2)]
    two[1]["result"] |= {"test_accuracy": 0.5, "test_standard_error": 0.02}
    bars = figures.comparison(two, "data").axes[1]
    own = two[0]["result"]
    first = f"{100 * own['test_accuracy']:.1f} ± {100 * own['test_standard_error']:.1f} %"
    assert [text.get_text() for text in bars.texts] == [first, "50.0 ± 2.0 %"]


def test_learning_curves_draw_the_numbers_they_were_given():
    drawn = runs(2)
    drawn[1]["history"]["val_accuracy"] = [0.25] * 12
    loss, accuracy = figures.learning_curves(drawn).axes[:2]
    lines = [line.get_ydata() for line in accuracy.lines if len(line.get_ydata())]
    assert any(np.allclose(line, 25) for line in lines)
    assert any(np.allclose(line, 100 * np.linspace(0.1, 0.9, 12)) for line in lines)
    assert len(loss.lines) == 4


def test_evolution_shares_one_scale_over_epochs():
    kernels = np.zeros((2, 1, 1, 1, 1))
    kernels[1] = 4.0
    pixels = figures.evolution(kernels, [0, 1]).axes[0].images[0].get_array()
    assert pixels[16, 16, 0] == 0.5
    assert pixels[16, -16, 0] == 1.0


def test_evolution_names_filters_by_their_numbers_and_spreads_epochs_in_time():
    kernels = np.random.default_rng(0).normal(size=(20, 4, 4, 3, 30))
    epochs = [*range(8), *range(8, 80, 8), 100, 150, 200]
    axes = figures.evolution(kernels, epochs, [17, 3, 29]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["17", "3", "29"]
    columns = [int(label.get_text()) for label in axes.get_xticklabels()]
    assert columns == [0, 16, 40, 56, 72, 100, 150, 200]  # the nearest to every eleventh of 200


def test_animation_has_a_frame_for_each_epoch(tmp_path):
    path = tmp_path / "filters.gif"
    figures.animation(DRAWS.normal(size=(5, 3, 3, 3, 8)), [0, 1, 2, 3, 4], path)
    with Image.open(path) as gif:
        assert gif.n_frames == 5
        assert gif.is_animated
    figures.animation(DRAWS.normal(size=(80, 2, 2, 1, 2)), range(80), path)
    with Image.open(path) as gif:
        assert gif.n_frames == 30


def test_confusion_has_a_row_for_each_true_class():
    axes = figures.confusion([0, 0, 0, 0, 2, 2], [0, 0, 0, 1, 2, 2], ["a", "b", "c"]).axes[0]
    shares = [[75, 25, 0], [0, 0, 0], [0, 0, 100]]
    np.testing.assert_allclose(axes.images[0].get_array(), shares)
    assert [text.get_text() for text in axes.texts] == ["3", "1", "2"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true", "predicted")


@pytest.mark.parametrize("count", [1, 2, 16])
def test_the_surest_mistakes_come_first(count):
    images = np.arange(4)[:, None, None, None] * np.full((4, 2, 2, 3), 60)
    chances = np.array([[0.4, 0.6], [0.9, 0.1], [0.25, 0.75], [0.5, 0.5]])
    axes = figures.mistakes(images, [0, 0, 0, 1], chances, ["cat", "dog"], count).axes
    shown = [one for one in axes if one.images]
    titles = [
        "true: cat\nsaid: dog, 75 %",
        "true: cat\nsaid: dog, 60 %",
        "true: dog\nsaid: cat, 50 %",
    ]
    assert [one.get_title() for one in shown] == titles[:count]
    lightest = [255 * one.images[0].get_array().max() for one in shown]
    np.testing.assert_allclose(lightest, [120, 0, 180][:count])


def test_wrong_answers_are_ringed():
    vectors = np.array([[0.0, 0], [1, 0], [2, 1]])
    figure = figures.embedding(vectors, [0, 0, 1], ["a", "b"], [True, False, True])
    assert [len(dots.get_offsets()) for dots in figure.axes[0].collections] == [1, 2, 1]
