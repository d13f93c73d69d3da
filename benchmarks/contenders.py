"""One way of computing a Mixer, timed on request: what `speed.py` starts once for each way.

    python benchmarks/contenders.py WAY MODEL BATCH

Prints `ready`, then answers each line on its standard input with the seconds that one
step took, as the median of the steps that fit into about a second.
"""

import os
import pathlib
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import numpy as np


def ours(model, batch, precision):
    """The step that `train` takes: its own choice of blocks, precision and compilation."""
    from mixer_tf import MODELS, runtime
    from mixer_tf.recipe import Recipe
    from mixer_tf.training import cpu_step

    recipe = Recipe(batch_size=batch)
    cpu_step.set_threads(model, MODELS[model].input_shape, recipe, precision)
    chosen = runtime.choose(precision)
    built = _build(model)
    fused = cpu_step.prepare(built, recipe, chosen)
    return _keras_step(built, batch, jit=not fused)


def whole(model, batch):
    """Fused blocks without parts: the whole batch at once, each product on all cores."""
    from mixer_tf import runtime
    from mixer_tf.training import fused_blocks

    products = runtime.choose("auto").products
    built = _build(model)
    fused_blocks.fuse_blocks(built, products)
    return _keras_step(built, batch, jit=False)


def layers(model, batch, precision, jit=True):
    """The model as its layers say it, one XLA program."""
    import keras

    keras.mixed_precision.set_dtype_policy(precision)
    return _keras_step(_build(model), batch, jit)


def ancestor(model, batch):
    """The same network as the ancestor writes it: a function over layers, Keras's defaults."""
    import keras
    import tensorflow as tf

    from mixer_tf.variants import VARIANTS
    from mixer_tf.zoo import MODELS

    config, size = VARIANTS[model], MODELS[model].input_shape
    patch = config.patch_size

    def mlp(x, units):
        width = x.shape[-1]
        x = keras.layers.Dense(units)(x)
        x = keras.layers.Lambda(tf.nn.gelu)(x)
        return keras.layers.Dense(width)(x)

    images = keras.Input(size)
    x = keras.layers.Conv2D(config.hidden_dim, patch, strides=patch)(images)
    x = keras.layers.Reshape((-1, config.hidden_dim))(x)
    for _ in range(config.num_blocks):
        y = keras.layers.Permute((2, 1))(keras.layers.LayerNormalization()(x))
        y = keras.layers.Permute((2, 1))(mlp(y, config.tokens_mlp_dim))
        x = keras.layers.Add()([x, y])
        y = mlp(keras.layers.LayerNormalization()(x), config.channels_mlp_dim)
        x = keras.layers.Add()([x, y])
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.LayerNormalization()(x))
    built = keras.Model(images, keras.layers.Dense(10)(x))
    return _keras_step(built, batch, jit="auto", optimizer="adam")


def predict(model, batch):
    """Logits of a batch, compiled."""
    import tensorflow as tf

    built = _build(model)
    run = tf.function(built, jit_compile=True)
    images = tf.constant(_pictures(built.input_shape[1:], batch)[0])
    return lambda: run(images).numpy()


def timm(model, batch, precision, compiled, training=True):
    """timm's MlpMixer of the same sizes in PyTorch."""
    import torch
    from timm.models.mlp_mixer import MlpMixer

    from mixer_tf.variants import VARIANTS
    from mixer_tf.zoo import MODELS

    config, size = VARIANTS[model], MODELS[model].input_shape[0]
    built = MlpMixer(
        num_classes=10,
        img_size=size,
        patch_size=config.patch_size[0],
        num_blocks=config.num_blocks,
        embed_dim=config.hidden_dim,
        mlp_ratio=(
            config.tokens_mlp_dim / config.hidden_dim,
            config.channels_mlp_dim / config.hidden_dim,
        ),
    ).train(training)
    images, labels = _pictures((size, size, 3), batch)
    images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous() / 127.5 - 1
    labels = torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(built.parameters(), 1e-3)
    call = torch.compile(built) if compiled else built

    def forward():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return call(images)

    def infer():
        with torch.inference_mode():
            return forward()

    def step():
        loss = torch.nn.functional.cross_entropy(forward().float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step if training else infer


def products(size, dtype):
    """One square matrix product, the machine's own limit."""
    import tensorflow as tf

    a, b = (tf.cast(tf.random.normal((size, size)), dtype) for _ in range(2))
    multiply = tf.function(lambda: tf.matmul(a, b)[0, 0])
    return lambda: multiply().numpy()


def _build(model):
    import mixer_tf

    return mixer_tf.build(model, mixer_tf.MODELS[model].input_shape, 10)


def _pictures(shape, batch):
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (batch, *shape)).astype("float32")
    return images, np.eye(10, dtype="float32")[draws.integers(0, 10, batch)]


def _keras_step(built, batch, jit, optimizer="adamw"):
    """One call of the function that `fit` calls, on a batch that is there already."""
    import itertools

    import keras
    import tensorflow as tf

    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    built.compile(optimizer, loss, jit_compile=jit)
    built.make_train_function()
    data = itertools.repeat(tuple(map(tf.constant, _pictures(built.input_shape[1:], batch))))
    iterator = iter(data)
    return lambda: float(np.asarray(built.train_function(iterator)["loss"]))


WAYS = {
    "mixer_tf": lambda m, b: ours(m, b, "auto"),
    "mixer_tf, whole batches": whole,
    "mixer_tf, float32": lambda m, b: ours(m, b, "float32"),
    "Keras layers, XLA": lambda m, b: layers(m, b, "float32"),
    "Keras layers, XLA, mixed_bfloat16": lambda m, b: layers(m, b, "mixed_bfloat16"),
    "the ancestor's way": ancestor,
    "timm, float32": lambda m, b: timm(m, b, "float32", False),
    "timm, float32, compiled": lambda m, b: timm(m, b, "float32", True),
    "timm, bfloat16": lambda m, b: timm(m, b, "bfloat16", False),
    "timm, bfloat16, compiled": lambda m, b: timm(m, b, "bfloat16", True),
    "inference: mixer_tf": predict,
    "inference: timm, float32, not compiled": lambda m, b: timm(m, b, "float32", False, False),
    "inference: timm, bfloat16, compiled": lambda m, b: timm(m, b, "bfloat16", True, False),
    "float32 product": lambda m, b: products(2048, "float32"),
    "bfloat16 product": lambda m, b: products(2048, "bfloat16"),
}


def main():
    """Build, warm up, and time whenever asked."""
    way, model, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
    step = WAYS[way](model, batch)
    for _ in range(3):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        times, begun = [], time.perf_counter()
        while time.perf_counter() - begun < 1 or len(times) < 3:
            started = time.perf_counter()
            step()
            times.append(time.perf_counter() - started)
        print(statistics.median(times), flush=True)


if __name__ == "__main__":
    main()
