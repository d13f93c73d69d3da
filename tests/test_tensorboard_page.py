"""A real TensorBoard in a real browser: are the pictures and the points there?"""

import base64
import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request

import keras
import numpy as np
import pytest
from helpers import free_ports
from PIL import Image

import callbacks
import mixer_tf

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
EPOCHS, PICTURES, FILTERS = 12, 60, 16
SHEET = (4 * 34 - 2, 4 * 34 - 2)  # 16 filters of 4 x 4 pixels, 8 times larger


def fetch(url, body=None, method=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def wait_for(look, what, seconds=180):
    """What `look` gives as soon as it gives something; other tests may want both cores."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError, KeyError):  # what urllib raises is an OSError
            found = look()
            if found:
                return found
        time.sleep(0.3)
    raise AssertionError(f"{what} did not come within {seconds} seconds")


@contextlib.contextmanager
def serving(*command):
    """A program that serves on the port its last word is given; gives its address."""
    (port,) = free_ports(1)
    *command, option = command
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = subprocess.Popen([*command, f"{option}={port}"], **quiet)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:  # by its own number
        started.terminate()
        started.wait(timeout=20)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short training that wrote all its callbacks write."""
    folder = tmp_path_factory.mktemp("logs") / "run"
    draws = np.random.default_rng(0)
    labels = draws.integers(0, 3, PICTURES)
    images = draws.uniform(0, 60, (PICTURES, 16, 16, 3)).astype("float32")
    images[np.arange(PICTURES), ..., labels] += 180  # three classes, three colours
    config = mixer_tf.MixerConfig(2, FILTERS, 8, 16, (4, 4))
    model = mixer_tf.build(config, input_shape=(16, 16, 3), num_classes=3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=False)
    names = ["red", "green\tgrass", "blue\nsky"]
    shown = [
        callbacks.PatchProjections(folder),
        callbacks.TokenMixing(folder, every=6),
        callbacks.EmbeddingProjector(folder, images, labels, names),
        callbacks.Throughput(folder, 20),
        callbacks.Confusion(folder, images, labels, names),
    ]
    model.fit(images, labels, batch_size=20, epochs=EPOCHS, verbose=0, callbacks=shown)
    return folder


@pytest.fixture(scope="module")
def board(run):
    """Address of a TensorBoard over the run."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(run.parent)]
    command += ["--host", "127.0.0.1", "--samples_per_plugin", "images=200"]
    command += ["--load_fast=false", "--reload_interval=1"]  # without a server beside it
    with serving(*command, "--port") as address:
        wait_for(lambda: b"run" in fetch(f"{address}/data/runs"), "the run")
        yield address


def get(board, route):
    return json.loads(fetch(f"{board}/data/plugin/{route}"))


def test_tensorboard_has_the_projections_of_every_epoch(board):
    tags = wait_for(lambda: get(board, "images/tags").get("run"), "the images")
    assert set(tags) >= {"patch_projections", "token_mixing/block_0", "confusion", "mistakes"}
    assert "Noise means" in tags["patch_projections"]["description"]
    route = "images/images?run=run&tag=patch_projections&sample=0"
    found = wait_for(lambda: (i := get(board, route)) and len(i) == EPOCHS and i, "all epochs")
    assert [image["step"] for image in found] == list(range(EPOCHS))
    png = fetch(f"{board}/data/plugin/images/individualImage?{found[-1]['query']}")
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.size == SHEET


def test_tensorboard_has_the_points_and_their_sprites(board):
    assert wait_for(lambda: get(board, "projector/runs"), "the projector") == ["run"]
    sets = {e["tensorName"]: e for e in get(board, "projector/info?run=run")["embeddings"]}
    assert sets["pictures"]["tensorShape"] == [PICTURES, FILTERS]
    assert sets["filters"]["tensorShape"] == [FILTERS, 4 * 4 * 3]
    route = f"{board}/data/plugin/projector"
    points = np.frombuffer(fetch(f"{route}/tensor?run=run&name=pictures"), "float32")
    assert points.size == PICTURES * FILTERS
    lines = fetch(f"{route}/metadata?run=run&name=pictures").decode().strip().split("\n")
    assert len(lines) == PICTURES + 1
    assert {line.split("\t")[0] for line in lines[1:]} == {"red", "green grass", "blue sky"}
    with Image.open(io.BytesIO(fetch(f"{route}/sprite_image?run=run&name=pictures"))) as sprites:
        assert sprites.size == (8 * 16, 8 * 16)


# ---- the browser ----


class Browser:
    """The few words of the WebDriver protocol (W3C) that are needed here."""

    def __init__(self, driver):
        options = [
            "--headless",
            "--no-sandbox",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--use-gl=angle",
            "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader",
            "--window-size=1400,900",
        ]
        wanted = {"goog:chromeOptions": {"binary": CHROMIUM, "args": options}}
        body = {"capabilities": {"alwaysMatch": wanted}}
        self.address = f"{driver}/session"
        value = json.loads(fetch(self.address, body))["value"]
        self.address += "/" + value["sessionId"]

    def open(self, url):
        fetch(f"{self.address}/url", {"url": url})

    def run(self, script, *arguments):
        body = {"script": script, "args": arguments}
        return json.loads(fetch(f"{self.address}/execute/sync", body))["value"]

    def picture(self):
        png = json.loads(fetch(f"{self.address}/screenshot"))["value"]
        return Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")

    def close(self):
        fetch(self.address, method="DELETE")


# Everything on the page, through frames and shadow roots, which TensorBoard uses both of.
EVERYTHING = """
const all = [];
const walk = (root) => {
  for (const e of root.querySelectorAll('*')) {
    all.push(e);
    if (e.shadowRoot) walk(e.shadowRoot);
    if (e.tagName === 'IFRAME' && e.contentDocument) walk(e.contentDocument);
  }
};
walk(document);
"""
TEXT = (
    EVERYTHING
    + "return all.filter(e => !['STYLE', 'SCRIPT'].includes(e.tagName)).map(e => "
    + "[...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join(' '))"
    + ".filter(t => t).join('\\n');"
)
LOADED = (
    EVERYTHING
    + "return all.filter(e => e.tagName === 'IMG' && e.complete && e.naturalWidth > 0)"
    + ".map(e => [e.src, e.naturalWidth, e.naturalHeight]);"
)

SLIDERS = (
    EVERYTHING
    + "return all.filter(e => e.tagName === 'PAPER-SLIDER')"
    + ".map(e => [Number(e.max), Number(e.value)]);"
)


@pytest.fixture(scope="module")
def browser():
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs Debian's packages chromium and chromium-driver, which are absent here")
    with serving(DRIVER, "--port") as address:
        wait_for(lambda: fetch(f"{address}/status"), "the driver")
        page = Browser(address)
        try:
            yield page
        finally:
            page.close()


def test_the_images_tab_shows_the_projections(board, browser):
    browser.open(f"{board}/#images&tagFilter=patch_projections")
    wait_for(lambda: SHEET in [tuple(image[1:]) for image in browser.run(LOADED)], "the picture")
    assert "patch_projections" in browser.run(TEXT)
    # The slider over the steps has a place for every epoch, and the last is shown.
    sliders = browser.run(SLIDERS)
    assert [EPOCHS - 1, EPOCHS - 1] in sliders, sliders
    picture = browser.picture()
    assert picture.size[0] == 1400
    # Noise and learned filters alike are many greys and colours, a blank page is not.
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 200


def test_the_projector_tab_shows_points_with_sprites(board, browser):
    browser.open(f"{board}/#projector")
    text = wait_for(
        lambda: (t := browser.run(TEXT)) and re.search(rf"Points:\s*{PICTURES}", t) and t,
        "the points",
    )
    assert re.search(rf"Dimension:\s*{FILTERS}", text)
    assert "pictures" in text

    def colours():
        """Strong red, green and blue pixels in the middle, where only the sprites are coloured."""
        pixels = np.asarray(browser.picture(), int)[150:, 320:1095]
        counts = []
        for k in range(3):
            others = np.delete(pixels, k, -1).max(-1)
            counts.append(int((pixels[..., k] - others > 60).sum()))
        return counts if min(counts) > 50 else None

    wait_for(colours, "the sprites")
