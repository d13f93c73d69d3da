import csv
import os
import resource
import shutil
import signal
import sys
import time
import types

import keras
import numpy as np
import pytest
from helpers import events, snapshots
from PIL import Image

import callbacks
import mixer_tf
from callbacks import layers, writer
from callbacks.embedding_projector import clean
from mixer_tf import figures, stack

NAMES = ["a\tb", "two\nlines", "ünï\r\n\x00", "", "$x_{$"]  # matplotlib would set the last
DRAWS = np.random.default_rng(0)
IMAGES = DRAWS.integers(0, 256, (40, 8, 12, 3), dtype="uint8")
LABELS = DRAWS.integers(0, 5, 40)


def tiny_mixer(patch=(4, 4), channels=3, blocks=2):
    config = mixer_tf.MixerConfig(blocks, 8, 6, 8, patch)
    model = mixer_tf.build(config, input_shape=(8, 12, channels), num_classes=5)
    return compiled(model)


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-2), loss, jit_compile=False)
    return model


def everything(folder, names=NAMES):
    return [
        callbacks.PatchProjections(folder),
        callbacks.TokenMixing(folder, blocks=[0, 1]),
        callbacks.EmbeddingProjector(folder, IMAGES, LABELS, names, most=30),
        callbacks.Throughput(folder, 8),
        callbacks.Curves(folder),
        callbacks.Confusion(folder, IMAGES, LABELS, names),
    ]


def fit(model, shown, epochs=3, images=IMAGES, **options):
    images = images.astype("float32")
    return model.fit(
        images, LABELS, batch_size=8, epochs=epochs, verbose=0, callbacks=shown, **options
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model = tiny_mixer()
    fit(model, everything(folder))
    return folder, model


# ---- event files ----


def test_each_image_has_its_tag_steps_and_size(trained):
    found = events(trained[0])
    # 8 filters of 4 x 4 pixels, 8 times larger, 2 pixels between: 3 columns, 3 rows
    assert found["patch_projections"] == dict.fromkeys(range(3), (3 * 34 - 2, 3 * 34 - 2))
    for block in (0, 1):
        sizes = found[f"token_mixing/block_{block}"]
        assert list(sizes) == [0, 1, 2]
        assert len(set(sizes.values())) == 1
    assert found["confusion"] == {2: (760, 700)}
    assert list(found["mistakes"]) == [2]
    assert len(list(trained[0].glob("*tfevents*"))) == 1  # not one a callback and epoch


def test_scalars_are_there_for_each_epoch(trained):
    found = events(trained[0])
    for tag in (
        "throughput/images_per_second",
        "throughput/step_milliseconds",
        "memory/process_MiB",
        "learning_rate",
    ):
        assert list(found[tag]) == [0, 1, 2], tag
        assert min(found[tag].values()) > 0
    assert found["learning_rate"][0] == pytest.approx(1e-2)
    kernel = trained[1].get_layer("block_1").token_mixing.dense_0.get_weights()[0]
    units = kernel.T / np.linalg.norm(kernel.T, axis=1, keepdims=True)
    mean = found["token_mixing/block_1/mean_cosine"][2]
    assert (units @ units.T).min() <= mean < 1
    assert "token_mixing/block_1/mean_cosine_untrained" in found


def test_the_sheet_shows_the_weights(trained, tmp_path):
    """The last picture, read back, is the kernel that the model ended with."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, model = trained
    reader = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    png = reader.Tensors("patch_projections")[-1].tensor_proto.string_val[2]
    (tmp_path / "sheet.png").write_bytes(png)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png")).astype("float64") / 255
    kernel = model.get_layer("stem").get_weights()[0]
    with np.load(folder / "patch_projections.npz", allow_pickle=False) as file:
        fifth = kernel[..., file["order"][4]]  # second row, second column
    cut = sheet[34 : 34 + 32 : 8, 34 : 34 + 32 : 8]
    assert np.allclose(cut, 0.5 + 0.5 * fifth / np.abs(fifth).max(), atol=0.5 / 255 + 1e-6)


def test_written_numbers_and_pictures_come_back(tmp_path):
    picture = DRAWS.integers(0, 256, (5, 7, 3), dtype="uint8")
    writer.write_image(tmp_path, "picture", picture, 3, "how to read it")
    writer.write_scalars(tmp_path, {"a": 1.5, "b/c": -2}, 4)
    writer.write_image(tmp_path, "picture", picture / 255, 9)
    assert events(tmp_path) == {"picture": {3: (7, 5), 9: (7, 5)}, "a": {4: 1.5}, "b/c": {4: -2}}
    (path,) = tmp_path.glob("*tfevents*")
    path.unlink()
    writer.write_scalars(tmp_path, {"a": 1}, 0)  # the folder was emptied: a new file, complete
    assert events(tmp_path) == {"a": {0: 1}}


def test_a_failed_write_leaves_no_half_record(tmp_path):
    writer.write_scalars(tmp_path, {"a": 1}, 0)
    before = next(tmp_path.glob("*tfevents*")).stat().st_size

    # A real limit, within the next record: the system takes a part of it, and no more after that.
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before + 10, limit[1]))
    try:
        for step in (1, 2):
            with pytest.raises(OSError, match="No space left"):
                writer.write_scalars(tmp_path, {"a": 2}, step)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert next(tmp_path.glob("*tfevents*")).stat().st_size == before
    writer.write_scalars(tmp_path, {"a": 3}, 2)
    assert events(tmp_path) == {"a": {0: 1, 2: 3}}


def open_files(folder):
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:  # the descriptor of the listing itself
            continue
    return [path for path in found if path.startswith(str(folder))]


class Raises(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise RuntimeError("stop here")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system lists no open files")
def test_nothing_stays_open_where_fit_raises(tmp_path):
    with open(tmp_path / "control", "w"):
        assert open_files(tmp_path) == [str(tmp_path / "control")]  # this would be seen
    model = tiny_mixer()
    with pytest.raises(RuntimeError, match="stop here"):
        fit(model, [*everything(tmp_path), Raises()])
    assert open_files(tmp_path) == []
    assert list(events(tmp_path)["patch_projections"]) == [0, 1]
    fit(model, everything(tmp_path))  # and the same folder serves again
    assert open_files(tmp_path) == []
    assert not list(tmp_path.glob("**/.writing-*"))


# ---- the stem's filters ----


def test_snapshots_hold_every_epoch_in_a_fixed_order(trained):
    folder, model = trained
    order, epochs, kernels = snapshots(folder)
    assert list(epochs) == [0, 1, 2, 3]
    assert kernels.dtype == np.float16
    assert np.allclose(kernels[-1], model.get_layer("stem").get_weights()[0], atol=1e-3)
    assert abs(kernels[-1] - kernels[0]).max() > 1e-3  # or a picture of the start would do
    first = np.moveaxis(kernels[1].astype("float64"), -1, 0)
    frequencies = figures.spatial_frequency(first)[order]
    assert np.all(np.diff(frequencies) > -1e-3)  # sorted as the first epoch left them


def test_order_stays_over_a_resumed_run_and_begins_anew_with_a_new_one(tmp_path):
    model = tiny_mixer()
    shown = [callbacks.PatchProjections(tmp_path)]
    fit(model, shown, epochs=2)
    order = snapshots(tmp_path)[0]
    kernel = model.get_layer("stem").get_weights()
    model.get_layer("stem").set_weights([kernel[0][..., ::-1], kernel[1]])  # would sort otherwise
    fit(model, [callbacks.PatchProjections(tmp_path)], epochs=4, initial_epoch=2)
    again, epochs, _ = snapshots(tmp_path)
    assert list(epochs) == [0, 1, 2, 3, 4]
    assert np.array_equal(order, again)
    fit(tiny_mixer(), [callbacks.PatchProjections(tmp_path)], epochs=1)
    assert list(snapshots(tmp_path)[1]) == [0, 1]
    (tmp_path / "patch_projections.npz").write_bytes(b"damaged")
    fit(tiny_mixer(patch=(2, 2)), [callbacks.PatchProjections(tmp_path)], epochs=1)
    assert snapshots(tmp_path)[2].shape == (2, 2, 2, 3, 8)


def test_snapshots_are_bounded(tmp_path, monkeypatch):
    shown = callbacks.PatchProjections(tmp_path)
    shown.set_model(tiny_mixer())
    shown.on_train_begin()
    shown.on_epoch_begin(0)
    for epoch in range(203):
        shown.on_epoch_end(epoch)
        epochs = snapshots(tmp_path)[1]
        assert min(epoch + 2, 32) <= len(epochs) <= 64
        assert (epochs[0], epochs[-1]) == (0, epoch + 1)
        gaps = np.diff(epochs)  # as wide at the beginning, where filters form, as at the end
        assert len(set(gaps[:-1])) <= 1
        assert gaps[-1] <= gaps[0]
    assert list(epochs) == [*range(0, 201, 4), 203]
    monkeypatch.setattr(callbacks.patch_projections, "_BYTES", 1)
    shown.on_epoch_end(203)
    assert list(snapshots(tmp_path)[1]) == [0, 204]


def test_a_training_in_two_parts_is_one_history(tmp_path):
    """Recompiled in between, as fine-tuning does, its optimizer begins again at zero."""
    model = tiny_mixer()
    fit(model, [callbacks.PatchProjections(tmp_path)], epochs=2)
    before = snapshots(tmp_path)
    fit(compiled(model), [callbacks.PatchProjections(tmp_path)], epochs=4, initial_epoch=2)
    order, epochs, kernels = snapshots(tmp_path)
    assert list(epochs) == [0, 1, 2, 3, 4]
    assert np.array_equal(kernels[:3], before[2])
    assert np.array_equal(order, before[0])


def test_what_came_before_the_callback_is_not_called_the_beginning(tmp_path):
    model = tiny_mixer()
    fit(model, [], epochs=3)
    kernel = model.get_layer("stem").get_weights()[0]
    fit(model, [callbacks.PatchProjections(tmp_path)], epochs=5, initial_epoch=3)
    _, epochs, kernels = snapshots(tmp_path)
    assert list(epochs) == [3, 4, 5]
    np.testing.assert_allclose(kernels[0], kernel, atol=1e-3)


@pytest.mark.parametrize(("patch", "channels"), [((1, 12), 3), ((8, 1), 1), ((2, 4), 5)])
def test_any_patch_and_any_channels(tmp_path, patch, channels):
    images = DRAWS.integers(0, 256, (40, 8, 12, channels), dtype="uint8")
    shown = [
        callbacks.PatchProjections(tmp_path),
        callbacks.TokenMixing(tmp_path),
        callbacks.EmbeddingProjector(tmp_path, images, LABELS, NAMES),
        callbacks.Confusion(tmp_path, images, LABELS, NAMES),
    ]
    fit(tiny_mixer(patch, channels), shown, epochs=1, images=images)
    assert {"patch_projections", "token_mixing/block_0", "confusion"} <= set(events(tmp_path))


# ---- other people's models ----


class Own(keras.Model):
    """A subclassed model with a branched stem."""

    def __init__(self):
        super().__init__()
        self.stem = keras.Sequential(
            [keras.layers.Conv2D(4, 1), keras.layers.Conv2D(6, 3)], name="stem"
        )
        self.flat = keras.layers.Flatten()
        self.head = keras.layers.Dense(5)

    def call(self, x):
        return self.head(self.flat(self.stem(x)))


def test_a_subclassed_model_and_a_model_inside_a_model(tmp_path):
    model = compiled(Own())
    shown = [
        callbacks.PatchProjections(tmp_path),
        callbacks.Confusion(tmp_path, IMAGES, LABELS, NAMES),
    ]
    with pytest.raises(ValueError, match="no weights yet; call the model on one batch before fit"):
        fit(model, shown, epochs=1)
    with pytest.raises(ValueError, match="6 class names, but the model answers with 5"):
        fit(model, [callbacks.Confusion(tmp_path, IMAGES, LABELS, [*NAMES, "more"])], epochs=1)
    with pytest.raises(ValueError, match=r"takes no images of the shape \(4, 12, 3\)"):
        fit(model, [callbacks.Confusion(tmp_path, IMAGES[:, :4], LABELS, NAMES)], epochs=1)
    fit(model, shown, epochs=1)
    assert snapshots(tmp_path)[2].shape[1:] == (3, 3, 4, 6)  # the larger of the two

    inner = tiny_mixer()
    outer = compiled(keras.Sequential([keras.Input((8, 12, 3)), inner]))
    below = f"{inner.name}.block_{{}}.token_mixing.dense_0"
    shown = [
        callbacks.PatchProjections(tmp_path),
        callbacks.TokenMixing(tmp_path),
        callbacks.TokenMixing(tmp_path / "below", layer=below),
    ]
    fit(outer, shown, epochs=1)
    for folder in (tmp_path, tmp_path / "below"):
        assert {"token_mixing/block_0", "token_mixing/block_1"} <= set(events(folder))
    with pytest.raises(ValueError, match="not of a model inside it"):
        fit(outer, [callbacks.EmbeddingProjector(tmp_path, IMAGES, LABELS, NAMES)], epochs=1)


def test_a_convolutional_network(tmp_path):
    inputs = keras.Input((8, 12, 3))
    x = keras.layers.Conv2D(16, 3, name="stem")(inputs)
    x = keras.layers.GlobalAveragePooling2D(name="pre_logits")(x)
    model = compiled(keras.Model(inputs, keras.layers.Dense(5)(x)))
    shown = [c for c in everything(tmp_path) if not isinstance(c, callbacks.TokenMixing)]
    fit(model, shown, epochs=1)
    assert snapshots(tmp_path)[2].shape[1:] == (3, 3, 3, 16)
    assert (tmp_path / "projector" / "filters.tsv").exists()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_every_precision(tmp_path, policy):
    keras.mixed_precision.set_global_policy(policy)
    fit(tiny_mixer(), everything(tmp_path), epochs=1)
    assert len(events(tmp_path)["patch_projections"]) == 1
    assert np.isfinite(np.loadtxt(tmp_path / "projector" / "pictures.tsv")).all()


def test_weights_that_are_not_finite_are_drawn_too(tmp_path):
    model = tiny_mixer()
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    fit(model, everything(tmp_path), epochs=1)
    assert np.isfinite(np.loadtxt(tmp_path / "projector" / "pictures.tsv")).all()


# ---- the Projector ----


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_projector_files_agree_with_each_other(trained):
    from google.protobuf import text_format
    from tensorboard.plugins.projector import ProjectorConfig

    folder, model = trained
    config = ProjectorConfig()
    text_format.Parse((folder / "projector_config.pbtxt").read_text(), config)
    assert [e.tensor_name for e in config.embeddings] == ["pictures", "filters"]
    pictures, filters = config.embeddings

    reading = keras.Model(model.input, model.get_layer("pre_logits").output)
    expected = reading.predict(IMAGES[:30].astype("float32"), verbose=0)
    assert np.allclose(np.loadtxt(folder / pictures.tensor_path), expected, rtol=1e-3, atol=1e-4)

    rows = table(folder / pictures.metadata_path)
    assert rows[0] == ["label", "prediction", "right"]
    said = model.predict(IMAGES[:30].astype("float32"), verbose=0).argmax(-1)
    names = ["a b", "two lines", "ünï", "(no name)", "$x_{$"]
    assert rows[1:] == [
        [names[t], names[s], "right" if t == s else "wrong"] for t, s in zip(LABELS[:30], said)
    ]

    side = pictures.sprite.single_image_dim[0]
    sheet = np.asarray(Image.open(folder / pictures.sprite.image_path))
    assert max(sheet.shape) <= 8192
    columns = sheet.shape[1] // side
    cut = sheet[17 // columns * side :, 17 % columns * side :][:side, :side]
    assert np.array_equal(cut[2:10], IMAGES[17])  # 8 x 12 in the middle of 12 x 12

    kernel = model.get_layer("stem").get_weights()[0]
    flat = np.moveaxis(kernel, -1, 0).reshape(8, -1)
    assert np.allclose(np.loadtxt(folder / filters.tensor_path), flat, rtol=1e-3, atol=1e-5)
    assert len(table(folder / filters.metadata_path)) == 9
    assert list(folder.glob("*tfevents*"))  # without one, TensorBoard passes over the folder


def test_projector_is_written_as_often_as_asked(tmp_path, monkeypatch):
    written, really = [], callbacks.EmbeddingProjector._write
    monkeypatch.setattr(
        callbacks.EmbeddingProjector,
        "_write",
        lambda self, epoch: (really(self, epoch), written.append(epoch)),
    )
    model = tiny_mixer()
    for every, expected in ((None, [4]), (1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (5, [4])):
        written.clear()
        shown = callbacks.EmbeddingProjector(tmp_path, IMAGES, LABELS, NAMES, every=every)
        fit(model, [shown], epochs=5)
        assert written == expected


@pytest.mark.parametrize(
    "name", ["a\tb", "a\nb", "a\r\nb", "a\x0bb", "a\u2028b", "a\x00b", "a\x85b"]
)
def test_no_class_name_breaks_a_table(name):
    assert clean(name) == "a b"


# ---- how fast ----


def test_curves_are_those_of_keras_without_the_steps(tmp_path):
    """Each epoch has what `fit` gives back, and no tag is about a batch."""
    shown = callbacks.Curves(tmp_path)
    held_out = (IMAGES[:8].astype("float32"), LABELS[:8])
    history = fit(tiny_mixer(), [shown], validation_data=held_out).history
    assert [set(events(tmp_path / part)) for part in ("train", "validation")] == [
        {"epoch_loss"}
    ] * 2
    for part, name in (("train", "loss"), ("validation", "val_loss")):
        written = events(tmp_path / part)["epoch_loss"]
        np.testing.assert_allclose([written[e] for e in range(3)], history[name], rtol=1e-6)


def test_curves_of_a_metric_with_a_number_for_each_class(tmp_path):
    model, loss = tiny_mixer(), keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=[keras.metrics.F1Score()], jit_compile=False)
    labels = np.eye(5, dtype="float32")[LABELS]
    shown = [callbacks.Curves(tmp_path)]
    history = model.fit(IMAGES.astype("float32"), labels, verbose=0, callbacks=shown).history
    found = events(tmp_path / "train")
    written = [found[f"epoch_f1_score_{i}"][0] for i in range(5)]
    np.testing.assert_allclose(written, history["f1_score"][0], rtol=1e-6)


def test_throughput_counts_what_the_clock_says(tmp_path, monkeypatch):
    now = iter([5.0, 10.0, 10.5, 11.0, 13.0])  # beginnings of five steps, the first compiles
    clock = types.SimpleNamespace(perf_counter=lambda: next(now))
    monkeypatch.setattr("callbacks.throughput.time", clock)
    shown = callbacks.Throughput(tmp_path, batch_size=100)
    model = tiny_mixer()
    model.optimizer.learning_rate = 0.25
    shown.set_model(model)
    shown.on_train_begin()
    shown.on_epoch_begin(0)
    for step in (0, 2, 4, 6, 8):  # two steps a call
        shown.on_train_batch_begin(step)
    shown.on_epoch_end(0)
    found = {tag: steps[0] for tag, steps in events(tmp_path).items()}
    assert found["throughput/images_per_second"] == pytest.approx(6 * 100 / 3)
    assert found["throughput/step_milliseconds"] == pytest.approx(250)
    assert found["learning_rate"] == pytest.approx(0.25)
    assert 50 < found["memory/process_MiB"] < 50_000


@pytest.mark.skipif(not stack.KERAS_3, reason="Keras 2.15 tells the rate of the step before")
def test_learning_rate_follows_a_schedule(tmp_path):
    model = tiny_mixer()
    schedule = keras.optimizers.schedules.PolynomialDecay(0.5, 10, end_learning_rate=0.0)
    model.compile(keras.optimizers.SGD(schedule), "mse", jit_compile=False)
    model.fit(
        IMAGES.astype("float32"),
        np.eye(5)[LABELS],
        batch_size=8,
        epochs=2,
        verbose=0,
        callbacks=[callbacks.Throughput(tmp_path, 8)],
    )
    rates = events(tmp_path)["learning_rate"]
    assert rates[0] == pytest.approx(0.25)
    assert rates[1] == pytest.approx(0.0)


def test_a_step_costs_next_to_nothing(tmp_path):
    shown = everything(tmp_path)
    for callback in shown:
        callback.set_model(tiny_mixer())
        callback.on_train_begin()
        callback.on_epoch_begin(0)
    start = time.thread_time()  # others compute at the same time
    for step in range(1000):
        for callback in shown:
            callback.on_train_batch_begin(step)
            callback.on_train_batch_end(step)
    assert (time.thread_time() - start) / 1000 < 1e-4  # a step of mixer_nano takes 0.3 seconds


# ---- what is refused before training ----


def refused(model, shown, match):
    before = model.get_weights()
    with pytest.raises(ValueError, match=match):
        fit(model, [shown], epochs=1)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))


def test_a_missing_layer_is_named_with_those_there_are(tmp_path):
    model = tiny_mixer()
    there_are = "no layer 'trunk'; its layers are: images, rescale, stem, tokens, block_0"
    refused(model, callbacks.PatchProjections(tmp_path, layer="trunk"), there_are)
    refused(model, callbacks.PatchProjections(tmp_path, layer="head"), r"'head' is no convolution")
    refused(model, callbacks.TokenMixing(tmp_path, blocks=[7]), "no layer 'block_7'")
    refused(
        model, callbacks.TokenMixing(tmp_path, layer="block_{}.mlp"), "no part 'mlp'; its parts"
    )
    refused(model, callbacks.TokenMixing(tmp_path, layer="stem"), "'stem' is no Dense layer")
    projector = callbacks.EmbeddingProjector(tmp_path, IMAGES, LABELS, NAMES, layer="trunk")
    refused(model, projector, "no layer 'trunk'")
    projector = callbacks.EmbeddingProjector(tmp_path, IMAGES, LABELS, NAMES, layer="tokens")
    refused(model, projector, "needs one row of numbers")
    assert not events(tmp_path)


def test_tokens_need_a_grid(tmp_path):
    inputs = keras.Input((6, 4))
    dense = keras.layers.Dense(6, name="dense_0")(keras.layers.Permute((2, 1))(inputs))
    model = keras.Model(inputs, keras.layers.Dense(5)(keras.layers.Flatten()(dense)))
    compiled(model)
    images = DRAWS.random((40, 6, 4))
    with pytest.raises(ValueError, match="mixes 6 tokens, which are no square; give grid"):
        fit(model, [callbacks.TokenMixing(tmp_path, [0], layer="dense_0")], 1, images)
    with pytest.raises(ValueError, match="6 tokens, which are no grid of 2 x 4"):
        fit(model, [callbacks.TokenMixing(tmp_path, [0], layer="dense_0", grid=(2, 4))], 1, images)
    fit(model, [callbacks.TokenMixing(tmp_path, layer="dense_0", grid=(2, 3))], 1, images)
    drawn = {tag for tag in events(tmp_path) if tag.startswith("token_mixing")}
    names = ("block_0", "block_0/mean_cosine", "block_0/mean_cosine_untrained")
    assert drawn == {f"token_mixing/{name}" for name in names}  # one layer is one block


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    model = tiny_mixer()
    for shown in everything(tmp_path / "file" / "run"):
        refused(model, shown, "log_dir is .*cannot be written")


def test_pictures_are_drawn_in_whatever_range_the_model_takes_them():
    whole = np.array([[0, 51, 255]], "uint8")
    np.testing.assert_array_equal(layers.drawable(whole), whole)
    np.testing.assert_array_equal(layers.drawable(whole.astype("float32")), whole)
    np.testing.assert_array_equal(layers.drawable(whole / 255), whole)
    np.testing.assert_array_equal(layers.drawable(whole / 127.5 - 1), whole)
    np.testing.assert_array_equal(layers.drawable(whole // 255), whole // 255)  # nearly black
    np.testing.assert_array_equal(layers.drawable(np.array([-1.0, -1.0])), [0, 0])
    resized = np.array([0, 0.2, 1.000001])  # with antialiasing: a little above 1
    np.testing.assert_array_equal(layers.drawable(resized), whole[0])


def test_answers_as_probabilities():
    softmax = np.array([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(layers.probabilities(softmax), softmax)
    sigmoid = np.array([[0.9, 0.3, 0.3], [0.2, 0.2, 0.4]])
    expected = [[0.6, 0.2, 0.2], [0.25, 0.25, 0.5]]
    np.testing.assert_allclose(layers.probabilities(sigmoid), expected)
    rounded = [[1.000001, 0.0, 0.0], [0.0, 0.0, 0.0], [0.7, 0.2, 0.1]]  # of float16
    third = [1 / 3] * 3  # of nothing but zeros, a sigmoid's or a fresh head's
    np.testing.assert_allclose(layers.probabilities(rounded), [[1, 0, 0], third, softmax[0]], 1e-5)
    logits = np.log(softmax[:1]) + 5
    np.testing.assert_allclose(layers.probabilities(logits), softmax[:1])


@pytest.mark.parametrize("meant", [2, [64, 128]])
def test_a_single_answer_and_a_depth_or_widths_called_layers(tmp_path, meant):
    class Deep(keras.layers.Layer):
        layers = meant

        def call(self, x):
            return x

    images = keras.Input((8, 12, 3))
    stem = keras.layers.Conv2D(4, 4, name="inner")(Deep()(images))
    pooled = keras.layers.GlobalAveragePooling2D()(stem)
    model = keras.Model(images, keras.layers.Dense(1, "sigmoid")(pooled))
    assert not layers.has_layer(model, "stem")
    model.compile("sgd", "mse")
    one = callbacks.Confusion(tmp_path, IMAGES, LABELS * 0, NAMES[:1])
    refused(model, one, "answers with a single number")


def test_pictures_labels_and_names_must_fit(tmp_path):
    model = tiny_mixer()
    for kind in (callbacks.Confusion, callbacks.EmbeddingProjector):
        refused(model, kind(tmp_path, IMAGES, LABELS[:-1], NAMES), r"labels \(39,\)")
        refused(model, kind(tmp_path, IMAGES[:, :4], LABELS, NAMES), "the model takes")
        refused(model, kind(tmp_path, IMAGES, LABELS, NAMES[:3]), "labels go from 0 to 4")
        refused(model, kind(tmp_path, IMAGES, LABELS, [*NAMES, "more"]), "6 class names")
        refused(model, kind(tmp_path, IMAGES[:0], LABELS[:0], NAMES), "N at least 1")
        refused(model, kind(tmp_path, IMAGES, LABELS + 0.0, NAMES), "labels are float64")


def models_of_several():
    """Two inputs, two outputs, three, outputs by name; an answer for each pixel."""
    pictures, table = keras.Input((8, 12, 3)), keras.Input((4,))
    flat = keras.layers.Flatten(name="flat")(pictures)
    heads = [keras.layers.Dense(5)(flat) for _ in range(3)]
    both = keras.layers.Concatenate()([flat, table])
    yield keras.Model([pictures, table], keras.layers.Dense(5)(both)), "several inputs or outputs"
    yield keras.Model(pictures, heads[:2]), "several inputs or outputs"
    yield keras.Model(pictures, heads), "several inputs or outputs"
    yield keras.Model(pictures, {"a": heads[0], "b": heads[1]}), "several inputs or outputs"
    pixels = keras.layers.Conv2D(5, 1)(pictures)
    yield keras.Model(pictures, pixels), r"the shape \(None, 8, 12, 5\); it must be \[N, 5\]"


def test_what_no_picture_alone_is_given_to_is_refused_at_the_start(tmp_path):
    for model, words in models_of_several():
        shown = callbacks.Confusion(tmp_path, IMAGES, LABELS, NAMES)
        shown.set_model(model)
        with pytest.raises(ValueError, match=words):
            shown.on_train_begin()


def test_numbers_out_of_range_are_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="most is 100001"):
        callbacks.EmbeddingProjector(tmp_path, IMAGES, LABELS, NAMES, most=100_001)
    with pytest.raises(ValueError, match="every is 0"):
        callbacks.EmbeddingProjector(tmp_path, IMAGES, LABELS, NAMES, every=0)
    with pytest.raises(ValueError, match="every is 0"):
        callbacks.TokenMixing(tmp_path, every=0)
    with pytest.raises(ValueError, match="batch_size is 0"):
        callbacks.Throughput(tmp_path, 0)


# ---- mistakes ----


def test_confusion_draws_what_the_model_says(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(figures, "confusion", lambda *given: drawn.update(confusion=given))
    monkeypatch.setattr(figures, "mistakes", lambda *given: drawn.update(mistakes=given))
    monkeypatch.setattr(figures, "to_image", lambda figure: np.zeros((2, 2, 3)))
    model = tiny_mixer()
    fit(model, [callbacks.Confusion(tmp_path, IMAGES, LABELS, "abcde")], epochs=1)

    logits = model.predict(IMAGES.astype("float32"), verbose=0)
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    labels, said, names = drawn["confusion"]
    assert np.array_equal(labels, LABELS)
    assert np.array_equal(said, logits.argmax(-1))
    assert names == list("abcde")
    images, labels, found, names = drawn["mistakes"]
    assert np.array_equal(images, IMAGES)
    assert np.array_equal(labels, LABELS)
    np.testing.assert_allclose(found, chances, atol=1e-5)
    assert names == list("abcde")


def test_throughput_without_what_windows_lacks(tmp_path, monkeypatch):
    """No module `resource`, no /proc: the memory is left out, the rest is written."""
    monkeypatch.setitem(sys.modules, "resource", None)  # as if it could not be imported

    there = os.path.exists
    monkeypatch.setattr("pathlib.Path.exists", lambda p: "proc" not in p.parts and there(p))
    written = callbacks.Throughput(tmp_path, 8)
    written.set_model(tiny_mixer())
    written.on_epoch_begin(0)
    written.on_epoch_end(0)
    assert set(events(tmp_path)) == {"learning_rate"}


def test_token_mixing_is_drawn_every_so_often_and_at_the_end(tmp_path):
    drawn = callbacks.TokenMixing(tmp_path, every=2)
    config = mixer_tf.MixerConfig(1, 8, 6, 8, (4, 4))
    drawn.set_model(mixer_tf.build(config, (8, 12, 3), 5))
    drawn.on_train_begin()
    for epoch in range(5):
        drawn.on_epoch_end(epoch)
    drawn.on_train_end()
    assert list(events(tmp_path)["token_mixing/block_0"]) == [1, 3, 4]
    drawn.on_train_begin()
    drawn.on_epoch_end(5)
    drawn.on_train_begin()  # a training that is resumed where it had ended has no epoch
    drawn.on_train_end()
    assert list(events(tmp_path)["token_mixing/block_0"]) == [1, 3, 4, 5]


def test_a_log_folder_that_is_deleted_meanwhile_is_made_again(tmp_path):
    model = tiny_mixer()
    shown = everything(tmp_path / "run")
    for callback in shown:
        callback.set_model(model)
        callback.on_train_begin()
    for epoch in range(2):
        shutil.rmtree(tmp_path / "run")
        for callback in shown:
            callback.on_epoch_begin(epoch)
            callback.on_epoch_end(epoch, {"loss": 1.0})
    shutil.rmtree(tmp_path / "run")
    for callback in shown:
        callback.on_train_end()
    assert (tmp_path / "run" / "projector" / "pictures.tsv").exists()
