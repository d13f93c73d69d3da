"""What a model sees: every picture once an epoch, the same at the same step, still its label."""

import dataclasses
import tracemalloc

import keras
import numpy as np
import pytest
from PIL import Image, ImageOps

from mixer_tf.augment import Augmenter, _Drawn
from mixer_tf.batches import EvaluationBatches, TrainingBatches
from mixer_tf.data import Split
from mixer_tf.rand_augment import operations
from mixer_tf.recipe import Augmentation
from mixer_tf.sampling import sample

FULL = Augmentation(
    shift=0.125,
    flip=True,
    rotation=0.02,
    zoom=0.2,
    rand_augment=2,
    mixup=0.4,
    cutmix=1.0,
    mix_probability=0.7,
)


def numbered(count, size=8, channels=3):
    """Pictures that say which they are: every pixel of picture i is i."""
    images = np.arange(count, dtype="uint8")[:, None, None, None]
    return Split(np.tile(images, (1, size, size, channels)), np.arange(count) % 5)


def test_labels_of_many_classes_take_no_more_than_their_batch():
    tracemalloc.start()
    _, labels = EvaluationBatches(numbered(4), 20_000, 4)[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6  # a table of all classes would be 1.6e9
    assert np.array_equal(np.argmax(labels, -1), [0, 1, 2, 3])
    assert np.array_equal(np.sum(labels, -1), np.ones(4))


def test_a_sample_of_large_pictures_is_a_smaller_one(monkeypatch):
    monkeypatch.setattr("mixer_tf.sampling._NUMBERS", 3 * 16 * 16 * 7 + 5)
    images, labels = sample(numbered(50), (16, 16))
    assert images.shape == (7, 16, 16, 3)
    np.testing.assert_array_equal(labels, images[:, 0, 0, 0] % 5)
    assert images[-1, 0, 0, 0] == 49  # evenly spaced, to the end


def photos(count=32, size=16):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype("float32")


def to_numpy(batch):
    return [np.array(part) for part in batch]


def test_an_epoch_holds_every_picture_once():
    batches = TrainingBatches(numbered(40), 5, batch_size=8, seed=1)
    assert batches.steps_per_epoch == 5
    orders = []
    for epoch in range(3):
        seen = []
        for i in range(5):
            images, labels = to_numpy(batches[epoch * 5 + i])
            numbers = images[:, 0, 0, 0].astype(int)
            np.testing.assert_array_equal(labels.argmax(-1), numbers % 5)
            seen += list(numbers)
        assert sorted(seen) == list(range(40))
        orders.append(tuple(seen))
    assert len(set(orders)) == 3


def test_fit_sees_the_batches_in_order():
    """Keras shuffles batches by default; these it must not."""
    seen = []

    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(5))

    def label_as_loss(y, x):
        return keras.ops.cast(keras.ops.argmax(y, -1), "float32") + 0 * keras.ops.mean(x, -1)

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(logs["loss"]))

    model.compile("sgd", label_as_loss)
    batches = TrainingBatches(numbered(40), 5, batch_size=1, seed=1)
    model.fit(batches, steps_per_epoch=40, epochs=2, verbose=0, callbacks=[Look()])
    expected = [numbered(40).labels[batches.indices(step)].sum() for step in range(80)]
    running = [np.mean(expected[e * 40 : e * 40 + i + 1]) for e in range(2) for i in range(40)]
    np.testing.assert_allclose(seen, running, rtol=1e-4, atol=1e-5)


def test_parts_that_are_added_up_are_the_whole_batch():
    """Also where they do not divide the pictures: the same updates, of the same pictures."""
    whole = TrainingBatches(numbered(43), 5, batch_size=8, seed=1)
    parts = TrainingBatches(numbered(43), 5, batch_size=2, seed=1, accumulate=4)
    assert (whole.steps_per_epoch, parts.steps_per_epoch) == (5, 20)
    for step in range(15):
        together = [parts.indices(4 * step + part) for part in range(4)]
        np.testing.assert_array_equal(np.concatenate(together), whole.indices(step))
    with pytest.raises(ValueError, match="batch_size is 48, but there are 43"):
        TrainingBatches(numbered(43), 5, batch_size=12, accumulate=4)


def test_a_batch_is_a_function_of_seed_and_step():
    split = Split(photos(64), np.arange(64) % 5)
    one = TrainingBatches(split, 5, 16, FULL, seed=3)
    two = TrainingBatches(split, 5, 16, FULL, seed=3, first_step=6)
    for index in (9, 0, 5):  # in any order, however often
        one[index]
    for index in (1, 0, 7):
        a, b = to_numpy(one[6 + index]), to_numpy(two[index])
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])
    other = to_numpy(TrainingBatches(split, 5, 16, FULL, seed=4)[6])
    assert not np.array_equal(other[0], to_numpy(one[6])[0])


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_augmentation_is_the_same_under_every_policy(policy):
    labels = np.eye(5, dtype="float32")[np.arange(32) % 5]
    expected = to_numpy(Augmenter(FULL, seed=1)(photos(), labels, 3))
    keras.mixed_precision.set_global_policy(policy)
    for a, b in zip(expected, to_numpy(Augmenter(FULL, seed=1)(photos(), labels, 3))):
        np.testing.assert_array_equal(a, b)


def slopes(change):
    """How a picture whose value is its column looks after a change: its slopes (x, y) inside."""
    column = np.tile(np.arange(64.0, dtype="float32")[None, None, :, None], (40, 64, 1, 3))
    images = to_numpy(Augmenter(Augmentation(**change), seed=1)(column, np.eye(40), 0))[0]
    inside = images[:, 24:40, 24:40, 0]
    return np.gradient(inside, axis=2).mean((1, 2)), np.gradient(inside, axis=1).mean((1, 2))


def test_rotation_turns_up_to_its_share_of_a_turn():
    x, y = slopes({"rotation": 0.02})
    np.testing.assert_allclose(np.hypot(x, y), 1, rtol=2e-2)  # turned, not stretched
    angles = np.degrees(np.arctan2(y, x))
    assert np.abs(angles).max() < 7.3
    assert angles.min() < -3
    assert angles.max() > 3


def test_zoom_scales_up_to_its_share():
    x, y = slopes({"zoom": 0.2})
    np.testing.assert_allclose(y, 0, atol=1e-3)
    assert 0.79 < x.min() < 0.9
    assert 1.1 < x.max() < 1.21


def test_augmented_pictures_stay_pictures_and_labels_stay_distributions():
    labels = np.eye(5, dtype="float32")[np.arange(32) % 5]
    augment = Augmenter(FULL, seed=0)
    changed = 0
    for step in range(12):
        images, mixed = to_numpy(augment(photos(), labels, step))
        assert images.shape == (32, 16, 16, 3)
        assert images.dtype == np.float32
        assert images.min() >= 0
        assert images.max() <= 255.001
        np.testing.assert_allclose(mixed.sum(-1), 1, rtol=1e-5)
        changed += not np.array_equal(mixed, labels)
    assert 4 <= changed <= 12  # about 0.7 of the batches are mixed


def test_as_graphs_and_operation_by_operation_the_same(monkeypatch):
    """To the last bit, so that it does not matter where a run was resumed."""
    labels = np.eye(5, dtype="float32")[np.arange(32) % 5]
    augmentation = dataclasses.replace(FULL, rand_augment=11, mix_probability=1.0)
    quick = Augmenter(augmentation, seed=0)
    monkeypatch.setattr(
        "mixer_tf.stack.traced", lambda layer: lambda batch: layer(batch, training=True)
    )
    plain = Augmenter(augmentation, seed=0)
    for step in range(3):
        for a, b in zip(quick(photos(), labels, step), plain(photos(), labels, step)):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("number", range(9))
def test_the_larger_the_magnitude_the_more_an_operation_changes(number):
    """From nothing at 0; `AutoContrast` and `Equalization`, the last two, have no strength."""
    changes = []
    for magnitude in (0.0, 0.3, 1.0):
        drawn = _Drawn(operations(magnitude)[number])
        (changed,) = to_numpy([drawn(photos(128), np.random.default_rng(0))])
        changes.append(np.abs(changed - photos(128)).mean())
    assert changes[0] < 0.01
    assert 0.2 < changes[1] < changes[2]


def test_a_sharpened_picture_has_more_contrast_than_a_blurred_one():
    drawn = _Drawn(operations(1.0)[6])
    pale = 64 + photos(128) / 2
    (changed,) = to_numpy([drawn(pale, np.random.default_rng(0))])
    spread = changed.std((1, 2, 3)) / pale.std((1, 2, 3))
    assert spread.min() < 0.7  # blurred
    assert spread.max() > 1.3  # sharpened
    assert 0.3 < (spread > 1).mean() < 0.7


def test_a_sharpened_or_blurred_plain_picture_stays_as_it_is():
    """Up to its border, where Keras's own layer sees black."""
    drawn = _Drawn(operations(1.0)[6])
    plain = np.full((16, 8, 8, 3), 200, "float32")
    (changed,) = to_numpy([drawn(plain, np.random.default_rng(0))])
    np.testing.assert_allclose(changed, 200, rtol=1e-5)


def test_contrast_is_raised_and_lowered():
    drawn = _Drawn(operations(0.5)[5])
    pale = 64 + photos(128) / 2
    (changed,) = to_numpy([drawn(pale, np.random.default_rng(0))])
    spread = changed.std((1, 2, 3)) / pale.std((1, 2, 3))
    assert 0.54 < spread.min() < 0.6
    assert 1.35 < spread.max() < 1.46
    assert 0.3 < (spread > 1).mean() < 0.7


def test_equalization_is_pillows():
    random = np.random.default_rng(0)
    dark = random.integers(20, 90, (6, 32, 32, 3)) ** 1.1
    dark[0] = 7  # nothing to spread
    dark[1, :31] = 7  # next to nothing
    dark[2] = random.integers(0, 2, (32, 32, 3)) * 255
    dark = dark.astype("uint8")
    drawn = _Drawn(operations(0.5)[10])
    (changed,) = to_numpy([drawn(dark.astype("float32"), np.random.default_rng(0))])
    pillow = [np.asarray(ImageOps.equalize(Image.fromarray(one))) for one in dark]
    np.testing.assert_array_equal(changed, pillow)


@pytest.mark.parametrize("number", [9, 10])
def test_what_draws_nothing_does_not_look_at_a_pictures_neighbours(number):
    drawn, draws = _Drawn(operations(0.5)[number]), np.random.default_rng(0)
    (together,) = to_numpy([drawn(photos(4) / [[[[1]]], [[[2]]], [[[3]]], [[[4]]]], draws)])
    alone = [drawn(photos(4)[i : i + 1] / (i + 1), draws)[0] for i in range(4)]
    np.testing.assert_allclose(together, to_numpy(alone), atol=1e-3)


def test_nothing_asked_nothing_changed():
    labels = np.eye(5, dtype="float32")[np.arange(32) % 5]
    images, same = to_numpy(Augmenter(Augmentation())(photos(), labels, 0))
    np.testing.assert_array_equal(images, photos())
    np.testing.assert_array_equal(same, labels)


def test_flip_mirrors_about_half():
    images, _ = to_numpy(Augmenter(Augmentation(flip=True))(photos(256), np.eye(256), 0))
    original = photos(256)
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(images, original)]
    same = [np.array_equal(a, b) for a, b in zip(images, original)]
    assert all(m or s for m, s in zip(mirrored, same))
    assert abs(np.mean(mirrored) - 0.5) < 4 * np.sqrt(0.25 / 256)


def test_shift_is_the_padded_crop():
    """Whole pixels, up to an eighth of the side, black where nothing was."""
    original = photos(64) + 1  # nowhere black
    images, _ = to_numpy(Augmenter(Augmentation(shift=0.125))(original, np.eye(64), 0))
    padded = np.pad(original, ((0, 0), (2, 2), (2, 2), (0, 0)))
    places = set()
    for image, wide in zip(images, padded):
        found = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if np.array_equal(image, wide[y : y + 16, x : x + 16])
        ]
        assert len(found) == 1
        places.update(found)
    assert len(places) > 15  # of 25


def test_mixup_mixes_labels_as_it_mixes_pictures():
    images = np.zeros((2, 4, 4, 3), "float32")
    images[1] = 255
    shares = []
    for step in range(8):
        mixed, labels = to_numpy(
            Augmenter(Augmentation(mixup=1.0), seed=2)(images, np.eye(2, dtype="float32"), step)
        )
        np.testing.assert_allclose(mixed[..., 0].mean((1, 2)) / 255, labels[:, 1], atol=1e-5)
        shares.append(labels[0, 1])
    assert max(shares) > 0.1  # something was mixed


def test_cutmix_labels_are_shares_of_the_area():
    images = np.zeros((2, 16, 16, 3), "float32")
    images[1] = 255
    shares = []
    for step in range(8):
        mixed, labels = to_numpy(
            Augmenter(Augmentation(cutmix=1.0), seed=2)(images, np.eye(2, dtype="float32"), step)
        )
        assert set(np.unique(mixed)) <= {0.0, 255.0}
        # the box has edges between pixels: a row and a column of difference at most
        assert np.abs(mixed[..., 0].mean((1, 2)) / 255 - labels[:, 1]).max() < 2.2 / 16
        shares.append(labels[0, 1])
    assert max(shares) > 0.1


def test_evaluation_sees_every_picture_in_order_and_resized():
    split = numbered(11)
    batches = EvaluationBatches(split, 5, batch_size=4, image_size=(12, 10))
    parts = [to_numpy(batches[i]) for i in range(batches.num_batches)]
    images = np.concatenate([images for images, _ in parts])
    assert images.shape == (11, 12, 10, 3)
    np.testing.assert_allclose(images[:, 5, 5, 0], np.arange(11))
    labels = np.concatenate([labels for _, labels in parts])
    np.testing.assert_array_equal(labels.argmax(-1), split.labels)


def test_resizing_is_bilinear():
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (6, 6), dtype="uint8")
    split = Split(picture[None, :, :, None], np.array([0]))
    images, _ = to_numpy(EvaluationBatches(split, 2, image_size=(18, 18))[0])
    expected = Image.fromarray(picture).resize((18, 18), Image.Resampling.BILINEAR)
    assert np.abs(images[0, :, :, 0] - np.asarray(expected, "float32")).max() <= 1


def test_errors():
    with pytest.raises(ValueError, match="batch_size is 50, but there are 40"):
        TrainingBatches(numbered(40), 5, 50)
    for change in ({"shift": 2}, {"magnitude": -1}, {"cutmix": 3}, {"mix_probability": 1.5}):
        with pytest.raises(ValueError, match=f"{next(iter(change))} is"):
            Augmentation(**change)
    with pytest.raises(ValueError, match="rand_augment is 12"):
        Augmentation(rand_augment=12)


@pytest.mark.parametrize(("workers", "shares"), [(2, 1), (2, 2), (2, 4), (3, 2)])
def test_workers_share_the_very_batch_of_one(workers, shares):
    augmentation = FULL
    if (workers, shares) != (2, 2):  # each share's RandAugment is traced anew: once is enough
        augmentation = dataclasses.replace(FULL, rand_augment=0)
    split = Split(photos(48), np.arange(48) % 5)
    whole = TrainingBatches(split, 5, 24, augmentation, seed=3, shares=shares)
    parts = [
        TrainingBatches(split, 5, 24, augmentation, seed=3, place=(i, workers), shares=shares)
        for i in range(workers)
    ]
    for step in (0, 3):
        shared = [to_numpy(part[step]) for part in parts]
        for one, together in zip(to_numpy(whole[step]), zip(*shared)):
            assert {len(part) for part in together} == {24 // workers}
            np.testing.assert_array_equal(np.concatenate(together), one)


def test_workers_see_every_picture_once_and_read_only_their_own():
    """Also in an epoch that was left in its middle and goes on with other workers."""

    class Read(np.ndarray):
        def __getitem__(self, index):
            if isinstance(index, np.ndarray):
                seen.extend(index)
            return super().__getitem__(index)

    split = numbered(48)
    split.images.setflags(write=False)
    watched = dataclasses.replace(split, images=split.images.view(Read))
    seen = []
    for worker in range(4):
        batches = TrainingBatches(watched, 5, 12, seed=1, place=(worker, 4))
        for step in (0, 1):
            batches[step]
    for worker in range(2):
        batches = TrainingBatches(watched, 5, 12, seed=1, place=(worker, 2), first_step=2)
        for step in (0, 1):
            batches[step]
    assert sorted(seen) == list(range(48))


@pytest.mark.parametrize("replicas", [2, 3, 4])
def test_filled_evaluation_batches_have_the_same_means(replicas):
    split = Split(photos(11, 8), np.arange(11) % 5)
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(5))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, weighted_metrics=["accuracy"])
    plain = model.evaluate(EvaluationBatches(split, 5, 4), verbose=0, return_dict=True)
    filled = EvaluationBatches(split, 5, 4, replicas=replicas)
    assert all(len(filled[i][0]) % replicas == 0 for i in range(len(filled)))
    found = model.evaluate(filled, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["loss"], plain["loss"], rtol=1e-6)
    np.testing.assert_allclose(found["accuracy"], plain["accuracy"], rtol=1e-6)
    workers = [
        EvaluationBatches(split, 5, 4, replicas=replicas, place=(i, replicas))
        for i in range(replicas)
    ]
    seen = []
    for index in range(len(filled)):
        whole = to_numpy(filled[index])
        for one, parts in zip(whole, zip(*(to_numpy(worker[index]) for worker in workers))):
            assert len({len(part) for part in parts}) == 1
            np.testing.assert_array_equal(np.concatenate(parts), one)
        images, _, weights = whole
        seen.append(images[weights > 0])
    np.testing.assert_array_equal(np.concatenate(seen), split.images)
