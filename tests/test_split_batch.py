"""A step taken in parts against the whole one, and what becomes of the parts."""

import os

import keras
import numpy as np
import pytest
from helpers import run_python
from test_fused_blocks import pair

import mixer_tf
from mixer_tf.recipe import Recipe
from mixer_tf.runtime import Runtime
from mixer_tf.training.sam import sharpen

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="split batches are TensorFlow's"
)
if keras.backend.backend() == "tensorflow":
    from mixer_tf.training import cpu_step, fused_blocks, split_batch


@pytest.mark.parametrize(("parts", "at_once"), [(6, 2), (4, 1)])
def test_a_step_in_parts_is_the_whole_step(parts, at_once):
    whole, split = pair()
    fused_blocks.fuse_blocks(split)
    split_batch.split_steps(split, parts, at_once)
    draws = np.random.default_rng(2)
    images = draws.uniform(0, 255, (12, 8, 12, 3)).astype("float32")
    labels = np.eye(5, dtype="float32")[draws.integers(0, 5, 12)]
    for model in (whole, split):
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
        model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"], jit_compile=False)
    for _ in range(3):
        right, mine = (
            {name: float(value) for name, value in logs.items()}  # pytest 8.0: no 0-d arrays
            for logs in (m.train_on_batch(images, labels, return_dict=True) for m in (whole, split))
        )
        assert mine == pytest.approx(right, rel=1e-5)
    for mine, right in zip(split.trainable_variables, whole.trainable_variables):
        np.testing.assert_allclose(mine, right, atol=2e-5, rtol=1e-4, err_msg=right.path)
    right, mine = (  # 5 pictures: a last batch has any number
        m.evaluate(images[:5], labels[:5], verbose=0, return_dict=True) for m in (whole, split)
    )
    assert mine == pytest.approx(right, rel=1e-4)


@pytest.mark.parametrize(
    ("batch", "tokens", "at_least", "parts"),
    [
        (512, 64, 2, 8),  # 64 pictures of 64 tokens
        (128, 64, 1, 2),
        (64, 64, 1, 1),  # small enough
        (64, 64, 2, 2),  # but something for each core
        (512, 196, 2, 32),  # 16 of 196: no larger divisor is below 4,096 tokens
        (97, 64, 2, 1),  # a prime number has no parts but single pictures
        (128, 4, 2, 1),  # too little in a part
        (100, 64, 2, 2),
    ],
)
def test_number_of_parts(batch, tokens, at_least, parts):
    assert split_batch.part_count(batch, tokens, at_least) == parts


IN_ITS_OWN_PROCESS = """
import sys
import numpy as np
import tensorflow as tf
from mixer_tf import MixerConfig, Run, cli, load_data
from mixer_tf.training import split_batch
from mixer_tf.recipe import Recipe
from mixer_tf.training.saving import Interrupted
from mixer_tf.train import resume, train
from helpers import stop_after

split_batch.cores = lambda: 2  # of more, this batch would be split otherwise

folder, digits = sys.argv[1], load_data("digits")
cli.main([
    *"train --model mixer_cifar_2 --data digits --epochs 1 --out".split(), f"{folder}/command"
])
assert tf.config.threading.get_intra_op_parallelism_threads() == 1
assert split_batch.parts_at_once() == split_batch.cores()

model = MixerConfig(1, 16, 8, 16, (2, 2))  # 8 x 8 tokens
recipe = Recipe(3, 256, warmup_epochs=0.5, learning_rate=3e-2)  # of 5 steps
options = {"quiet": True, "own_process": True}
result = train(model, digits, recipe, f"{folder}/straight", **options)
try:
    train(model, digits, recipe, f"{folder}/stopped", callbacks=stop_after(8), **options)
except Interrupted:
    resume(f"{folder}/stopped", digits, **options)
    print("resumed")
a, b = (Run.open(f"{folder}/{i}").model("last").get_weights() for i in ("straight", "stopped"))
assert all(np.array_equal(x, y) for x, y in zip(a, b))
print("loss", result["test_loss"])
"""


@pytest.mark.skipif(os.cpu_count() < 2, reason="one core")
def test_the_command_gives_each_core_a_part_and_weights_are_the_same_after_a_stop(tmp_path):
    """Its threads must be set before TensorFlow has computed anything."""
    done = run_python(IN_ITS_OWN_PROCESS, tmp_path)
    ours = [line for line in done.stderr.splitlines() if line.startswith("mixer_cifar_2: ")]
    assert len(ours) == 2, done.stderr  # what runs, and the epoch; TensorFlow 2.20 adds its own
    *_, resumed, loss = done.stdout.splitlines()
    assert resumed == "resumed"
    assert float(loss.split()[-1]) < 2.0  # chance is 2.3


def test_a_sharp_step_is_not_replaced_by_one_in_parts():
    """Of 128 pictures of 64 tokens, which are two parts otherwise."""
    cpu = Runtime("tensorflow", "", "cpu", 1, "float32", "")
    for radius in (0.0, 0.1):
        model = mixer_tf.build(mixer_tf.MixerConfig(1, 8, 4, 8, (2, 2)), (16, 16, 1), 10)
        if radius:
            sharpen(model, radius)
        step = model.train_step
        parts = cpu_step.prepare(model, Recipe(batch_size=128, sam=radius), cpu)
        assert (parts == 1) == (model.train_step == step) == bool(radius)


def test_weighted_pictures_are_refused():
    """They would count alike, without a word."""
    _, split = pair()
    split_batch.split_steps(split, 2)
    split.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=False)
    images, labels = np.zeros((4, 8, 12, 3), "float32"), np.eye(5, dtype="float32")[:4]
    with pytest.raises(ValueError, match="takes no sample_weight"):
        split.fit(images, labels, sample_weight=np.ones(4), verbose=0)


def test_looking_at_the_machine_leaves_its_threads_to_be_set():
    """`--per-device` counts devices before a training sets the threads of its process."""
    code = """
from mixer_tf import runtime
from mixer_tf.training import split_batch
print(runtime.choose().replicas)
split_batch.one_thread_each()
print(split_batch.parts_at_once())
"""
    done = run_python(code)
    assert done.stdout.split() == ["1", str(split_batch.cores())]
