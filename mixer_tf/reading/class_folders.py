"""A folder or a zip of class folders -> pictures, labels and the names of the classes."""

import collections
import zlib

import numpy as np

from mixer_tf.reading import pictures
from mixer_tf.reading.report import printable


def read(path, image_size, report):
    """Decode the pictures of class folders.

    Args:
        path: of a folder or a `.zip`.
        image_size: as for `load_data`.
        report: a `Report`, which names what was left out.

    Returns:
        `{"train", perhaps "validation" and "test": (images, labels, names)}` with uint8
        `[N, H, W, channels]`, int64 `[N]` and checksums `[N]`, and the names of the classes.

    Raises:
        ValueError: as for `load_data`.
    """
    files = pictures.find(path, report)
    splits = {place[0] for place in map(_place, files) if place}
    if splits and "train" not in splits:
        held = {printable(parts[0]) for parts in files if _place(parts)}
        raise ValueError(
            f"{path} has {', '.join(f'{name}/<class>/' for name in sorted(held))} and no "
            "train/<class>/; give the folder of the training pictures that name, or leave class "
            "folders alone."
        )
    parted = bool(splits)
    places = {parts: _place(parts) if parted else _class_alone(parts) for parts in files}
    if parted:
        _remark_on_folders(files, places, report)
    _remark_on_strays(files, places, report)
    files = {parts: file for parts, file in files.items() if places[parts]}
    images, classes, names = {}, {}, {}
    with pictures.open_all(path) as archive:
        sizes = pictures.sizes(files, archive, report)
        size = _common_size(path, list(sizes.values()), image_size)
        for split in dict.fromkeys(places[parts][0] for parts in sizes):
            part = {parts: files[parts] for parts in sizes if places[parts][0] == split}
            decoded, arrays = pictures.pixels(part, size, archive, report)
            if decoded:
                images[split] = arrays
                classes[split] = [places[parts][1] for parts in decoded]
                known = ["/".join(parts[parted:]) for parts in decoded]  # no `train/`
                known = [pictures.composed(name).encode("utf-8", "replace") for name in known]
                sums = [zlib.crc32(name) for name in known]
                names[split] = np.array(sums, "uint32")
    unread = {places[parts][0] for parts in files} - {"train", *images}
    if unread:  # else pictures of train/ would take their place
        raise ValueError(
            f"{path}: no picture of {' and '.join(sorted(unread))} can be read; mend or remove "
            f"{'them' if len(unread) > 1 else 'it'}. {report.summary()}."
        )
    found = {places[parts][1] for parts in files if places[parts][0] == "train"}
    class_names = _class_names(path, classes.get("train", []), found, report)
    if parted and "test" not in images:
        report.remarks.append("there is no test/<class>/: a tenth of train/ is the test set")
    number = {name: i for i, name in enumerate(class_names)}
    for split, found in classes.items():
        if strangers := sorted(set(found) - set(number)):
            raise ValueError(
                f"{path}: {split}/ has classes that train/ lacks: {', '.join(strangers)}."
            )
        classes[split] = np.array([number[name] for name in found], "int64")
    return {split: (images[split], classes[split], names[split]) for split in images}, class_names


def _class_alone(parts):
    """`(split, class)` of a picture in class folders alone; None beside them: it has no class."""
    return ("train", pictures.composed(parts[0])) if len(parts) > 1 else None


def _place(parts):
    """`(split, class)` of a picture where there is a train/; None where it belongs to none."""
    # A class may be called train too; a split holds class folders, so its pictures lie deeper.
    split = pictures.SPLITS.get(parts[0].lower())
    return (split, pictures.composed(parts[1])) if split and len(parts) > 2 else None


def _remark_on_folders(files, places, report):
    """Name the folders beside train/ of which nothing is used."""
    used = {parts[0] for parts in files if places[parts]}
    for name in sorted({parts[0] for parts in files if len(parts) > 1} - used):
        report.remarks.append(f"{printable(name)}/ beside train/ holds no pictures that are used")


def _remark_on_strays(files, places, report):
    """Count the pictures that lie beside class folders, and belong to none."""
    used = {parts[0] for parts in files if places[parts]}
    strays = [p for p in files if not places[p] and (len(p) == 1 or p[0] in used)]
    if strays:
        example = printable("/".join(strays[0]))
        report.remarks.append(f"{len(strays)} pictures lie in no class folder, such as {example}")


def _common_size(path, sizes, image_size):
    """`(height, width)` of all pictures where they agree and are no larger, else `image_size`.

    Large ones are shrunk here, with antialiasing, as `predict` shrinks them: a batch is resized
    without. Small ones take less memory as they are, and augmentation sees their own pixels.
    """
    if len(set(sizes)) == 1:
        (size,) = set(sizes)
        larger = image_size and (size[0] > image_size[0] or size[1] > image_size[1])
        return tuple(image_size) if larger else size
    if image_size is None and sizes:
        middle = np.median(sizes, axis=0).astype(int)
        raise ValueError(
            f"The pictures in {path} have {len(set(sizes))} different sizes (the median is "
            f"{middle[0]}x{middle[1]}); give the size to train on, for example --image-size 64 "
            "(in Python image_size=(64, 64))."
        )
    return image_size


def _class_names(path, classes, found, report):
    """Names of the classes to train on.

    Args:
        path: of the source, for the message.
        classes: that of each training picture.
        found: those of all files that were found, readable or not.
        report: a `Report`, which notes classes of one picture or none.
    """
    counts = collections.Counter(classes)
    class_names = sorted(counts)
    if len(class_names) < 2:
        met = f" {report.summary()}." if report.left_out or report.remarks else ""
        raise ValueError(
            f"{path} holds pictures of {len(class_names)} classes; a folder for each of at least "
            f"two classes is needed, or train/<class>/ and test/<class>/.{met}"
        )
    for name in sorted(found - set(class_names)):
        report.remarks.append(f"class {printable(name)} has no picture that can be read")
    for name in [name for name in class_names if counts[name] == 1]:
        report.remarks.append(f"class {printable(name)} has one picture, which is only trained on")
    return class_names
