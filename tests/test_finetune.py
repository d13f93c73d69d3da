import dataclasses
import functools
import hashlib
import http.server
import os
import re
import threading

import keras
import numpy as np
import pytest
import reference_mixer
from helpers import run_python

import mixer_tf
from mixer_tf import cli, shipped
from mixer_tf.exchange import pretrained
from mixer_tf.recipe import Recipe
from mixer_tf.recipes import RECIPES
from mixer_tf.resizing import resize
from mixer_tf.run_config import RunConfig
from mixer_tf.runs import Run
from mixer_tf.stages import config_of
from mixer_tf.train import resume, train
from mixer_tf.training import finetune, starting_weights
from mixer_tf.training.optimizers import make_optimizer, make_schedule, with_rates
from mixer_tf.training.recompute import recompute_blocks
from mixer_tf.variants import VARIANTS

CONFIG = mixer_tf.MixerConfig(2, 16, 8, 32, (4, 4))
PLAIN = Recipe(epochs=2, batch_size=32, warmup_epochs=0, weight_decay=0.0, label_smoothing=0.0)


def build(classes=3, size=(8, 8, 3), **changes):
    keras.utils.set_random_seed(0)
    return mixer_tf.build(dataclasses.replace(CONFIG, **changes), size, classes)


def batch(count=16, size=(8, 8, 3)):
    draws = np.random.default_rng(0)
    labels = np.eye(3, dtype="float32")[draws.integers(0, 3, count)]
    return draws.uniform(0, 255, (count, *size)).astype("float32"), labels


def weights(model):
    return [np.asarray(v).copy() for v in model.trainable_variables]


def step(model, optimizer, images, labels, parts=1):
    """Train one update, in parts; give the weights before and after."""
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=False)
    model.optimizer.build(model.trainable_variables)  # or the first step is traced twice
    before = weights(model)
    for i in range(parts):
        model.train_on_batch(images[i::parts], labels[i::parts])
    return before, weights(model)


def test_googles_recipe():
    recipe = RECIPES["finetune"]
    assert (recipe.steps, recipe.warmup_steps, recipe.batch_size) == (10_000, 500, 512)
    assert (recipe.optimizer, recipe.learning_rate, recipe.clip_norm) == ("sgd", 0.03, 1.0)
    assert recipe.weight_decay == recipe.final_learning_rate == 0
    recipe = recipe.in_epochs(45_000)
    assert (recipe.epochs, recipe.steps, recipe.warmup_steps) == (115, 0, 0)  # 87 updates each
    schedule = make_schedule(recipe, 87)
    assert float(schedule(0)) == 0
    assert float(schedule(250)) == pytest.approx(0.015, rel=0.01)
    assert float(schedule(500)) == pytest.approx(0.03, rel=1e-3)
    assert float(schedule(10_005)) == pytest.approx(0, abs=1e-6)
    assert make_optimizer(recipe, 87).momentum == 0.9
    short = dataclasses.replace(RECIPES["finetune"], steps=0, epochs=2).in_epochs(45_000)
    assert (short.epochs, short.warmup_epochs) == (2, 0.2)  # the warm-up never fills the run


def test_recipes_that_cannot_be():
    for wrong in (
        {"accumulate": 0},
        {"accumulate": 3, "batch_size": 32},
        {"freeze": "head"},
        {"layer_decay": 0.0},
        {"layer_decay": 1.1},
        {"steps": -1},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Recipe(**wrong)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_accumulated_parts_are_one_batch(kind):
    images, labels = batch()
    recipe = dataclasses.replace(PLAIN, optimizer=kind, batch_size=16, schedule="constant")
    _, whole = step(build(), make_optimizer(recipe, 4), images, labels)
    recipe = dataclasses.replace(recipe, accumulate=4)
    assert recipe.part_size == 4
    before, parts = step(build(), make_optimizer(recipe, 16), images, labels, parts=4)
    for a, b, start in zip(whole, parts, before):
        assert np.allclose(a, b, atol=2e-5)
        assert not np.array_equal(b, start)


def test_accumulation_counts_updates_for_the_schedule():
    variable = keras.Variable([1.0])
    rates = {}
    for parts in (1, 4):
        recipe = dataclasses.replace(PLAIN, epochs=4, warmup_epochs=1, accumulate=parts)
        optimizer = make_optimizer(recipe, steps_per_epoch=10 * parts)
        optimizer.build([variable])
        rates[parts] = []
        for _ in range(40):
            for _ in range(parts):
                optimizer.apply([keras.ops.ones(1)], [variable])
            rates[parts].append(float(optimizer.learning_rate))
    assert np.allclose(rates[1], rates[4], rtol=0.01, atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="on JAX they go together")
def test_recomputed_blocks_do_not_know_what_sam_has_moved(tmp_path, tiny_data):
    """They would get no gradient, and stay as they began."""
    recipe = dataclasses.replace(PLAIN, epochs=1, batch_size=16, sam=0.05, recompute=True)
    with pytest.raises(ValueError, match="leave out sam or recompute, or use JAX"):
        train(CONFIG, tiny_data, recipe, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("parts", [1, 4])
def test_averaged_weights_forget_by_updates_not_by_parts(parts):
    """A weight falls from 1 to 0; ten updates later its average is about 0.9^11."""
    variable = keras.Variable([1.0])
    plain = {"optimizer": "sgd", "schedule": "constant", "learning_rate": 1.0, "warmup_epochs": 0}
    recipe = dataclasses.replace(PLAIN, **plain, clip_norm=0, accumulate=parts, ema=0.9)
    optimizer = make_optimizer(recipe, 40)
    optimizer.momentum = 0.0
    optimizer.build([variable])
    for gradient in [0.0, 0.0, 1.0, *[0.0] * 10]:
        for _ in range(parts):
            optimizer.apply([keras.ops.full((1,), gradient)], [variable])
    assert float(variable[0]) == 0
    (average,) = optimizer._model_variables_moving_average
    assert float(average[0]) == pytest.approx(0.9**11, rel=0.1)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_layer_rates_scale_the_update_itself(kind):
    images, labels = batch()
    model = build()
    rates = finetune.layer_rates(model, 0.5)
    assert sorted(set(rates)) == [0.125, 0.25, 0.5, 1.0]  # stem, block 0, block 1, norm and head
    recipe = dataclasses.replace(
        PLAIN, optimizer=kind, learning_rate=0.01, schedule="constant", weight_decay=0.1
    )
    _, even = step(build(), make_optimizer(recipe, 4), images, labels)
    optimizer = make_optimizer(recipe, 4, model.trainable_variables, rates)
    before, scaled = step(model, optimizer, images, labels)
    for start, a, b, rate, v in zip(before, even, scaled, rates, model.trainable_variables):
        # the first update of both is linear in the learning rate, but for the product of decay
        # and update, which Keras does not form either
        assert np.allclose(b - start, rate * (a - start), atol=3e-7), v.path


def test_adamw_with_rates_equals_the_closed_form():
    keras.utils.set_random_seed(0)
    start, gradient = np.array([1.0, -2.0], "float32"), np.array([0.3, -4.0], "float32")
    variable = keras.Variable(start)
    kind = with_rates(keras.optimizers.AdamW, [0.25], [0.1])
    optimizer = kind(learning_rate=0.01, weight_decay=0.0)
    optimizer.build([variable])
    optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    rate = 0.01 * 0.25
    # at the first step both moments, corrected, are the gradient and its square
    expected = start - rate * 0.1 * start - rate * gradient / (np.abs(gradient) + 1e-7)
    assert np.allclose(np.asarray(variable), expected, atol=1e-7)
    with pytest.raises(ValueError, match="1 variables and is to train 2"):
        kind(weight_decay=0.0).build([keras.Variable([1.0]), keras.Variable([1.0])])


@pytest.mark.parametrize(("upto", "fixed"), [("stem", ["stem"]), ("blocks", ["stem", "block"])])
def test_frozen_layers_stay(upto, fixed):
    model = build(stem_norm=True)
    finetune.freeze(model, upto)
    held = {v.path: np.asarray(v).copy() for v in model.weights}
    images, labels = batch()
    optimizer = make_optimizer(
        PLAIN, 4, model.trainable_variables, finetune.layer_rates(model, 0.5)
    )
    step(model, optimizer, images, labels)
    for variable in model.weights:
        stays = variable.path.split("/")[0].split("_")[0] in fixed
        assert np.array_equal(np.asarray(variable), held[variable.path]) == stays, variable.path


def test_freezing_what_is_no_mixer():
    with pytest.raises(ValueError, match="no Mixer"):
        finetune.freeze(mixer_tf.build("resnet20"), "stem")
    with pytest.raises(ValueError, match="part to freeze"):
        finetune.freeze(build(), "head")


@pytest.mark.parametrize("jit", [True, False])
def test_recomputed_blocks_learn_the_same(jit):
    images, labels = batch()
    results = []
    for recomputed in (False, True):
        model = build()
        if recomputed:
            recompute_blocks(model)
        model.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.CategoricalCrossentropy(from_logits=True),
            jit_compile=jit,
        )
        losses = [model.train_on_batch(images, labels) for _ in range(3)]
        results.append([*losses, *weights(model)])
    for a, b in zip(*results):
        assert np.allclose(a, b, atol=1e-5)


def test_recomputing_under_dropout_is_refused():
    for changes in ({"dropout": 0.1}, {"stochastic_depth": 0.1}):
        with pytest.raises(ValueError, match="dropout"):
            recompute_blocks(build(**changes))


def test_recomputing_lowers_the_peak_of_memory():
    if keras.backend.backend() != "tensorflow" or not os.path.exists("/proc/self/status"):
        pytest.skip("measured with TensorFlow on Linux")
    program = (
        "import numpy as np, mixer_tf\n"
        "from helpers import peak\n"
        "from mixer_tf.training.recompute import recompute_blocks\n"
        "x, y = np.zeros((256, 32, 32, 3), 'float32'), np.zeros((256, 3), 'float32')\n"
        "for recomputed in (True, False):\n"  # the larger peak last: the kernel keeps the highest
        "    model = mixer_tf.build(mixer_tf.MixerConfig(6, 64, 32, 256, (4, 4)), (32, 32, 3), 3)\n"
        "    if recomputed: recompute_blocks(model)\n"
        "    model.compile('sgd', 'mse', jit_compile=False)\n"
        "    model.train_on_batch(x[:2], y[:2])\n"
        "    if recomputed: before = peak()\n"
        "    model.train_on_batch(x, y)\n"
        "    print(peak() - before)\n"
    )
    recomputed, kept = map(int, run_python(program).stdout.split()[-2:])
    assert recomputed < 0.5 * kept


@pytest.fixture
def google(tmp_path):
    """A Google file for `CONFIG` at 8x8 pixels, 7 classes."""
    path = tmp_path / "google.npz"
    np.savez(path, **reference_mixer.random_weights(2, 16, 4, 8, 32, (4, 4), 7))
    return path


def test_starting_from_a_file_sets_the_head_to_zero(google):
    model = build(classes=3)
    starting_weights.load(model, google)
    assert not np.asarray(model(batch()[0])).any()
    full = mixer_tf.load_npz(build(classes=7), google)
    assert np.array_equal(
        model.get_layer("block_1").get_weights()[3], full.get_layer("block_1").get_weights()[3]
    )


@pytest.mark.parametrize("size", [(16, 16, 3), (16, 8, 3), (12, 20, 3)])
def test_starting_at_another_picture_size(google, size):
    config = starting_weights.adapted(CONFIG, size, google)
    model = mixer_tf.build(config, size, 3)
    starting_weights.load(model, google)
    expected = resize(mixer_tf.load_npz(build(classes=7), google), size)
    for name in ("stem", "block_0", "block_1", "pre_head_layer_norm"):
        for a, b in zip(
            model.get_layer(name).get_weights(), expected.get_layer(name).get_weights()
        ):
            assert np.array_equal(a, b)
    assert config_of(model) == config_of(expected)


def test_a_run_at_a_larger_size_begins_another_of_that_size(tmp_path, google):
    large = (16, 16, 3)
    config = starting_weights.adapted(CONFIG, large, google)
    model = mixer_tf.build(config, large, 7)
    starting_weights.load(model, google)
    mixer_tf.save_npz(model, tmp_path / "large.npz")
    assert starting_weights.adapted(CONFIG, large, tmp_path / "large.npz") == config
    assert starting_weights.adapted(CONFIG, (8, 8, 3), google) == CONFIG


def test_sources_that_are_none(tmp_path, google):
    with pytest.raises(ValueError, match="nothing to begin with"):
        starting_weights.open_source(tmp_path / "weights.bin")
    with pytest.raises(ValueError, match="mixer_b16_in21k"):
        starting_weights.open_source("mixer_b16_in22k")
    with pytest.raises(ValueError, match="holds no run"):
        starting_weights.open_source(tmp_path)
    with pytest.raises(ValueError, match="resnet20 is no Mixer and begins with .* of a run of its"):
        starting_weights.adapted("resnet20", (32, 32, 3), google)
    nano = shipped.FOLDER / "mixer_nano_7-cifar10"
    with pytest.raises(ValueError, match="holds mixer_nano_7, not resnet20; give --model mixer_n"):
        starting_weights.adapted("resnet20", (32, 32, 3), nano)
    np.savez(tmp_path / "w.npz", **reference_mixer.random_weights(1, 8, 6, 4, 8, (4, 4), 2))
    with pytest.raises(ValueError, match="6 tokens"):
        starting_weights.adapted(CONFIG, (8, 8, 3), tmp_path / "w.npz")
    for shape in ((8,), (0, 8), (8, 0)):  # of a file that somebody else has made
        np.savez(tmp_path / "odd.npz", **{starting_weights._TOKENS: np.zeros(shape, "float32")})
        assert starting_weights.adapted(CONFIG, (8, 8, 3), tmp_path / "odd.npz") == CONFIG
    other = dataclasses.replace(CONFIG, activation="gelu")
    about = ("digits", Recipe(), 0, "float32", "")
    Run.create(tmp_path / "run", RunConfig(other, (8, 8, 3), ("a", "b"), *about))
    with pytest.raises(ValueError, match="trained with activation gelu, the model has gelu_tanh"):
        starting_weights.adapted(CONFIG, (8, 8, 3), tmp_path / "run")


def test_a_run_begins_from_another_and_can_be_resumed(tmp_path, tiny_data, without_xla):
    plain = dataclasses.replace(PLAIN, epochs=1, batch_size=80)
    train(CONFIG, tiny_data, plain, tmp_path / "a", quiet=True)
    recipe = dataclasses.replace(
        plain, accumulate=2, recompute=True, layer_decay=0.8, freeze="stem"
    )
    options = {"pretrained": tmp_path / "a", "quiet": True}
    train(CONFIG, tiny_data, recipe, tmp_path / "b", **options)
    run = Run.open(tmp_path / "b")
    assert run.config().pretrained == str(tmp_path / "a")
    stems = [Run.open(tmp_path / name).model().get_layer("stem").get_weights() for name in "ab"]
    # the source is the best epoch of the run, and what is frozen keeps its weights
    for a, b in zip(*stems):
        assert np.array_equal(a, b)
    # stopped before the first state was written: the weights are loaded again
    for file in (run.state_file, run.result_file, run.best_file):
        file.unlink()
    assert resume(tmp_path / "b", tiny_data, quiet=True)["epochs"] == 1
    assert np.array_equal(
        Run.open(tmp_path / "b").model().get_layer("stem").get_weights()[0], stems[0][0]
    )


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet20", (20, 28, 3)), ("resnet20_v2", (8, 8, 3)), ("repvgg_a0", (8, 8, 3))],
)
def test_a_network_that_is_no_mixer_begins_from_a_run_of_its_own(tmp_path, name, size):
    """Its statistics too; at any picture size, as nothing in it is for one."""
    keras.utils.set_random_seed(1)
    about = (("a", "b", "c", "d"), "digits", PLAIN, 0, "float32", "")
    run = Run.create(tmp_path / "run", RunConfig(name, (16, 16, 3), *about))
    source = mixer_tf.build(name, (16, 16, 3), 4)
    draws = np.random.default_rng(0)
    source.set_weights([draws.uniform(0.1, 1, w.shape) for w in source.get_weights()])
    source.save_weights(run.best_file)
    assert starting_weights.adapted(name, size, run.folder) == name
    model = mixer_tf.build(name, size, 3)
    starting_weights.load(model, run.folder)
    *body, kernel, bias = model.get_weights()
    assert [w.any() for w in (kernel, bias)] == [False, False]  # the head
    for found, wanted in zip(body, source.get_weights()[:-2], strict=True):
        assert np.array_equal(found, wanted)
    with pytest.raises(ValueError, match=r"pictures of 3 channels, these have 1; give"):
        starting_weights.adapted(name, (*size[:2], 1), run.folder)
    grey = mixer_tf.build(name, (*size[:2], 1), 3)  # what does not fit, changes nothing
    before = grey.get_weights()
    with pytest.raises(ValueError, match=r"of another shape \d: stem/.*\(3, 3, 3, \d+\), not"):
        starting_weights.load(grey, run.folder)
    for found, wanted in zip(grey.get_weights(), before, strict=True):
        assert np.array_equal(found, wanted)


def test_a_relative_begins_from_a_run_at_its_own_size_only(tmp_path):
    about = ("ab", "digits", PLAIN, 0, "float32", "")
    run = Run.create(tmp_path / "run", RunConfig("gmlp_s16", (32, 32, 3), *about))
    source = mixer_tf.build("gmlp_s16", (32, 32, 3), 2)
    source.save_weights(run.best_file)
    model = mixer_tf.build("gmlp_s16", (32, 32, 3), 3)
    starting_weights.load(model, run.folder)
    for found, wanted in zip(model.get_weights()[:-2], source.get_weights()[:-2], strict=True):
        assert np.array_equal(found, wanted)
    larger = mixer_tf.build("gmlp_s16", (48, 32, 3), 3)
    with pytest.raises(ValueError, match=r"of another shape 60: .*\(4, 4\), not \(6, 6\)"):
        starting_weights.load(larger, run.folder)


@pytest.fixture
def grey(google):
    """The same for grey pictures."""
    weights = reference_mixer.random_weights(2, 16, 4, 8, 32, (4, 4), 7)
    weights["stem/kernel"] = weights["stem/kernel"][:, :, :1]
    np.savez(google, **weights)
    return google


def test_a_model_that_grew_with_its_pictures_keeps_its_name(
    tmp_path, tiny_data, grey, monkeypatch, without_xla
):
    monkeypatch.setitem(VARIANTS, "mixer_nano", CONFIG)
    recipe = dataclasses.replace(PLAIN, epochs=1)
    result = train("mixer_nano", tiny_data, recipe, tmp_path / "r", pretrained=grey, quiet=True)
    config = Run.open(tmp_path / "r").config()
    assert config.model == dataclasses.replace(CONFIG, tokens_mlp_dim=32)
    assert result["model"] == config.model_name == "mixer_nano"
    assert dataclasses.replace(config, name="").model_name == "mixer"


def test_the_first_logits_of_a_run_at_a_larger_size_are_zero(
    tmp_path, tiny_data, grey, without_xla
):
    recipe = dataclasses.replace(PLAIN, epochs=1)
    result = train(CONFIG, tiny_data, recipe, tmp_path / "r", pretrained=grey, quiet=True)
    assert result["input_shape"] == [16, 16, 1]
    assert Run.open(tmp_path / "r").config().model.tokens_mlp_dim == 32  # 16x16 is 2 x 2 of 8x8
    with pytest.raises(ValueError, match="does not fit"):
        train("mixer_nano", tiny_data, recipe, tmp_path / "s", pretrained=grey, quiet=True)
    assert not (tmp_path / "s").exists()


def test_one_command_from_a_file(tmp_path, picture_folder, without_xla):
    """As one fine-tunes Google's B/16, with a network that a test can afford."""
    keras.utils.set_random_seed(0)
    source = mixer_tf.build("mixer_cifar_2", num_classes=7)
    mixer_tf.save_npz(source, tmp_path / "source.npz")
    flags = ["--epochs", 1, "--batch-size", 8, "--freeze", "blocks", "--out", tmp_path / "run"]
    data = picture_folder(size=(16, 16))
    start = ["train", "--model", "mixer_cifar_2", "--pretrained", tmp_path / "source.npz"]
    cli.main([str(word) for word in [*start, "--data", data, *flags]])
    run = Run.open(tmp_path / "run")
    assert run.result()["input_shape"] == [72, 72, 3]
    tuned = run.model()
    assert tuned.output_shape == (None, 2)
    for name in ("stem", "block_0", "block_1"):
        for a, b in zip(tuned.get_layer(name).get_weights(), source.get_layer(name).get_weights()):
            assert np.array_equal(a, b)
    assert np.asarray(tuned.get_layer("head").kernel).any()  # from zero


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, google, monkeypatch):
    """A server on this machine that offers the file as the checkpoint `mixer_test`."""
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/google.npz"
        known = {"mixer_test": pretrained.Checkpoint("mixer_b16", url)}
        monkeypatch.setattr(pretrained, "CHECKPOINTS", known)
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
        yield server
        server.shutdown()


def test_a_server_that_answers_rubbish_is_one_line(server, monkeypatch):
    """As portals of hotels do: no HTTP at all."""
    monkeypatch.setattr(Quiet, "do_GET", lambda self: self.wfile.write(b"welcome, please pay\n"))
    with pytest.raises(ValueError, match="mixer_test cannot be fetched .*welcome.* put it at"):
        pretrained.fetch("mixer_test")


def test_a_known_checkpoint_is_fetched_once_and_keeps_its_hash(server, google):
    path = pretrained.fetch("mixer_test")
    assert path.read_bytes() == google.read_bytes()
    kept = path.with_name("mixer_test.npz.sha256").read_text().strip()
    assert kept == hashlib.sha256(google.read_bytes()).hexdigest()
    model = build()
    starting_weights.load(model, "mixer_test")
    google.rename(google.with_name("gone"))
    assert pretrained.fetch("mixer_test") == path  # without the server

    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="not the file seen before"):
        pretrained.fetch("mixer_test")
    path.unlink()
    good = google.with_name("gone").read_bytes()
    np.savez(google, another=np.zeros(3, "float32"))
    with pytest.raises(ValueError, match="not the file seen before"):
        pretrained.fetch("mixer_test")
    assert not path.exists()
    google.write_bytes(good)
    assert pretrained.fetch("mixer_test") == path


def test_a_page_instead_of_a_checkpoint_is_not_kept(server, google):
    good = google.read_bytes()
    google.write_bytes(b"<html>Please log in</html>")
    with pytest.raises(ValueError, match=r"cannot be fetched \(the answer is no .npz file\)"):
        pretrained.fetch("mixer_test")
    google.write_bytes(good)  # nothing of the page is remembered
    assert pretrained.fetch("mixer_test").read_bytes() == good


def test_offline_says_where_to_put_the_file(server, google, tmp_path):
    google.rename(google.with_name("gone"))
    with pytest.raises(ValueError, match="put it at") as caught:
        pretrained.fetch("mixer_test")
    message = str(caught.value)
    assert "\n" not in message
    path = re.search(r"put it at (.*)\.$", message)[1]
    assert path == str(tmp_path / "home" / "mixer_tf" / "mixer_test.npz")
    google.with_name("gone").rename(path)
    assert str(pretrained.fetch("mixer_test")) == path
    with pytest.raises(ValueError, match="mixer_test"):
        pretrained.fetch("mixer_tast")


def test_flags_reach_the_training(monkeypatch, tmp_path):
    seen = {}

    def stop(model, data, recipe, out, **options):
        seen.update(recipe=recipe, **options)
        raise ValueError("enough")

    monkeypatch.setattr("mixer_tf.train.train", stop)
    flags = "--freeze stem --layer-decay 0.75 --accumulate 4 --recompute --batch-size 64 --epochs 3"
    start = ["train", "--recipe", "finetune", "--pretrained", "mixer_b16_in21k"]
    with pytest.raises(SystemExit):
        cli.main([*start, "--out", str(tmp_path / "r"), *flags.split()])
    recipe = seen["recipe"]
    assert seen["pretrained"] == "mixer_b16_in21k"
    assert (recipe.freeze, recipe.layer_decay, recipe.accumulate) == ("stem", 0.75, 4)
    assert recipe.recompute
    assert (recipe.epochs, recipe.steps, recipe.batch_size) == (3, 0, 64)
    with pytest.raises(SystemExit):
        cli.main([*start, "--out", str(tmp_path / "r")])
    assert seen["recipe"] == RECIPES["finetune"]


def test_addresses():
    known = pretrained.CHECKPOINTS
    assert len(known) == 6
    for name, checkpoint in known.items():
        assert checkpoint.model in mixer_tf.MODELS
        assert name.startswith(checkpoint.model)
        assert checkpoint.url.startswith("https://storage.googleapis.com/mixer_models/")


@pytest.mark.parametrize("model", ["mixer_nano", "mixer_b32", "mixer_l16", CONFIG])
def test_a_known_checkpoint_of_another_model_is_refused_before_it_is_fetched(model, monkeypatch):
    fetched = []
    monkeypatch.setattr(pretrained, "fetch", lambda name: fetched.append(name) or "gone.npz")
    with pytest.raises(ValueError, match="mixer_b16_in21k holds mixer_b16, not .*--model mixer_b1"):
        starting_weights.adapted(model, (64, 64, 3), "mixer_b16_in21k")
    with pytest.raises(ValueError, match="100x100 is no whole number of 16x16 patches"):
        starting_weights.adapted("mixer_b16", (100, 100, 3), "mixer_b16_in21k")
    assert not fetched
    dropping = dataclasses.replace(VARIANTS["mixer_b16"], dropout=0.1)
    for fits in ("mixer_b16", dropping):
        with pytest.raises(ValueError, match="There is no file 'gone.npz'"):
            starting_weights.adapted(fits, (448, 448, 3), "mixer_b16_in21k")
    assert len(fetched) == 2


@pytest.mark.parametrize("size", [(16, 16, 3), (16, 32, 3), (8, 32, 3)])
def test_a_runs_own_grid_of_tokens_is_what_its_weights_are_for(tmp_path, size):
    """2x8 tokens are as many as 4x4, and not the same places."""
    classes = ("a", "b", "c")
    recipe = Recipe()
    about = RunConfig(CONFIG, (8, 32, 3), classes, "digits", recipe, 0, "float32", "")
    run = Run.create(tmp_path / "run", about)
    trained = build(size=(8, 32, 3))
    trained.save_weights(run.best_file)
    config = starting_weights.adapted(CONFIG, size, run.folder)
    model = mixer_tf.build(config, size, 3)
    starting_weights.load(model, run.folder)
    expected = resize(trained, size)
    assert config.tokens_mlp_dim == expected.get_layer("block_0").tokens_mlp_dim
    for name in ("stem", "block_0", "block_1", "pre_head_layer_norm"):
        for a, b in zip(
            model.get_layer(name).get_weights(), expected.get_layer(name).get_weights()
        ):
            np.testing.assert_array_equal(a, b)


def test_a_hash_is_taken_with_what_python_3_9_has(server, google, monkeypatch):
    monkeypatch.delattr(hashlib, "file_digest", raising=False)
    monkeypatch.setattr(pretrained, "_PIECE", 100)  # so that the file has many
    kept = pretrained.fetch("mixer_test").with_name("mixer_test.npz.sha256").read_text().strip()
    assert kept == hashlib.sha256(google.read_bytes()).hexdigest()


def test_a_download_that_ends_early_leaves_nothing(server, google, monkeypatch, tmp_path):
    whole = google.read_bytes()

    def half(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(whole)))
        handler.end_headers()
        handler.wfile.write(whole[:1000])

    monkeypatch.setattr(Quiet, "do_GET", half)
    ended = f"the connection ended after 1,000 of {len(whole):,} bytes"
    with pytest.raises(ValueError, match=re.escape(ended)):
        pretrained.fetch("mixer_test")
    assert list((tmp_path / "home" / "mixer_tf").iterdir()) == []
