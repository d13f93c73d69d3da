"""Where pictures come from, how they are split, and what is refused."""

import dataclasses
import shutil
import tracemalloc
import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image

from mixer_tf.data import Split, load_data
from mixer_tf.reading.pictures import read_pictures


def rows(split):
    return {image.tobytes() for image in split.images}


def test_digits_are_all_of_scikit_learns(digits):
    from sklearn import datasets

    assert len(digits.train) + len(digits.validation) + len(digits.test) == 1797
    assert digits.image_shape == (16, 16, 1)
    assert digits.class_names == tuple("0123456789")
    labels = np.concatenate([getattr(digits, s).labels for s in ("train", "validation", "test")])
    np.testing.assert_array_equal(np.bincount(labels), np.bincount(datasets.load_digits().target))
    assert digits.train.images.dtype == np.uint8
    assert digits.train.images.max() > 240


def test_splits_are_disjoint_stratified_and_by_seed(digits):
    again, other = load_data("digits"), load_data("digits", seed=1)
    np.testing.assert_array_equal(again.train.images, digits.train.images)
    np.testing.assert_array_equal(other.test.images, digits.test.images)  # the test set is fixed
    assert not np.array_equal(other.validation.images, digits.validation.images)
    assert not rows(digits.validation) & rows(digits.test)
    assert len(rows(digits.train) & rows(digits.validation)) == 0
    quarter = load_data("digits", validation_fraction=0.25)
    share = len(quarter.validation) / (len(quarter.train) + len(quarter.validation))
    assert share == pytest.approx(0.25, abs=0.01)
    counts = np.bincount(digits.validation.labels)
    assert np.abs(counts - np.bincount(digits.train.labels) / 9).max() < 1


@pytest.mark.parametrize("below", ["", "train"])
def test_folder(picture_folder, below):
    root = picture_folder(below=below)
    if below:
        (root / "test" / "dog").mkdir(parents=True)
        Image.new("RGB", (8, 8), (9, 8, 7)).save(root / "test" / "dog" / "a.png")
    data = load_data(root)
    other = load_data(root, seed=1)  # held out anew, but tested on the same pictures
    np.testing.assert_array_equal(other.test.images, data.test.images)
    assert data.class_names == ("cat", "dog")
    if below:
        assert data.test.images.tolist() == [[[[9, 8, 7]] * 8] * 8]
        assert data.test.labels.tolist() == [1]
        assert (len(data.train), len(data.validation)) == (18, 2)
    else:
        assert (len(data.train), len(data.validation), len(data.test)) == (16, 2, 2)
    names = {"cat": 0, "dog": 1}
    for name, label in names.items():
        with Image.open(next((root / below / name).iterdir())) as picture:
            pixels = np.asarray(picture)
        found = [
            split.labels[i]
            for split in (data.train, data.validation, data.test)
            for i in range(len(split))
            if np.array_equal(split.images[i], pixels)
        ]
        assert found == [label]


def test_zip_equals_folder(picture_folder, tmp_path):
    root = picture_folder()
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, "pets/" + str(file.relative_to(root)))
        archive.writestr("__MACOSX/pets/cat/._0.png", b"no picture")
        archive.write(file, "pets/.thumbs/1.png")
    a, b = load_data(root), load_data(tmp_path / "pets.zip")
    assert b.name == "pets"
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(a, split).images, getattr(b, split).images)
        np.testing.assert_array_equal(getattr(a, split).labels, getattr(b, split).labels)


def test_a_name_is_looked_for_in_the_data_folder_first(picture_folder, tmp_path, monkeypatch):
    root = picture_folder(below="train")
    root.rename(tmp_path / "cifar10")
    monkeypatch.setenv("MIXER_TF_DATA_DIR", str(tmp_path))
    assert load_data("cifar10").class_names == ("cat", "dog")
    shutil.make_archive(tmp_path / "cifar10", "zip", tmp_path / "cifar10")
    shutil.rmtree(tmp_path / "cifar10")
    assert load_data("cifar10").class_names == ("cat", "dog")


def test_without_a_network_the_message_says_what_to_do(monkeypatch):
    import keras

    def load():
        raise Exception("URL fetch failure on https://example.org: None -- refused")

    monkeypatch.delenv("MIXER_TF_DATA_DIR", raising=False)
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", load)
    with pytest.raises(
        ValueError, match="set MIXER_TF_DATA_DIR to a folder that holds cifar10.zip"
    ):
        load_data("cifar10")


def test_keras_datasets_are_used_where_nothing_is_local(monkeypatch):
    import keras

    draws = np.random.default_rng(0)
    x = draws.integers(0, 256, (200, 32, 32, 3), dtype="uint8")
    y = np.arange(200)[:, None] % 10
    monkeypatch.delenv("MIXER_TF_DATA_DIR", raising=False)
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: ((x, y), (x[:50], y[:50])))
    data = load_data("cifar10")
    assert data.class_names[6] == "frog"
    np.testing.assert_array_equal(data.test.images, x[:50])
    assert (len(data.train), len(data.validation)) == (180, 20)


def test_classes_of_cifar100_have_their_names_in_order(monkeypatch):
    import keras

    x, y = np.zeros((1000, 32, 32, 3), "uint8"), np.arange(1000)[:, None] % 100
    monkeypatch.delenv("MIXER_TF_DATA_DIR", raising=False)
    monkeypatch.setattr(keras.datasets.cifar100, "load_data", lambda: ((x, y), (x, y)))
    names = load_data("cifar100").class_names
    assert len(set(names)) == 100
    assert list(names) == sorted(names)  # as their numbers are
    assert (names[0], names[39], names[99]) == ("apple", "keyboard", "worm")


def test_pictures_of_different_sizes_need_one(picture_folder):
    root = picture_folder()
    Image.new("RGB", (30, 20), (1, 2, 3)).save(root / "cat" / "wide.png")
    with pytest.raises(ValueError, match=r"2 different sizes \(the median is 8x8\).*--image-size"):
        load_data(root)
    data = load_data(root, image_size=(10, 12))
    assert data.image_shape == (10, 12, 3)


def test_a_test_picture_of_another_size_is_noticed(picture_folder):
    """Also under the name of a training picture."""
    root = picture_folder(below="train")
    for name in ("cat", "dog"):
        (root / "test" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(root / "test" / name / "0.png")
    with pytest.raises(ValueError, match="2 different sizes"):
        load_data(root)


def test_pictures_of_one_size_keep_it(picture_folder):
    assert load_data(picture_folder(), image_size=(64, 64)).image_shape == (8, 8, 3)


def test_exif_rotation_grey_and_alpha(picture_folder):
    root = picture_folder(size=(6, 8))
    pixels = np.arange(48, dtype="uint8").reshape(6, 8)
    rotated = Image.fromarray(np.rot90(pixels, 1))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    rotated.save(root / "cat" / "turned.png", exif=exif)
    Image.new("RGBA", (8, 6), (10, 20, 30, 40)).save(root / "cat" / "alpha.png")
    data = load_data(root)
    everything = np.concatenate([data.train.images, data.validation.images, data.test.images])
    assert any(np.array_equal(image[..., 0], pixels) for image in everything)
    assert any((image == (10, 20, 30)).all() for image in everything)


def test_a_class_of_one_picture_stays_in_training(picture_folder):
    root = picture_folder()
    (root / "yak").mkdir()
    Image.new("RGB", (8, 8)).save(root / "yak" / "only.png")
    data = load_data(root)
    assert (data.train.labels == 2).sum() == 1
    assert not (data.validation.labels == 2).any()


def test_what_cannot_be_loaded_is_refused(picture_folder, tmp_path):
    with pytest.raises(ValueError, match="'nowhere': it is neither a name"):
        load_data("nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="pictures of 0 classes"):
        load_data(tmp_path / "empty")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match="no readable zip"):
        load_data(tmp_path / "text.zip")
    with pytest.raises(ValueError, match="validation_fraction is 1"):
        load_data("digits", validation_fraction=1)
    root = picture_folder(classes=("cat",))
    with pytest.raises(ValueError, match="pictures of 1 classes"):
        load_data(root)
    (root / "dog").mkdir()
    (root / "dog" / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    with pytest.raises(ValueError, match="dog/broken.jpg cannot be read"):
        load_data(root)


def test_a_test_class_that_training_lacks_is_refused(picture_folder):
    root = picture_folder(below="train")
    (root / "test" / "yak").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / "test" / "yak" / "a.png")
    with pytest.raises(ValueError, match="classes that train/ lacks: yak"):
        load_data(root)


def test_splits_cannot_be_changed_by_accident(digits):
    with pytest.raises(dataclasses.FrozenInstanceError):
        digits.train = digits.test


@pytest.mark.parametrize("size", [(40, 56), (12, 40)])  # larger in both, in one dimension
def test_large_pictures_of_one_size_are_read_at_the_size_asked_for(picture_folder, size):
    """With the very pixels that `predict` sees."""
    root = picture_folder(size=size)
    data = load_data(root, image_size=(16, 16))
    assert data.image_shape == (16, 16, 3)
    seen = {image.tobytes() for _, image in read_pictures(root, (16, 16, 3))}
    assert seen == rows(data.train) | rows(data.validation) | rows(data.test)
    assert load_data(root).image_shape == (*size, 3)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
@pytest.mark.parametrize("tested", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_folder_of_validation_pictures_is_the_validation_set(tmp_path, name, tested, zipped):
    """Each picture in a grey of its own, so that it can be told in which split it lies."""
    splits = ["train", name, *(["test"] if tested else [])]
    grey = {}
    for split in splits:
        for label in ("cat", "dog"):
            (tmp_path / "pets" / split / label).mkdir(parents=True)
            for i in range(10):
                grey[len(grey)] = split, label
                picture = Image.new("RGB", (4, 4), (len(grey) - 1,) * 3)
                picture.save(tmp_path / "pets" / split / label / f"{i}.png")
    root = tmp_path / "pets"
    if zipped:
        root = shutil.make_archive(tmp_path / "zipped", "zip", root)
    data = load_data(root)
    seen = {
        part: {grey[int(image[0, 0, 0])] for image in getattr(data, part).images}
        for part in ("train", "validation", "test")
    }
    both = ("cat", "dog")
    assert seen["validation"] == {(name, label) for label in both}
    assert seen["train"] == {("train", label) for label in both}
    assert seen["test"] == {("test" if tested else "train", label) for label in both}
    counts = [len(data.train), len(data.validation), len(data.test)]
    assert counts == ([20, 20, 20] if tested else [18, 20, 2])
    said = "there is no test/<class>/: a tenth of train/ is the test set" in data.report.text()
    assert said != tested
    if not tested:
        assert not rows(data.train) & rows(data.test)


def test_folders_beside_train_that_are_not_used_are_named(picture_folder):
    root = picture_folder(below="train")
    (root / "extra" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / "extra" / "cat" / "a.png")
    (root / "val" / "yak").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / "val" / "yak" / "a.png")
    with pytest.raises(ValueError, match="validation/ has classes that train/ lacks: yak"):
        load_data(root)
    (root / "val" / "yak").rename(root / "val" / "cat")
    data = load_data(root)
    assert "extra/ beside train/ holds no pictures that are used" in data.report.summary()
    assert len(data.validation) == 1


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "testing"), ("TRAIN", "test")])
def test_splits_may_have_capitals_and_their_longer_names(picture_folder, names):
    for name in names:
        root = picture_folder(below=name)
    data = load_data(root)
    assert data.class_names == ("cat", "dog")
    assert (len(data.train), len(data.test)) == (18, 20)


@pytest.mark.parametrize("name", ["test", "val"])
def test_a_set_of_which_nothing_can_be_read_is_refused(picture_folder, name):
    """Training pictures would take its place."""
    root = picture_folder(below="train")
    (root / name / "cat").mkdir(parents=True)
    (root / name / "cat" / "0.png").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match=r"no picture of (test|validation) can be read.*0.png"):
        load_data(root)


def test_a_test_set_beside_class_folders_is_no_class(picture_folder):
    picture_folder()
    root = picture_folder(below="test")
    with pytest.raises(ValueError, match=r"has test/<class>/ and no train/<class>/; give"):
        load_data(root)


@pytest.mark.parametrize("name", ["test", "Validation"])
def test_a_zip_of_a_test_set_alone_is_not_trained_on(picture_folder, tmp_path, name):
    root = picture_folder(below=name)
    with pytest.raises(ValueError, match=f"has {name}/<class>/ and no train/<class>/; give"):
        load_data(shutil.make_archive(tmp_path / "alone", "zip", root))


@pytest.mark.parametrize("around", ["pets", "test", "Training"])
def test_a_folder_around_the_sets_of_a_zip_has_any_name(picture_folder, tmp_path, around):
    root = picture_folder(below=f"{around}/train")
    picture_folder_of_tests = root / around / "test" / "cat"
    picture_folder_of_tests.mkdir(parents=True)
    shutil.copy(root / around / "train" / "cat" / "0.png", picture_folder_of_tests)
    data = load_data(shutil.make_archive(tmp_path / "around", "zip", root))
    assert data.class_names == ("cat", "dog")
    assert len(data.test) == 1


def test_a_zip_has_the_order_of_the_folder_it_was_made_from(picture_folder, tmp_path):
    root = picture_folder(classes=("dog", "dog house"))
    one = load_data(root)
    (tmp_path / "parted").mkdir()
    shutil.copytree(root, tmp_path / "parted" / "Training")
    for place, above in ((root, ""), (tmp_path / "parted", ""), (tmp_path / "parted", "pets/")):
        with zipfile.ZipFile(tmp_path / "same.zip", "w") as archive:
            for file in place.rglob("*.*"):
                archive.write(file, f"{above}{file.relative_to(place)}")
        for other in (load_data(place), load_data(tmp_path / "same.zip")):
            np.testing.assert_array_equal(one.train.images, other.train.images)
            assert one.train.fingerprint() == other.train.fingerprint()


def test_an_accent_of_one_or_two_characters_is_the_same(picture_folder, tmp_path):
    """As one character "ñ" comes behind "z", as two (the zips of some Macs) before "o"."""
    root = picture_folder(classes=("pi\u00f1a", "pino", "pinz"))
    one = load_data(root)
    with zipfile.ZipFile(tmp_path / "same.zip", "w") as archive:
        for file in root.rglob("*.*"):
            archive.write(file, unicodedata.normalize("NFD", str(file.relative_to(root))))
    other = load_data(tmp_path / "same.zip")
    assert other.class_names == one.class_names == ("pino", "pinz", "pi\u00f1a")
    np.testing.assert_array_equal(one.train.images, other.train.images)
    assert one.train.fingerprint() == other.train.fingerprint()


def test_another_picture_of_the_same_class_is_another_set(picture_folder):
    root = picture_folder()
    before = load_data(root).train
    (root / "cat" / "9.png").rename(root / "cat" / "00.png")  # as many of each class
    after = load_data(root).train
    np.testing.assert_array_equal(before.labels, after.labels)
    assert before.agrees(before.fingerprint())
    assert not after.agrees(before.fingerprint())
    nameless = dataclasses.replace(before, names=None)  # of an earlier version, or made in Python
    assert before.agrees(nameless.fingerprint())
    assert nameless.agrees(before.fingerprint())
    assert before.agrees("")
    assert not before.take(slice(1, None)).agrees(nameless.fingerprint())
    assert before.no_larger((4, 4)).fingerprint() == before.fingerprint()
    small = dataclasses.replace(before, labels=before.labels.astype("uint8"))
    assert small.fingerprint() == before.fingerprint()


def test_pictures_beside_class_folders_are_counted(picture_folder):
    root = picture_folder(below="train")
    assert not any("no class folder" in remark for remark in load_data(root).report.remarks)
    for name in ("one.png", "two.png"):
        (root / "train" / name).write_bytes((root / "train" / "cat" / "0.png").read_bytes())
    remarks = load_data(root).report.remarks
    assert "2 pictures lie in no class folder, such as train/one.png" in remarks
    remarks = load_data(root / "train").report.remarks  # class folders alone
    assert "2 pictures lie in no class folder, such as one.png" in remarks


@pytest.mark.parametrize("size", [8, (0, 8), (8, 8, 3), (8.5, 8), "88"])
def test_a_size_is_two_whole_numbers(size):
    with pytest.raises(ValueError, match=r"image_size is .*; give \(height, width\)"):
        load_data("digits", size)


def test_digits_are_shrunk_as_predict_shrinks_them(digits):
    small = load_data("digits", (8, 8))
    assert small.image_shape == (8, 8, 1)
    picture = Image.fromarray(digits.test.images[3, :, :, 0])
    expected = np.asarray(picture.resize((8, 8), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(small.test.images[3, :, :, 0], expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: Split(s.images / 255, s.labels), "are float64 of the shape .* give uint8"),
        (lambda s: Split(s.images[..., 0], s.labels), r"\[N, height, width, channels\]"),
        (lambda s: Split(s.images[:, :8], s.labels), r"are \(8, 16, 1\), those of train are"),
        (lambda s: Split(s.images, s.labels[1:]), "a whole number for each of the 359 pictures"),
        (lambda s: Split(s.images, s.labels / 1), "labels of test are float64"),
        (lambda s: Split(s.images, s.labels + 1), r"lie in \[1, 10\]; there are 10 classes"),
    ],
)
def test_arrays_that_no_model_takes_are_refused(digits, change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(digits, test=change(digits.test))


def test_a_class_may_be_called_as_a_split(picture_folder):
    data = load_data(picture_folder(classes=("bus", "test", "train", "val")))
    assert data.class_names == ("bus", "test", "train", "val")
    assert (len(data.train), len(data.validation), len(data.test)) == (32, 4, 4)


@pytest.mark.parametrize("below", ["", "train"])
def test_loading_takes_no_more_than_the_pictures_twice(tmp_path, below):
    """Once as they are read, once in the splits; numpy tells tracemalloc what it takes."""
    side, count = 80, 400
    for i in range(count):
        folder = tmp_path / below / ("cat", "dog")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, side), (i % 256, 0, 0)).save(folder / f"{i}.png")
    tracemalloc.start()
    data = load_data(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data.train) + len(data.validation) + len(data.test) == count
    assert peak < 2.5 * count * side * side * 3


def test_an_error_without_words_is_named_by_its_kind(monkeypatch):
    import keras

    def load():
        raise ConnectionResetError

    monkeypatch.delenv("MIXER_TF_DATA_DIR", raising=False)
    monkeypatch.setattr(keras.datasets.cifar100, "load_data", load)
    with pytest.raises(ValueError, match=r"cannot be downloaded \(ConnectionResetError\); set"):
        load_data("cifar100")


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_channels_are_shrunk_each_by_itself(channels):
    """No channel is taken for transparency, under which others would vanish."""
    images = np.full((2, 16, 16, channels), 200, "uint8")
    images[:, :, :8, -1] = 0
    small = Split(images, np.zeros(2, int)).no_larger((8, 8)).images
    assert small.shape == (2, 8, 8, channels)
    assert (small[..., :-1] == 200).all()
    assert (small[:, :, :3, -1] < 20).all()
    assert (small[:, :, 5:, -1] > 180).all()


def test_data_without_pictures_to_test_on_is_refused(digits):
    with pytest.raises(ValueError, match="test holds no picture"):
        dataclasses.replace(digits, test=digits.test.take(slice(0, 0)))


def test_one_class_is_none_to_tell_from_others(digits):
    one = {
        split: Split(getattr(digits, split).images, 0 * getattr(digits, split).labels)
        for split in ("train", "validation", "test")
    }
    with pytest.raises(ValueError, match=r"class_names is \('cat',\); give at least two"):
        dataclasses.replace(digits, class_names=("cat",), **one)


def test_lists_are_no_pictures(digits):
    with pytest.raises(ValueError, match="labels of test are ndarray and list; give numpy"):
        dataclasses.replace(digits, test=Split(digits.test.images, digits.test.labels.tolist()))


def test_a_folder_gives_its_whole_name(picture_folder, monkeypatch):
    root = picture_folder()
    root = root.rename(root.with_name("my.data v2"))
    monkeypatch.chdir(root)
    assert load_data(str(root)).name == load_data(".").name == "my.data v2"


def test_names_of_classes_become_what_a_run_keeps(digits):
    named = dataclasses.replace(digits, class_names=np.arange(10))
    assert named.class_names == digits.class_names


def test_pictures_beyond_memory_are_refused(picture_folder):
    root = picture_folder()
    Image.new("RGB", (9, 9)).save(root / "cat" / "0.png")  # pictures of one size stay as they are
    with pytest.raises(ValueError, match="20 pictures of 4000000x4000000 do not fit into memory"):
        load_data(root, (4_000_000, 4_000_000))
