"""The two stacks: Keras 3, and TensorFlow 2.15 with tensorflow-addons. Runs on either."""

import json
import os
import pathlib
import subprocess

import exchange
import keras
import numpy as np
import pytest
from helpers import assert_same, events, refused, stop_after, weights

import callbacks
import mixer_tf
from mixer_tf import stack
from mixer_tf.augment import Augmenter
from mixer_tf.recipe import Augmentation, Recipe
from mixer_tf.runs import Run
from mixer_tf.train import resume, train
from mixer_tf.training.optimizers import make_optimizer
from mixer_tf.training.saving import Interrupted

HERE = pathlib.Path(__file__).parent
OTHER = os.environ.get("MIXER_TF_OTHER_PYTHON")  # where the other stack is installed
addons = pytest.mark.skipif(stack.KERAS_3, reason="for TensorFlow 2.15 with tensorflow-addons")


def assert_read(without, loaded):
    assert without > 0.1
    assert loaded < 1e-5


def test_weights_of_the_other_keras_give_its_logits():
    """Files that Keras 2.15.0 and Keras 3.15.1 wrote; how: see `exchange`."""
    other = "keras_2" if stack.KERAS_3 else "keras_3"
    assert_read(*exchange.read(HERE / "data" / other, "tiny"))


@pytest.mark.skipif(not OTHER, reason="MIXER_TF_OTHER_PYTHON names no Python of the other stack")
def test_weights_go_both_ways(tmp_path):
    names = ["mixer_nano", "resnet20", "resnet20_v2"]

    def there(what):
        command = [OTHER, str(HERE / "exchange.py"), what, str(tmp_path), *names]
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
        return json.loads(subprocess.check_output(command, env=environment))

    there("write")
    for name in names:
        assert_read(*exchange.read(tmp_path, name))
        exchange.write(tmp_path, name)
    for differences in there("read").values():
        assert_read(*differences)


def test_what_only_the_other_stack_has_is_refused(capfd, tmp_path):
    out = tmp_path / "run"
    wishes = {"The environment of requirements-tfa.txt": ["--optimizer", "radam"]}
    if not stack.KERAS_3:
        adamw = ["--optimizer", "adamw", "--learning-rate", "0.002"]  # the recipe's are muon's
        wishes = {
            "no optimizer 'muon'": ["--optimizer", "muon", "--learning-rate", "0.01"],
            "no rand_augment, cutmix": ["--recipe", "cifar", *adamw],
            "no layer_decay": ["--layer-decay", "0.7"],
            "no precision 'mixed_float16'": ["--precision", "mixed_float16"],
        }
    for words, flags in wishes.items():
        line = refused(capfd, "train", "--data", "digits", *flags, "--out", out)
        assert words in line
        assert not out.exists()


def steps(optimizer, count=12):
    """A kernel and a bias after some steps along gradients that are the same every time."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    draws = np.random.default_rng(0)
    model.set_weights([draws.normal(size=w.shape) for w in model.get_weights()])
    start, gradients = model.get_weights(), []
    for _ in range(count):
        gradients.append([draws.normal(size=w.shape).astype("float32") for w in start])
        optimizer.apply_gradients(zip(map(keras.backend.constant, gradients[-1]), model.weights))
    return start, gradients, model.get_weights()


RATE, DECAY = 0.05, 0.1
PLAIN = {
    **{"schedule": "constant", "warmup_epochs": 0, "learning_rate": RATE},
    **{"weight_decay": DECAY, "clip_norm": 0},
}


def adam_moments(gradients, step):
    """Adam's two averages after `step` steps, corrected for their start at zero."""
    shares = 0.9 ** np.arange(step)[::-1], 0.999 ** np.arange(step)[::-1]
    first = sum(s * g for s, g in zip(shares[0], gradients)) / shares[0].sum()
    second = sum(s * g**2 for s, g in zip(shares[1], gradients)) / shares[1].sum()
    return first, np.sqrt(second)


@addons
@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_adamw_is_that_of_keras(clip_norm):
    """Keras 2.15 has an AdamW of its own, with the decay that Keras 3 has."""
    recipe = Recipe(epochs=3, warmup_epochs=1, weight_decay=DECAY, clip_norm=clip_norm)
    mine = make_optimizer(recipe, 4)
    assert type(mine).__module__.startswith("tensorflow_addons")
    *_, found = steps(mine)
    own = keras.optimizers.AdamW(
        mine.learning_rate, weight_decay=DECAY, global_clipnorm=clip_norm or None
    )
    own.exclude_from_weight_decay(var_names=["bias"])
    *_, expected = steps(own)
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@addons
def test_lamb_is_its_paper():
    """You et al. 2020 (arXiv 1904.00962), Algorithm 2; biases with neither decay nor trust."""
    start, gradients, found = steps(make_optimizer(Recipe(optimizer="lamb", **PLAIN), 1))
    for place, w in enumerate(start):
        for step in range(1, len(gradients) + 1):
            m, v = adam_moments([g[place] for g in gradients[:step]], step)
            update = m / (v + 1e-6)
            if place == 0:
                update = update + DECAY * w
                update *= np.linalg.norm(w) / np.linalg.norm(update)
            w = w - RATE * update
        np.testing.assert_allclose(found[place], w, rtol=1e-4, atol=1e-5)


@addons
def test_radam_is_its_paper():
    """Liu et al. 2020 (arXiv 1908.03265), Algorithm 2, with decoupled decay of the kernel."""
    start, gradients, found = steps(make_optimizer(Recipe(optimizer="radam", **PLAIN), 1))
    longest = 2 / (1 - 0.999) - 1
    for place, w in enumerate(start):
        for step in range(1, len(gradients) + 1):
            m, v = adam_moments([g[place] for g in gradients[:step]], step)
            length = longest - 2 * step * 0.999**step / (1 - 0.999**step)
            update = m
            if length >= 5:
                share = (length - 4) * (length - 2) * longest
                share /= (longest - 4) * (longest - 2) * length
                update = np.sqrt(share) * m / (v + 1e-7)
            w = w * (1 - RATE * DECAY * (place == 0)) - RATE * update
        np.testing.assert_allclose(found[place], w, rtol=1e-4, atol=1e-5)


def test_augmentation_depends_on_seed_and_step_alone():
    images = np.random.default_rng(0).uniform(0, 255, (8, 16, 16, 3))
    labels = np.eye(8, dtype="float32")
    augmentation = Augmentation(shift=0.2, flip=True, rotation=0.1, zoom=0.2)

    def pictures(augmenter, step):
        return np.array(augmenter(images, labels, step)[0])

    used, fresh = Augmenter(augmentation, seed=3), Augmenter(augmentation, seed=3)
    first = pictures(used, 5)
    assert np.abs(pictures(used, 6) - first).max() > 1
    assert np.abs(pictures(Augmenter(augmentation, seed=4), 5) - first).max() > 1
    np.testing.assert_array_equal(pictures(fresh, 5), first)
    np.testing.assert_array_equal(pictures(used, 5), first)


@addons
def test_stopped_and_resumed_equals_undisturbed(tiny_data, tmp_path):
    """With an optimizer of tensorflow-addons, whose variables Keras does not name."""
    config = mixer_tf.MixerConfig(1, 8, 6, 8, (4, 4))
    recipe = Recipe(
        epochs=2, batch_size=32, optimizer="radam", augmentation=Augmentation(shift=0.1)
    )
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    train(config, tiny_data, recipe, straight, quiet=True)
    with pytest.raises(Interrupted):
        train(config, tiny_data, recipe, stopped, callbacks=stop_after(7), quiet=True)
    resume(stopped, tiny_data, quiet=True)
    assert_same(weights(straight), weights(stopped))


@addons
@pytest.mark.parametrize(("optimizer", "rate"), [("lamb", 1e-2), ("adamw", 4e-3)])
def test_digits_are_learned_and_shown(optimizer, rate, digits, tmp_path):
    config = mixer_tf.MixerConfig(4, 48, 24, 96, (4, 4))
    recipe = Recipe(
        optimizer=optimizer,
        epochs=6,
        batch_size=64,
        learning_rate=rate,
        augmentation=Augmentation(shift=0.1),
    )

    def shown(run):
        folder = run.folder
        return [callbacks.PatchProjections(folder), callbacks.TokenMixing(folder, [0], every=3)]

    result = train(config, digits, recipe, tmp_path / "run", callbacks=shown, quiet=True)
    assert result["test_accuracy"] >= 0.85  # chance is 0.1
    pictures = events(tmp_path / "run")
    for tag in ("patch_projections", "token_mixing/block_0"):
        assert set(pictures[tag]) >= {2, 5}
    assert Run.open(tmp_path / "run").model().count_params() == result["parameters"]
