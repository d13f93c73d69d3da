"""Picture files as they are found in the world: each is used as one would expect, or named."""

import io
import itertools
import os
import struct
import threading
import zipfile
import zlib

import numpy as np
import pytest
from helpers import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mixer_tf import MixerConfig, cli
from mixer_tf.data import load_data
from mixer_tf.reading import decoding
from mixer_tf.reading.pictures import find, read_pictures
from mixer_tf.reading.report import Report
from mixer_tf.recipe import Recipe
from mixer_tf.train import train

RED = (200, 40, 30)


def load(root, **options):
    """All pictures of a data set, and its report."""
    data = load_data(root, **options)
    splits = (data.train, data.validation, data.test)
    return np.concatenate([split.images for split in splits]), data


def colour_of(path, size=(8, 8)):
    """The mean colour that a picture is read with."""
    ((_, image),) = read_pictures(path, (*size, 3))
    return image.reshape(-1, 3).mean(axis=0)


def bomb(side):
    """A PNG of a few kB that declares `side` x `side` pixels."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_what_cannot_be_read_is_left_out_and_named(picture_folder):
    root = picture_folder()
    whole = (root / "cat" / "0.png").read_bytes()
    bad = {
        "cut.png": (whole[: len(whole) // 2], "truncated or damaged"),
        "empty.jpg": (b"", "it is empty"),
        "text.jpg": (b"I am no picture", "no known picture format"),
        "bomb.png": (bomb(30_000), "more than 178,956,970"),
        "post.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "no known picture"),
    }
    for name, (content, _) in bad.items():
        (root / "dog" / name).write_bytes(content)
    (root / "dog" / "nowhere.png").symlink_to(root / "gone.png")
    os.mkfifo(root / "dog" / "pipe.png")
    bad |= {"nowhere.png": (b"", "leads nowhere"), "pipe.png": (b"", "no ordinary file")}
    images, data = load(root)
    assert len(images) == data.report.used == 20
    said = dict(data.report.left_out)
    assert set(said) == {f"dog/{name}" for name in bad}
    for name, (_, reason) in bad.items():
        assert reason in said[f"dog/{name}"], name
        assert f"left out: dog/{name}: " in data.report.text()
    assert "20 pictures used; 7 left out (dog/bomb.png cannot be read" in data.report.summary()
    assert data.report.summary().endswith("; and 4 more)")
    with pytest.raises(ValueError, match=r"dog/(bomb|cut)\.png cannot be read"):
        load(root, strict=True)


def test_kinds_of_pixels(tmp_path):
    """Each from a picture that is RED all over, saved in its way."""
    red = Image.new("RGB", (8, 8), RED)
    red.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    red.quantize(4).save(tmp_path / "palette.png")
    red.convert("RGBA").save(tmp_path / "alpha.png")
    red.save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    red.save(tmp_path / "plain.tiff")
    report = Report()
    for file in sorted(tmp_path.iterdir()):
        assert np.abs(colour_of(file) - RED).max() < 3, file.name
        report.kinds.update(decoding.read(file, decoding.kinds))
    assert report.kinds == {
        "in CMYK, converted": 1,
        "with a palette": 2,  # the .gif too
        "with transparency, which is dropped": 1,
        "of several frames, the first of which is taken": 1,
    }


@pytest.mark.parametrize("ending", ["png", "tiff", "ppm"])
def test_sixteen_bits_keep_their_brightness(tmp_path, ending):
    """Pillow's own conversion cuts everything above 255 off, and would give white."""
    values = np.linspace(0, 65535, 64).round().astype("uint16").reshape(8, 8)
    Image.fromarray(values).save(tmp_path / f"deep.{ending}")
    ((_, image),) = read_pictures(tmp_path / f"deep.{ending}", (8, 8, 1))
    np.testing.assert_allclose(image[..., 0], values / 257, atol=1)
    if ending != "ppm":  # Pillow opens that as 32 bits, see `decoding.rgb`
        Image.fromarray(np.full((8, 8), 200, "uint16")).save(tmp_path / f"dark.{ending}")
        ((_, dark),) = read_pictures(tmp_path / f"dark.{ending}", (8, 8, 1))
        np.testing.assert_allclose(dark, 200 / 257, atol=1)
    (tmp_path / "more").mkdir()
    Image.fromarray(np.ones((8, 8), "float32")).save(tmp_path / "more" / "float.tiff")
    with pytest.raises(ValueError, match=r"float.tiff cannot be read: .* fractions"):
        list(read_pictures(tmp_path / "more" / "float.tiff", (8, 8, 3)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_as_cameras_mean_it(tmp_path, orientation):
    """Against the definition in EXIF 2.3, by which corner row 0 and column 0 of the file are."""
    upright = np.arange(35, dtype="uint8").reshape(5, 7) * 7
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.T, 6: np.rot90(upright, 1), 7: np.rot90(upright, 2).T, 8: np.rot90(upright, 3),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("turned.png", "turned.tif"):
        Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / name, exif=exif)
        assert decoding.read(tmp_path / name, decoding.size) == (5, 7)
        ((_, image),) = read_pictures(tmp_path / name, (5, 7, 1))
        np.testing.assert_array_equal(image[..., 0], upright)


def test_an_orientation_that_exif_does_not_know_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 9
    Image.new("RGB", (7, 5)).save(tmp_path / "odd.png", exif=exif)
    assert decoding.read(tmp_path / "odd.png", decoding.size) == (5, 7)
    assert decoding.read(tmp_path / "odd.png", decoding.kinds) == []


def test_a_good_picture_with_damaged_exif_is_used(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), RED).save(stream, "JPEG", quality=100, exif=b"Exif\0\0MM\0*\xff\xff")
    (tmp_path / "camera.jpg").write_bytes(stream.getvalue())
    assert np.abs(colour_of(tmp_path / "camera.jpg") - RED).max() < 3


NAMES = ["猫", "כלב", "ни́на", "two\nlines", "tab\there", " space ", "🐈", "ü" * 80]


def test_names_in_any_script(picture_folder, tmp_path, capfd):
    root = picture_folder(classes=NAMES)
    (root / "two\nlines" / "bad\x1b[31m.png").write_bytes(b"")
    os.mkdir(os.fsencode(root) + b"/no\xff utf8")
    Image.new("RGB", (8, 8)).save(os.fsencode(root).decode() + "/猫/x.png")
    with open(os.fsencode(root) + b"/no\xff utf8/a\xfe.png", "wb") as file:
        Image.new("RGB", (8, 8)).save(file, "PNG")
    _, data = load(root)
    assert set(data.class_names) == {*NAMES, "no\\xff utf8"}
    assert data.report.left_out == [("two\\nlines/bad\\x1b[31m.png", "it is empty")]
    assert "class no\\xff utf8 has one picture" in data.report.summary()
    assert len(data.report.summary().splitlines()) == 1
    (tmp_path / "report").write_text(data.report.text(), "utf-8")


def test_links(picture_folder, tmp_path):
    """A loop ends, a link to a class folder elsewhere is followed, nothing is read twice."""
    root = picture_folder()
    (root / "dog" / "back").symlink_to(root)
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (8, 8), RED).save(tmp_path / "elsewhere" / "a.png")
    (root / "yak").symlink_to(tmp_path / "elsewhere")
    (root / ".ipynb_checkpoints").mkdir()
    Image.new("RGB", (8, 8)).save(root / ".ipynb_checkpoints" / "0-checkpoint.png")
    images, data = load(root)
    assert len(images) == 21
    assert data.class_names == ("cat", "dog", "yak")
    assert any("dog/back leads to a folder read before" in r for r in data.report.remarks)


def test_thousands_of_classes(tmp_path):
    tile = io.BytesIO()
    Image.new("RGB", (4, 4), RED).save(tile, "PNG")
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for i in range(3000):
            archive.writestr(f"{i:04}/a.png", tile.getvalue())
        for i in range(10):
            archive.writestr(f"0000/{i}.png", tile.getvalue())
    _, data = load(tmp_path / "many.zip")
    assert data.num_classes == 3000
    assert len(data.report.summary()) < 500
    assert len(data.report.text().splitlines()) == 3000  # 2,999 classes of one picture


def test_a_class_whose_pictures_are_all_bad_is_named(picture_folder):
    root = picture_folder(classes=("cat", "dog", "yak"), below="train")
    for file in (root / "train" / "yak").iterdir():
        file.write_bytes(b"")
    (root / "test" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / "test" / "cat" / "a.png")
    _, data = load(root)
    assert data.class_names == ("cat", "dog")
    assert "class yak has no picture that can be read" in data.report.text()


def test_hostile_zips(picture_folder, tmp_path):
    root = picture_folder()
    path = tmp_path / "pets.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, str(file.relative_to(root)))
        archive.writestr("../../evil/a.png", b"x")
        archive.writestr("/etc/a.png", b"x")
        with archive.open("cat/huge.png", "w", force_zip64=True) as member:
            for _ in range(300):
                member.write(bytes(1 << 20))
    before = sorted(p.name for p in tmp_path.rglob("*"))
    images, data = load(path)
    assert len(images) == 20
    assert len(data.report.left_out) == 3
    assert "its path leads out of the zip" in data.report.text()
    assert "more than 268,435,456 bytes" in data.report.text()
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("between", ["/", "\\"])
def test_zips_with_the_separator_of_windows(picture_folder, tmp_path, between):
    root = picture_folder(below="train")
    path = tmp_path / "pets.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.writestr(between.join(file.relative_to(root).parts), file.read_bytes())
        archive.writestr(between.join(["..", "evil", "a.png"]), b"x")
    images, data = load(path)
    assert data.class_names == ("cat", "dog")
    assert len(images) == 20
    assert "its path leads out of the zip" in data.report.text()


def test_the_commands_say_and_write_it(picture_folder, tmp_path, capfd, without_xla):
    root = picture_folder(size=(16, 16), per_class=20)
    (root / "dog" / "bad.png").write_bytes(b"")
    line = refused(capfd, "train", "--data", root, "--out", tmp_path / "no", "--strict")
    assert "dog/bad.png cannot be read: it is empty" in line
    assert not (tmp_path / "no").exists()

    data = load_data(root)
    model = MixerConfig(1, 8, 4, 8, (8, 8))
    train(model, data, Recipe(1, 18, warmup_epochs=0), tmp_path / "run", quiet=True)
    assert "left out: dog/bad.png: it is empty" in (tmp_path / "run" / "pictures.txt").read_text()
    for command in (["predict", "run", str(root / "dog"), "--top", "1"], ["evaluate", "run"]):
        command[1] = str(tmp_path / "run")
        cli.main(command)
        output = capfd.readouterr()
        assert "bad.png" not in output.out
        assert "1 left out (" in output.err
        assert "bad.png cannot be read: it is empty" in output.err


@settings(max_examples=200, deadline=None, database=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]),
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    end=st.floats(0, 1),
)
def test_a_damaged_picture_is_read_or_named(kind, places, end):
    stream = io.BytesIO()
    Image.effect_noise((9, 7), 90).convert("RGB").save(stream, kind)
    content = bytearray(stream.getvalue())
    for place, byte in places:
        content[int(place * len(content))] = byte
    content = bytes(content[: int(end * len(content)) + 1])
    try:
        picture = decoding.read(io.BytesIO(content), decoding.rgb)
    except decoding.Unusable as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    else:
        assert picture.mode == "RGB"


@settings(max_examples=100, deadline=None, database=None)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), drop=st.booleans())
def test_a_damaged_zip_is_read_or_refused(tmp_path_factory, place, byte, drop):
    tile = io.BytesIO()
    Image.new("RGB", (4, 4), RED).save(tile, "PNG")
    path = tmp_path_factory.mktemp("zips") / "pets.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in [f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(10)]:
            archive.writestr(name, tile.getvalue())
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    content[at : at + 1] = b"" if drop else bytes([byte])
    path.write_bytes(content)
    report = Report()
    try:
        files = find(path, report)
        data = load_data(path)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    else:
        assert len(files) >= data.report.used
        for part in (data.train, data.validation, data.test):
            assert (part.images == RED).all()  # a checksum tells of any other


def test_pictures_to_predict_are_decoded_side_by_side_and_not_all_at_once(tmp_path, monkeypatch):
    for i in range(200):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / f"{i:03}.png")
    (tmp_path / "100.png").write_bytes(b"")
    together, opened, really = threading.Barrier(2), [], decoding.read
    tickets = itertools.count()

    def met(file, take):
        number = next(tickets)
        opened.append(file)
        if number < 2:  # each of the first two waits for the other
            together.wait(timeout=20)
        return really(file, take)

    monkeypatch.setattr(decoding, "read", met)
    found, report = [], Report()
    for path, image in read_pictures(tmp_path, (4, 4, 3), report):
        found.append((path.name, int(image[0, 0, 0])))
        assert len(opened) < len(found) + 50
    assert found == [(f"{i:03}.png", i) for i in range(200) if i != 100]
    assert (report.used, len(report.left_out)) == (199, 1)
