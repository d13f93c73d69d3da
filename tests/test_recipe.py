"""Schedule, decay, clipping and loss against their closed forms."""

import dataclasses
import math
import types

import keras
import numpy as np
import pytest
from keras.ops import convert_to_numpy as to_numpy

from mixer_tf import MixerConfig, machine, run_config, runtime
from mixer_tf.evaluate import score
from mixer_tf.recipe import Augmentation, Recipe
from mixer_tf.recipes import RECIPES, default_recipe, tailored
from mixer_tf.run_config import RunConfig
from mixer_tf.training.optimizers import make_loss, make_optimizer, make_schedule


def test_warmup_is_linear_and_the_rest_a_cosine():
    recipe = Recipe(epochs=10, learning_rate=0.4, final_learning_rate=0.04, warmup_epochs=2)
    schedule = make_schedule(recipe, steps_per_epoch=50)
    found = np.array([float(schedule(step)) for step in range(501)])
    steps = np.arange(501)
    share = np.clip((steps - 100) / 400, 0, 1)
    expected = np.where(
        steps < 100, 0.4 * steps / 100, 0.04 + 0.36 * 0.5 * (1 + np.cos(np.pi * share))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_what_memory_holds_in_training_it_holds_in_evaluation():
    assert Recipe(batch_size=512).evaluation_size == 256
    assert Recipe(batch_size=32, accumulate=4).evaluation_size == 32
    assert Recipe(batch_size=32, freeze="blocks").evaluation_size == 32
    assert Recipe(batch_size=32, recompute=True).evaluation_size == 32
    assert Recipe(batch_size=32).scoring_size == 64
    assert Recipe(batch_size=8).scoring_size == 32


def test_a_warmup_in_steps_has_as_many():
    recipe = Recipe(batch_size=32, steps=10_000, warmup_steps=500)
    for updates in range(1, 400):
        assert make_schedule(recipe.in_epochs(32 * updates), updates).warmup_steps == 500, updates


def test_lamb_moves_what_begins_at_zero():
    """As Adam does: under a constant gradient by the rate a step. Kernels move by a ratio."""
    options = {"schedule": "constant", "warmup_epochs": 0, "weight_decay": 0, "clip_norm": 0}
    optimizer = make_optimizer(Recipe(optimizer="lamb", learning_rate=0.01, **options), 10)
    bias = keras.Variable(np.zeros(3), name="bias")
    kernel = keras.Variable(np.full((2, 2), 3.0), name="kernel")
    optimizer.build([bias, kernel])
    for _ in range(14):
        optimizer.apply([keras.ops.ones(3), keras.ops.ones((2, 2))])
    np.testing.assert_allclose(to_numpy(bias.value), -0.14, rtol=1e-4)
    np.testing.assert_allclose(to_numpy(kernel.value), 3 * 0.99**14, rtol=1e-4)


def test_muon_takes_a_kernel_of_patches_as_a_matrix():
    """A first step goes along U V' of the gradient U S V', each part about as far as any other.

    Its size is that of Liu et al. 2025; stem and head move as under Adam, by the rate.
    """
    options = {"schedule": "constant", "warmup_epochs": 0, "weight_decay": 0, "clip_norm": 0}
    optimizer = make_optimizer(Recipe(optimizer="muon", learning_rate=0.01, **options), 10)
    layers = [keras.layers.Conv2D(6, 3, use_bias=False, name=n) for n in ("stem", "conv", "head")]
    for layer in layers:
        layer.build((None, 8, 8, 4))
    variables = [layer.kernel for layer in layers]
    before = [to_numpy(v) for v in variables]
    gradient = np.random.default_rng(0).normal(size=(3, 3, 4, 6)).astype("float32")
    optimizer.build(variables)
    optimizer.apply([keras.ops.convert_to_tensor(gradient)] * 3, variables)
    stem, conv, head = (b - to_numpy(v) for b, v in zip(before, variables))
    np.testing.assert_allclose(stem, 0.01 * np.sign(gradient), rtol=1e-3)
    np.testing.assert_allclose(head, 0.01 * np.sign(gradient), rtol=1e-3)
    rows, _, columns = np.linalg.svd(gradient.reshape(36, 6), full_matrices=False)
    along = rows.T @ (conv.reshape(36, 6) / (0.01 * 0.2 * 36**0.5)) @ columns.T
    np.testing.assert_allclose(along - np.diag(np.diag(along)), 0, atol=1e-4)
    assert np.all((np.diag(along) > 0.65) & (np.diag(along) < 1.25))


def test_constant_schedule_without_warmup():
    schedule = make_schedule(Recipe(schedule="constant", warmup_epochs=0, learning_rate=0.1), 9)
    assert [round(float(schedule(s)), 6) for s in (0, 5, 10_000)] == [0.1, 0.1, 0.1]


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd", "adam", "lamb"])
def test_kernels_alone_are_decayed(name):
    """With zero gradients a step is w <- w (1 - lr decay), and biases stay.

    Muon has a decay of its own for what it leaves to AdamW, such as the head.
    """
    recipe = Recipe(
        optimizer=name, schedule="constant", warmup_epochs=0, learning_rate=0.1, weight_decay=0.2
    )
    dense = keras.layers.Dense
    model = keras.Sequential(
        [keras.Input((3,)), dense(4), keras.layers.LayerNormalization(), dense(2, name="head")]
    )
    optimizer = make_optimizer(recipe, 10)
    optimizer.build(model.trainable_variables)
    before = {v.path: to_numpy(v) + 1 for v in model.trainable_variables}
    for v in model.trainable_variables:
        v.assign(before[v.path])
    zeros = [np.zeros(v.shape, "float32") for v in model.trainable_variables]
    optimizer.apply([keras.ops.convert_to_tensor(z) for z in zeros], model.trainable_variables)
    for v in model.trainable_variables:
        factor = 1 - 0.1 * 0.2 if v.path.endswith("kernel") else 1
        np.testing.assert_allclose(to_numpy(v), before[v.path] * factor, rtol=1e-6)


def test_gradients_are_clipped_together():
    recipe = Recipe(
        optimizer="sgd", schedule="constant", warmup_epochs=0, learning_rate=1, weight_decay=0
    )
    v = [keras.Variable(np.zeros(2)), keras.Variable(np.zeros(1))]
    optimizer = make_optimizer(recipe, 10)
    optimizer.build(v)
    gradients = [keras.ops.convert_to_tensor(g) for g in ([3.0, 0.0], [4.0])]
    optimizer.apply(gradients, v)
    np.testing.assert_allclose(np.concatenate([to_numpy(x) for x in v]), [-0.6, 0, -0.8], rtol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "lamb", "muon"])
def test_every_optimizer_descends(name):
    v = keras.Variable(np.array([3.0, -2.0]))
    optimizer = make_optimizer(
        Recipe(optimizer=name, learning_rate=0.05, warmup_epochs=0, weight_decay=0), 100
    )
    optimizer.build([v])
    for _ in range(50):
        optimizer.apply([2 * v.value], [v])
    assert np.square(to_numpy(v)).sum() < 0.5 * 13


def test_loss_is_the_smoothed_cross_entropy_of_logits():
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]])
    labels = np.array([[1.0, 0, 0], [0, 0.3, 0.7]])
    smooth = labels * 0.9 + 0.1 / 3
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -(smooth * log_p).sum(-1).mean()
    found = float(make_loss(Recipe(label_smoothing=0.1))(labels, logits))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_score_agrees_with_scikit_learn():
    from sklearn import metrics

    draws = np.random.default_rng(0)
    logits, labels = draws.normal(0, 5, (200, 4)), draws.integers(0, 4, 200)
    scores = score(logits, labels)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    assert scores["accuracy"] == metrics.accuracy_score(labels, logits.argmax(-1))
    np.testing.assert_allclose(scores["loss"], metrics.log_loss(labels, p), rtol=1e-6)
    a = scores["accuracy"]
    np.testing.assert_allclose(scores["standard_error"], (a * (1 - a) / 200) ** 0.5)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name):
    import json

    values = RECIPES[name].to_dict()
    assert Recipe.from_dict(json.loads(json.dumps(values))).to_dict() == values


def test_default_recipes():
    assert default_recipe("digits") == "digits"
    assert default_recipe("a folder") == "quick"
    assert default_recipe("digits", "w.npz") == "finetune"
    assert default_recipe("rows") == "quick"  # a folder that is called as a recipe is
    assert default_recipe("scans/digits") == "quick"  # nor are these the small grey ones


def test_another_length_is_warmed_up_for_the_same_share():
    assert tailored(RECIPES["quick"], {"epochs": 30}).warmup_epochs == pytest.approx(2)
    recipe = tailored(RECIPES["finetune"], {"epochs": 20})  # of 10,000 steps, the first 500
    assert (recipe.epochs, recipe.steps, recipe.warmup_steps) == (20, 0, 0)
    assert recipe.in_epochs(400).warmup_epochs == pytest.approx(1)


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "adamx"},
        {"schedule": "linear"},
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0},
        {"weight_decay": -1},
        {"label_smoothing": 1},
        {"ema": 1.0},
        {"epochs": 1.5},
        {"batch_size": 32.0},
        {"steps": True},
        {"learning_rate": "fast"},
    ],
)
def test_bad_recipes_are_refused(change):
    *_, value = change.values()
    with pytest.raises(ValueError, match=str(value)):
        dataclasses.replace(Recipe(), **change)


def test_numbers_of_numpy_become_pythons(tmp_path):
    """JSON, which keeps a run, knows none of numpy's."""
    augmentation = Augmentation(np.float32(0.125), rand_augment=np.int8(2))
    recipe = Recipe(np.int64(3), np.int32(32), "sgd", np.float32(0.5), augmentation=augmentation)
    mixer = MixerConfig(np.int64(1), 8, 8, 8, 4, dropout=np.float32(0.5), epsilon=np.float64(1e-3))
    config = RunConfig(mixer, (8, 8, 3), ("a", "b"), "digits", recipe, 0, "auto", "")
    run_config.write(tmp_path / "config.json", config)
    assert run_config.read(tmp_path / "config.json") == config
    assert config.recipe.learning_rate == 0.5
    with pytest.raises(ValueError, match="rand_augment is 1.5; give a whole number"):
        Augmentation(rand_augment=1.5)
    with pytest.raises(ValueError, match="dropout is None; give a finite number"):
        MixerConfig(1, 8, 8, 8, 4, dropout=None)
    relu = dataclasses.replace(mixer, activation=keras.activations.relu)
    with pytest.raises(ValueError, match="activation is .*; give its name"):
        dataclasses.replace(config, model=relu)


A_CPU = ("a CPU", "cpu", 1, "float32", "nothing else measured faster")


def test_runtime_says_what_and_why(monkeypatch):
    monkeypatch.setattr(machine, "look", lambda: A_CPU)
    chosen = runtime.choose()
    assert chosen.precision == "float32"
    assert chosen.replicas >= 1
    assert "float32 (" in chosen.describe()
    assert "bfloat16" not in chosen.describe()
    assert runtime.choose("float32").products == "float32"
    assert "\n" not in chosen.describe()
    asked = runtime.choose("mixed_bfloat16")
    assert "mixed_bfloat16 (as asked)" in asked.describe()
    assert keras.mixed_precision.dtype_policy().name == "mixed_bfloat16"
    with pytest.raises(ValueError, match="no precision 'half'; there are: auto, float32"):
        runtime.choose("half")


@pytest.mark.parametrize(
    ("flags", "products"),
    [("fpu avx512_bf16 sse", "bfloat16"), ("amx_bf16", "bfloat16"), ("avx2", "float32")]
    + [("", "float32")],
)
def test_products_follow_the_processor(monkeypatch, flags, products):
    monkeypatch.setattr(machine, "cpu_info", lambda field: flags if field == "flags" else "")
    monkeypatch.setattr(machine, "look", lambda: A_CPU)
    if keras.backend.backend() != "tensorflow":
        products = "float32"
    chosen = runtime.choose()
    assert chosen.products == products
    assert ("multiply in bfloat16" in chosen.describe(fused=True)) == (products == "bfloat16")


def test_a_processor_is_told_by_more_than_its_brand(monkeypatch, tmp_path):
    """As Linux writes it; `model` and `model name` are two fields."""
    info = tmp_path / "cpuinfo"
    info.write_text("cpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\nbugs\t\t:\n")
    monkeypatch.setattr(machine, "pathlib", types.SimpleNamespace(Path=lambda path: info))
    assert machine._cpu_name().startswith("AMD EPYC (family 26, model 2; ")
    info.write_text("")  # as on other systems and on ARM
    assert machine._cpu_name().startswith(f"{machine.platform.machine()} (")
    assert "family" not in machine._cpu_name()


def test_a_short_run_comes_to_its_peak():
    recipe = Recipe(epochs=2, learning_rate=0.1, warmup_epochs=3, final_learning_rate=0)
    recipe = recipe.in_epochs(640)
    rates = [float(make_schedule(recipe, 5)(step)) for step in range(11)]
    assert max(rates) == pytest.approx(0.1)
    assert rates[10] == pytest.approx(0, abs=1e-6)
    assert Recipe(epochs=6).in_epochs(640).warmup_epochs == 3


def test_a_run_that_began_in_float32_goes_on_in_float32(monkeypatch, capsys):
    """Every machine has it; products in bfloat16 not every one has, which is said."""
    monkeypatch.setattr(machine, "multiplies_bfloat16", lambda: True)
    assert runtime.choose_again("auto", "float32", "float32").products == "float32"
    assert runtime.choose_again("auto", "float32", "").products == runtime.choose().products
    assert not capsys.readouterr().err
    monkeypatch.setattr(machine, "multiplies_bfloat16", lambda: False)
    assert runtime.choose_again("auto", "float32", "bfloat16").products == "float32"
    assert "began with products in bfloat16, which are float32 here" in capsys.readouterr().err


@pytest.mark.parametrize("number", [math.nan, math.inf, np.float32("nan")])
def test_no_number_of_a_recipe_or_model_is_infinite(number):
    for name in ("learning_rate", "weight_decay", "clip_norm", "sam", "warmup_epochs"):
        with pytest.raises(ValueError, match=f"{name} is .*(nan|inf).*; give a finite number"):
            Recipe(**{name: number})
    with pytest.raises(ValueError, match="epsilon is .*; give a finite number"):
        MixerConfig(1, 8, 8, 8, 4, epsilon=number)


@pytest.mark.parametrize(
    ("capability", "precision"), [("gfx90a", "float32"), ("8.6", "mixed_bfloat16")]
)
def test_jaxs_gpus_may_have_names_for_capabilities(monkeypatch, capability, precision):
    jax = pytest.importorskip("jax")
    gpu = types.SimpleNamespace(platform="gpu", device_kind="MI250", compute_capability=capability)
    monkeypatch.setattr(jax, "devices", lambda: [gpu, gpu])
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert machine.look()[:4] == ("MI250", "gpu", 2, precision)


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((6, 1), "float32"), ((7, 0), "mixed_float16"), ((7, 5), "mixed_float16")]
    + [((8, 0), "mixed_bfloat16"), ((9, 0), "mixed_bfloat16"), ((12, 0), "mixed_bfloat16")],
)
def test_precision_follows_the_tensor_cores(capability, precision):
    """P100; V100 and T4; A100, H100 and later."""
    assert machine.gpu_precision(capability)[0] == precision
