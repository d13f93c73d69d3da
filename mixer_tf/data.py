"""Pictures by name, from a folder or from a zip: `load_data` -> train, validation, test.

All pictures are decoded once into uint8 arrays. Nothing here needs Keras,
except where a data set has to come from `keras.datasets`.
"""

import contextlib
import dataclasses
import io
import os
import pathlib
import zipfile
from concurrent import futures

import numpy as np
from PIL import Image, ImageOps

NAMES = ("digits", "cifar10", "cifar100")
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
_CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


@dataclasses.dataclass(frozen=True)
class Split:
    """Pictures `[N, H, W, channels]` uint8 and their labels `[N]` int64."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def take(self, indices):
        """The pictures at `indices`, as a new `Split`."""
        return Split(self.images[indices], self.labels[indices])


@dataclasses.dataclass(frozen=True)
class Data:
    """Three splits with the same classes; validation never comes from the test set."""

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]

    @property
    def num_classes(self):
        return len(self.class_names)

    @property
    def image_shape(self):
        """`(height, width, channels)` of every picture."""
        return tuple(int(n) for n in self.train.images.shape[1:])


def load_data(source, image_size=None, validation_fraction=0.1, seed=0):
    """Load a data set.

    Args:
        source: `"digits"`, `"cifar10"`, `"cifar100"`, a folder or a `.zip` of
            one. A folder holds `train/<class>/*` and `test/<class>/*`, or class
            folders alone, of which a tenth becomes the test set. A name is
            looked for in `$MIXER_TF_DATA_DIR` first (`cifar10`, `cifar10.zip`).
        image_size: `(height, width)` that pictures of a folder are resized to;
            needed only where they differ in size.
        validation_fraction: share of the training pictures held out of
            training, class by class.
        seed: decides which pictures are held out.

    Returns:
        A `Data`.

    Raises:
        ValueError: the source is unknown, empty, has fewer than two classes, or
            a picture cannot be read; the message names it.
    """
    if not 0 < validation_fraction < 1:
        raise ValueError(f"validation_fraction is {validation_fraction}; give a share in (0, 1).")
    name, train, test, class_names = _load(str(source), image_size, seed)
    train, validation = _hold_out(train, validation_fraction, seed)
    return Data(name, train, validation, test, tuple(class_names))


def _load(source, image_size, seed):
    """Train and test `Split` and class names of a source."""
    if source == "digits":
        return ("digits", *_digits(seed))
    if source in NAMES:
        folder = os.environ.get("MIXER_TF_DATA_DIR")
        local = [pathlib.Path(folder, source + end) for end in ("", ".zip")] if folder else []
        found = [path for path in local if path.exists()]
        if not found:
            return (source, *_keras_datasets(source))
        return (source, *_pictures(found[0], image_size, seed))
    path = pathlib.Path(source)
    if not path.exists():
        raise ValueError(
            f"There is no data {source!r}: it is neither a name ({', '.join(NAMES)}) "
            "nor a folder or .zip of class folders."
        )
    return (path.stem, *_pictures(path, image_size, seed))


def _digits(seed):
    """scikit-learn's 1,797 handwritten digits, 8x8 enlarged to 16x16; a fifth is the test set."""
    from sklearn import datasets

    digits = datasets.load_digits()
    pictures = np.round(digits.images * (255 / 16)).astype("uint8")
    # Enlarged because 8x8 leaves too few patches to mix: at 16x16, patches of 4 make 16 tokens.
    images = np.stack([np.asarray(_resized(Image.fromarray(p), (16, 16))) for p in pictures])
    everything = Split(images[..., None], digits.target.astype("int64"))
    train, test = _hold_out(everything, 0.2, seed=0)  # fixed: one test set whatever the seed
    return train, test, [str(n) for n in digits.target_names]


def _keras_datasets(name):
    """CIFAR from Keras's cache or its download."""
    import keras

    module = {"cifar10": keras.datasets.cifar10, "cifar100": keras.datasets.cifar100}[name]
    try:
        # keras.datasets draws its progress bar on standard output, which belongs to results.
        with contextlib.redirect_stdout(io.StringIO()):
            (x, y), (x_test, y_test) = module.load_data()
    except Exception as error:  # keras raises a bare Exception where the address does not answer
        raise ValueError(
            f"{name} is neither in $MIXER_TF_DATA_DIR nor in Keras's cache, and it cannot be "
            f"downloaded ({str(error).splitlines()[0][:80]}); set MIXER_TF_DATA_DIR to a folder "
            f"that holds {name}.zip or {name}/ with train/ and test/, or use --data digits."
        ) from error
    labels, labels_test = y[:, 0].astype("int64"), y_test[:, 0].astype("int64")
    names = _CIFAR10 if name == "cifar10" else [f"class {n}" for n in range(100)]
    return Split(x, labels), Split(x_test, labels_test), names


def _pictures(path, image_size, seed):
    """Train and test from class folders, of a folder or a zip."""
    files = _zip_files(path) if path.is_file() else _folder_files(path)
    if "train" in {parts[0] for parts in files}:
        train = {parts[1:]: file for parts, file in files.items() if parts[0] == "train"}
        test = {parts[1:]: file for parts, file in files.items() if parts[0] == "test"}
    else:
        train, test = files, {}
    # A picture beside the class folders belongs to no class.
    train = {parts: file for parts, file in train.items() if len(parts) > 1}
    test = {parts: file for parts, file in test.items() if len(parts) > 1}
    class_names = sorted({parts[0] for parts in train})
    if len(class_names) < 2:
        raise ValueError(
            f"{path} holds pictures of {len(class_names)} classes; a folder for each of at least "
            "two classes is needed, or train/<class>/ and test/<class>/."
        )
    strangers = sorted({parts[0] for parts in test} - set(class_names))
    if strangers:
        raise ValueError(f"{path}: test/ has classes that train/ lacks: {', '.join(strangers)}.")

    opener = zipfile.ZipFile(path) if path.is_file() else contextlib.nullcontext()
    with opener as archive:
        size = _common_size(path, {**train, **test}, image_size, archive)
        train_split = _decode(path, train, class_names, size, archive)
        if test:
            return train_split, _decode(path, test, class_names, size, archive), class_names
    train_split, test_split = _hold_out(train_split, 0.1, seed)
    return train_split, test_split, class_names


def _folder_files(path):
    """{parts of the relative path: path} of every picture below a folder."""
    files = {}
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(_PICTURES) and not name.startswith("."):
                file = pathlib.Path(folder, name)
                files[file.relative_to(path).parts] = file
    return files


def _zip_files(path):
    """{parts: member name} of every picture in a zip, without a single folder around them all."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(archive.namelist())
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is no readable zip file ({error}).") from error
    pictures = [n for n in names if n.lower().endswith(_PICTURES) and "__MACOSX" not in n]
    files = {tuple(pathlib.PurePosixPath(n).parts): n for n in pictures}
    roots = {parts[0] for parts in files}
    if len(roots) == 1 and all(len(parts) > 2 for parts in files):
        files = {parts[1:]: name for parts, name in files.items()}
    return files


def _common_size(path, files, image_size, archive):
    """`(height, width)` of all pictures where they agree, else `image_size`."""

    def read(picture):
        width, height = picture.size
        rotated = picture.getexif().get(0x0112, 1) >= 5  # EXIF: orientations 5 to 8 lie on a side
        return (width, height) if rotated else (height, width)

    sizes = _read_all(path, files, read, archive)
    if len(set(sizes)) == 1:
        return sizes[0]
    if image_size is None:
        middle = np.median(sizes, axis=0).astype(int)
        raise ValueError(
            f"The pictures in {path} have {len(set(sizes))} different sizes (the median is "
            f"{middle[0]}x{middle[1]}); give the size to train on, for example --image-size 64."
        )
    return image_size


def _decode(path, files, class_names, size, archive):
    """Every picture as uint8 RGB of one size, `[N, H, W, 3]`, and its class."""

    def read(picture):
        return np.asarray(_resized(ImageOps.exif_transpose(picture).convert("RGB"), size))

    images = _read_all(path, files, read, archive)
    number = {name: i for i, name in enumerate(class_names)}
    labels = [number[parts[0]] for parts in files]
    return Split(np.stack(images), np.array(labels, "int64"))


def _read_all(path, files, read, archive):
    """`read(picture)` of every file, in their order."""

    def open_one(item):
        parts, file = item
        try:
            # A member is read whole, so that threads do not share the archive's position.
            stream = io.BytesIO(archive.read(file)) if archive else file
            with Image.open(stream) as picture:
                return read(picture)
        except (OSError, SyntaxError, ValueError, zipfile.BadZipFile) as error:
            reason = "its content is no known picture format or is damaged"
            raise ValueError(f"{path}: {'/'.join(parts)} cannot be read: {reason}.") from error

    with futures.ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
        return list(pool.map(open_one, files.items()))


def read_pictures(source, image_shape):
    """Pictures without classes, decoded as those of a data set are.

    Args:
        source: a picture, or a folder, in which every picture counts.
        image_shape: `(height, width, channels)` that they are brought to; one
            channel is grey.

    Yields:
        The path of each picture and the picture, `[height, width, channels]` uint8.

    Raises:
        ValueError: there is none, or one cannot be read; the message names it.
    """
    source = pathlib.Path(source)
    if not source.exists():
        raise ValueError(f"There is no picture or folder {str(source)!r}.")
    files = _folder_files(source) if source.is_dir() else {(source.name,): source}
    if not files:
        raise ValueError(f"{source} holds no pictures ({', '.join(_PICTURES)}).")
    *size, channels = image_shape

    def read(picture):
        picture = _resized(ImageOps.exif_transpose(picture).convert("RGB"), size)
        if channels == 1:
            return np.asarray(picture.convert("L"))[..., None]
        return np.asarray(picture)

    for parts, file in files.items():  # one by one: a folder may be larger than memory
        yield file, _read_all(source, {parts: file}, read, None)[0]


def _resized(picture, image_size):
    """A picture at `(height, width)`, bilinear with antialiasing."""
    height, width = image_size
    if picture.size == (width, height):
        return picture
    return picture.resize((width, height), Image.Resampling.BILINEAR)


def _hold_out(split, fraction, seed):
    """Take `fraction` of each class out, by seed: `(the rest, what was taken)`.

    Own lines rather than scikit-learn's StratifiedShuffleSplit, which refuses a
    class of one picture; here such a class stays in training.
    """
    draws = np.random.default_rng((seed, len(split)))
    taken = np.zeros(len(split), bool)
    for label in np.unique(split.labels):
        members = np.flatnonzero(split.labels == label)
        count = min(round(len(members) * fraction), len(members) - 1)
        taken[draws.permutation(members)[:count]] = True
    if not taken.any():
        raise ValueError(
            f"{len(split)} pictures are too few to hold out {fraction:.0%} of each class; "
            f"give at least {round(1 / fraction)} pictures of a class."
        )
    return split.take(np.flatnonzero(~taken)), split.take(np.flatnonzero(taken))
