"""Pictures by name, from a folder or from a zip: `load_data` -> train, validation, test.

All pictures are decoded once into uint8 arrays. Nothing here needs Keras,
except where a data set has to come from `keras.datasets`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import operator
import os
import pathlib
import zlib

import numpy as np
from PIL import Image

from mixer_tf.reading import class_folders, pictures
from mixer_tf.reading.report import Report

NAMES = ("digits", "cifar10", "cifar100")
_TEST_SEED = 0  # one test set for all runs: what one was trained on, another may start from
_CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_CIFAR100 = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
    "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch "
    "crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo "
    "keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse "
    "mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy "
    "porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television "
    "tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)


@dataclasses.dataclass(frozen=True)
class Split:
    """Pictures `[N, H, W, channels]` uint8 and their labels `[N]` int64."""

    images: np.ndarray
    labels: np.ndarray
    names: np.ndarray | None = None  # checksums of the pictures' names `[N]`, where they have any

    def __len__(self):
        return len(self.labels)

    def take(self, indices):
        """The pictures at `indices`, as a new `Split`."""
        names = None if self.names is None else self.names[indices]
        return Split(self.images[indices], self.labels[indices], names)

    def no_larger(self, image_size):
        """The same pictures, shrunk to `(height, width)` where they are larger in either.

        With antialiasing, as pictures from files are; a batch that is resized later is not.
        """
        height, width, channels = self.images.shape[1:]
        if height <= image_size[0] and width <= image_size[1]:
            return self
        # Pillow knows grey and RGB; of other numbers of channels it takes one for transparency.
        images = self.images if channels == 3 else np.moveaxis(self.images, 3, 1)
        planes = images if channels == 3 else images.reshape(-1, height, width)
        small = np.stack(
            [np.asarray(pictures.resized(Image.fromarray(i), image_size)) for i in planes]
        )
        if channels != 3:
            small = np.moveaxis(small.reshape(len(self), channels, *image_size), 1, 3)
        return dataclasses.replace(self, images=np.ascontiguousarray(small))

    def fingerprint(self):
        """Number, checksum of the labels, and of the names: equal for the same pictures in order.

        The pixels are left out: another release of a JPEG decoder may round them otherwise.
        """
        known = [np.asarray(self.labels, "int64")]  # the same in whatever type they are given
        known += [] if self.names is None else [self.names]
        sums = [f"{zlib.crc32(np.ascontiguousarray(part)):08x}" for part in known]
        return ", ".join([str(len(self)), *sums])

    def agrees(self, fingerprint):
        """Whether a fingerprint may be that of these pictures; one of both may lack the names."""
        own = self.fingerprint()
        return own.startswith(fingerprint) or fingerprint.startswith(own)


@dataclasses.dataclass(frozen=True)
class Data:
    """Three splits with the same classes; validation never comes from the test set.

    Raises:
        ValueError: there are fewer than two classes, or a split does not hold uint8 pictures of
            one shape, at least one, each with the number of a class.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    report: Report = dataclasses.field(default_factory=Report, compare=False)
    source: str = ""  # what `load_data` takes to load it again; none for data made in Python
    test_from_train: bool = False  # the test pictures were held out of those to train on
    # Share and seed by which validation pictures were held out of those to train on; None where
    # they were not.
    split: tuple[float, int] | None = None

    def __post_init__(self):
        # A tuple of words, as `config.json` gives it back; a frozen dataclass sets it so.
        object.__setattr__(self, "class_names", tuple(map(str, self.class_names)))
        if self.num_classes < 2:
            raise ValueError(f"class_names is {self.class_names}; give at least two.")
        for name in ("train", "validation", "test"):
            images, labels = getattr(self, name).images, getattr(self, name).labels
            if not isinstance(images, np.ndarray) or not isinstance(labels, np.ndarray):
                kinds = f"{type(images).__name__} and {type(labels).__name__}"
                raise ValueError(f"Pictures and labels of {name} are {kinds}; give numpy arrays.")
            if not len(labels):
                raise ValueError(f"{name} holds no picture; give at least one.")
            if images.dtype != np.uint8 or images.ndim != 4:
                raise ValueError(
                    f"The pictures of {name} are {images.dtype} of the shape {images.shape}; give "
                    "uint8 in [0, 255], [N, height, width, channels]."
                )
            if images.shape[1:] != self.image_shape:
                raise ValueError(
                    f"The pictures of {name} are {images.shape[1:]}, those of train are "
                    f"{self.image_shape}; give all in one shape."
                )
            if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
                raise ValueError(
                    f"The labels of {name} are {labels.dtype} of the shape {labels.shape}; give a "
                    f"whole number for each of the {len(images)} pictures."
                )
            if labels.size and not 0 <= labels.min() <= labels.max() < self.num_classes:
                raise ValueError(
                    f"The labels of {name} lie in [{labels.min()}, {labels.max()}]; there are "
                    f"{self.num_classes} classes, so give numbers in [0, {self.num_classes - 1}]."
                )

    def kept(self):
        """What a `RunConfig` keeps of the data, to know it again."""
        return {
            "class_names": self.class_names,
            "data": self.source or self.name,
            "pictures": self.train.fingerprint(),
            "validation": self.validation.fingerprint(),
            "loaded_size": self.image_shape[:2],
            "split": self.split,
        }

    def no_larger(self, image_size):
        """The same with no picture larger than `(height, width)`, see `Split.no_larger`."""
        names = ("train", "validation", "test")
        return dataclasses.replace(
            self, **{name: getattr(self, name).no_larger(image_size) for name in names}
        )

    @property
    def num_classes(self):
        """How many classes there are."""
        return len(self.class_names)

    @property
    def image_shape(self):
        """`(height, width, channels)` of every picture."""
        return tuple(int(n) for n in self.train.images.shape[1:])


def load_data(source, image_size=None, validation_fraction=0.1, seed=0, strict=False):
    """Load a data set.

    Args:
        source: `"digits"`, `"cifar10"`, `"cifar100"`, a folder or a `.zip` of
            one. A folder holds `train/<class>/*` and `test/<class>/*`, or class
            folders alone; where there is no `test/`, a tenth of the training
            pictures becomes the test set. `val/<class>/*` is the validation set
            where it is there. `training`, `valid`, `validation`, `testing` and
            capitals are understood too. A name is looked for in
            `$MIXER_TF_DATA_DIR` first (`cifar10`, `cifar10.zip`).
        image_size: `(height, width)` that pictures are resized to where they differ
            in size, or are larger in a dimension; smaller ones that agree keep their
            size. Needed only where they differ.
        validation_fraction: share of the training pictures held out of
            training, class by class, where the source has no validation set.
        seed: decides which pictures are held out.
        strict: refuse a picture that cannot be read, instead of leaving it out.

    Returns:
        A `Data`. Its `report` names the pictures and folders that were left out.

    Raises:
        ValueError: the source is unknown, empty, has fewer than two classes or in
            test or validation one that training lacks, or, if `strict`, a picture
            cannot be read; the message names it.
    """
    if not 0 < validation_fraction < 1:
        raise ValueError(f"validation_fraction is {validation_fraction}; give a share in (0, 1).")
    if image_size is not None:
        image_size = _checked_size(image_size)
    report = Report(strict)
    source = str(source)
    name, splits, class_names = _load(source, image_size, report)
    if image_size is not None:
        splits = {split: part.no_larger(image_size) for split, part in splits.items()}
    test_from_train, validation_from_train = "test" not in splits, "validation" not in splits
    everything = splits["train"]
    chosen = {"train": np.arange(len(everything))}
    shares = {"test": (0.1, _TEST_SEED), "validation": (validation_fraction, seed)}
    for split in [split for split in shares if split not in splits]:
        chosen["train"], chosen[split] = _hold_out(
            everything.labels, chosen["train"], *shares[split]
        )
    if len(chosen) > 1:  # after all is chosen, so that pictures are copied once
        splits |= {split: everything.take(indices) for split, indices in chosen.items()}
    source = source if source in NAMES else str(pathlib.Path(source).absolute())
    about = {"report": report, "source": source, "test_from_train": test_from_train}
    if validation_from_train:
        about["split"] = (float(validation_fraction), int(seed))
    return Data(name, class_names=tuple(class_names), **about, **splits)


def _checked_size(image_size):
    with contextlib.suppress(TypeError, ValueError):
        height, width = map(operator.index, image_size)
        if min(height, width) > 0:
            return height, width
    raise ValueError(f"image_size is {image_size!r}; give (height, width) in pixels.")


def _load(source, image_size, report):
    """Name of a source, `{"train", perhaps "validation" and "test": Split}`, names of classes."""
    if source == "digits":
        return ("digits", *_digits())
    if source in NAMES:
        folder = os.environ.get("MIXER_TF_DATA_DIR")
        local = [pathlib.Path(folder, source + end) for end in ("", ".zip")] if folder else []
        found = [path for path in local if path.exists()]
        if not found:
            return (source, *_keras_datasets(source))
        return (source, *_folders(found[0], image_size, report))
    path = pathlib.Path(source)
    if not path.exists():
        raise ValueError(
            f"There is no data {source!r}: it is neither a name ({', '.join(NAMES)}) "
            "nor a folder or .zip of class folders."
        )
    whole = pathlib.Path(os.path.abspath(path))  # "." has no name
    name = whole.name if path.is_dir() else whole.stem
    return (name, *_folders(path, image_size, report))


def _folders(path, image_size, report):
    read, class_names = class_folders.read(path, image_size, report)
    return {split: Split(*arrays) for split, arrays in read.items()}, class_names


def _digits():
    """scikit-learn's 1,797 handwritten digits, 8x8 enlarged to 16x16; a fifth is the test set."""
    from sklearn import datasets

    digits = datasets.load_digits()
    scans = np.round(digits.images * (255 / 16)).astype("uint8")
    # Enlarged because 8x8 leaves too few patches to mix: at 16x16, patches of 4 make 16 tokens.
    images = np.stack([np.asarray(pictures.resized(Image.fromarray(p), (16, 16))) for p in scans])
    everything = Split(images[..., None], digits.target.astype("int64"))
    train, test = _hold_out(everything.labels, np.arange(len(everything)), 0.2, _TEST_SEED)
    splits = {"train": everything.take(train), "test": everything.take(test)}
    return splits, [str(n) for n in digits.target_names]


def _keras_datasets(name):
    """CIFAR from Keras's cache or its download."""
    import keras

    module = {"cifar10": keras.datasets.cifar10, "cifar100": keras.datasets.cifar100}[name]
    try:
        # keras.datasets draws its progress bar on standard output, which belongs to results.
        with contextlib.redirect_stdout(io.StringIO()):
            (x, y), (x_test, y_test) = module.load_data()
    except Exception as error:  # keras raises a bare Exception where the address does not answer
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{name} is neither in $MIXER_TF_DATA_DIR nor in Keras's cache, and it cannot be "
            f"downloaded ({reason[:80]}); set MIXER_TF_DATA_DIR to a folder "
            f"that holds {name}.zip or {name}/ with train/ and test/, or use --data digits."
        ) from error
    labels, labels_test = y[:, 0].astype("int64"), y_test[:, 0].astype("int64")
    names = _CIFAR10 if name == "cifar10" else _CIFAR100.split()
    return {"train": Split(x, labels), "test": Split(x_test, labels_test)}, names


def _hold_out(labels, indices, fraction, seed):
    """Take `fraction` of each class out, by seed: `(indices of the rest, of what was taken)`.

    Own lines rather than scikit-learn's StratifiedShuffleSplit, which refuses a
    class of one picture; here such a class stays in training.

    Args:
        labels: of all pictures, `[N]`.
        indices: of the pictures to choose from.
        fraction: in (0, 1).
        seed: decides which are taken.
    """
    labels = labels[indices]
    draws = np.random.default_rng((seed, len(indices)))
    taken = np.zeros(len(indices), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(round(len(members) * fraction), len(members) - 1)
        taken[draws.permutation(members)[:count]] = True
    if not taken.any():
        raise ValueError(
            f"{len(indices)} pictures are too few to hold out {fraction:.0%} of each class; "
            f"give at least {round(1 / fraction)} pictures of a class."
        )
    return indices[~taken], indices[taken]
