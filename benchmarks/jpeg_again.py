"""What does it cost that the pictures were JPEG? They are made JPEG a second time.

    MIXER_TF_DATA_DIR=FOLDER python benchmarks/jpeg_again.py FOLDER/again.zip
    python -m mixer_tf train --model mixer_cifar_4 --recipe quick --data FOLDER/again.zip

The JPEG copy of CIFAR-10 is of Pillow's default quality, 75, with colour at half the resolution.
How far it falls short of the original cannot be measured without the original. A second
compression of the same quality can: each picture is moved by four pixels first, so that the blocks
of 8 and 16 pixels lie elsewhere than the first time, and moved back afterwards. Pictures are stored
as PNG, so that nothing else changes.
"""

import argparse
import io
import pathlib
import sys
import zipfile

import numpy as np
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

QUALITY = 75
MOVED = 4  # pixels: half a block


def compressed(picture):
    """`[H, W, 3]` uint8 after JPEG of blocks that do not begin at its corner."""
    wrapped = np.pad(picture, ((MOVED, MOVED), (MOVED, MOVED), (0, 0)), "reflect")
    file = io.BytesIO()
    Image.fromarray(wrapped).save(file, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(file))[MOVED:-MOVED, MOVED:-MOVED]


def main():
    """Write the compressed pictures as a data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path, help="the .zip to write")
    arguments = parser.parse_args()
    from mixer_tf import load_data

    data = load_data("cifar10")
    difference = []
    with zipfile.ZipFile(arguments.out, "w") as made:
        for name in ("train", "validation", "test"):
            split = getattr(data, name)
            for number, (picture, label) in enumerate(zip(tqdm(split.images), split.labels)):
                again = compressed(picture)
                difference.append(np.square(again.astype("float64") - picture).mean())
                file = io.BytesIO()
                Image.fromarray(again).save(file, "PNG")
                folder = "val" if name == "validation" else name
                path = f"{folder}/{data.class_names[label]}/{number:05d}.png"
                made.writestr(path, file.getvalue())
    noise = 10 * np.log10(255**2 / np.mean(difference))
    print(f"{len(difference):,} pictures, {noise:.1f} dB peak signal-to-noise ratio")


if __name__ == "__main__":
    main()
