import keras
import numpy as np
import pytest
import reference_mixer
from PIL import Image

import mixer_tf
from mixer_tf.resizing import resampling
from mixer_tf.stages import config_of, num_classes

CONFIG = mixer_tf.MixerConfig(2, 10, 6, 20, (4, 2))
DRAWS = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A Mixer on 2 x 3 tokens with no weight at zero."""
    path = tmp_path_factory.mktemp("resize") / "w.npz"
    np.savez(path, **reference_mixer.random_weights(2, 10, 6, 6, 20, (4, 2), 5))
    return mixer_tf.load_npz(mixer_tf.build(CONFIG, (8, 6, 3), 5), path)


def pictures(height, width):
    return DRAWS.uniform(0, 255, (3, height, width, 3)).astype("float32")


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (3, 3), (2, 1), (1, 3), (3, 2), (1, 1)])
def test_logits_of_the_large_picture_are_the_mean_of_its_tiles(model, rows, columns):
    images = pictures(8 * rows, 6 * columns)
    large = mixer_tf.resize(model, images.shape[1:])
    assert config_of(large).tokens_mlp_dim == 6 * rows * columns
    tiles = [
        np.asarray(model(images[:, 8 * r : 8 * r + 8, 6 * c : 6 * c + 6]))
        for r in range(rows)
        for c in range(columns)
    ]
    assert np.abs(np.asarray(large(images)) - np.mean(tiles, axis=0)).max() < 1e-4


def test_the_model_given_is_left_as_it_is(model):
    images = pictures(8, 6)
    before = np.asarray(model(images))
    copy = mixer_tf.resize(model, (8, 6, 3))
    copy.get_layer("head").kernel.assign(np.zeros((10, 5)))
    assert np.array_equal(np.asarray(model(images)), before)


def test_the_precision_is_that_of_the_model_given(model):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        copy = mixer_tf.resize(model, (8, 6, 3))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}


@pytest.mark.parametrize("shape", [(12, 10, 3), (4, 4, 3), (16, 8, 3), (8, 4, 3)])
def test_other_sizes_keep_the_sums(model, shape):
    other = mixer_tf.resize(model, shape)
    assert config_of(other) == config_of(model)
    for i in range(2):
        old = model.get_layer(f"block_{i}").token_mixing
        new = other.get_layer(f"block_{i}").token_mixing
        sums = [np.asarray(mlp.dense_0.kernel).sum(axis=0) for mlp in (old, new)]
        assert np.allclose(*sums, atol=1e-5)
        assert np.asarray(new.dense_1.kernel).shape == (6, shape[0] // 4 * shape[1] // 2)
        grid = shape[0] // 4, shape[1] // 2
        # Behind the MLP maps of 2 x 3 tokens are brought to the new grid, as Pillow does it ...
        for was, now in zip(
            [old.dense_1.bias, *np.asarray(old.dense_1.kernel)],
            [new.dense_1.bias, *np.asarray(new.dense_1.kernel)],
        ):
            np.testing.assert_allclose(now, pillow(np.reshape(was, (2, 3)), grid), atol=1e-4)
        # ... and before it a map of the new grid to 2 x 3.
        seen = DRAWS.random(grid).astype("float32")
        was, now = (np.asarray(mlp.dense_0.kernel) for mlp in (old, new))
        np.testing.assert_allclose(seen.ravel() @ now, pillow(seen, (2, 3)) @ was, atol=1e-4)
    assert np.isfinite(np.asarray(other(pictures(*shape[:2])))).all()


def pillow(table, grid):
    """A map resampled by another library, as a vector."""
    image = Image.fromarray(np.asarray(table, "float32"))
    return np.asarray(image.resize(grid[::-1], Image.Resampling.BILINEAR)).ravel()


def test_interpolation_hardly_changes_what_a_smooth_picture_gives():
    """Trained-like, smooth token weights: the same smooth picture at 8x8 and at 9x9 tokens."""
    config = mixer_tf.MixerConfig(1, 8, 4, 16, (2, 2))
    keras.utils.set_random_seed(0)
    small = mixer_tf.build(config, (16, 16, 3), 3)
    rows, columns = np.meshgrid(*[np.linspace(0, np.pi, 8)] * 2, indexing="ij")
    waves = np.stack([np.cos(a * rows + b * columns) for a, b in [(0, 1), (1, 0), (1, 1), (0, 0)]])
    mlp = small.get_layer("block_0").token_mixing
    mlp.dense_0.kernel.assign(waves.reshape(4, 64).T / 16)
    mlp.dense_1.kernel.assign(waves.reshape(4, 64) / 2)
    large = mixer_tf.resize(small, (18, 18, 3))

    def smooth(size):
        line = np.linspace(0, 1, size)
        picture = 255 * np.stack([np.outer(line, line), np.outer(line, 1 - line)], -1)
        return np.concatenate([picture, picture[..., :1] / 2], -1)[None].astype("float32")

    logits = np.asarray(small(smooth(16)))
    assert np.abs(logits).max() > 0.5
    assert np.abs(np.asarray(large(smooth(18))) - logits).max() < 0.05


@pytest.mark.parametrize(("old", "new"), [(14, 12), (14, 24), (7, 7), (1, 5), (5, 1), (3, 100)])
def test_resampling_keeps_constants_and_agrees_with_pillow(old, new):
    matrix = resampling(old, new)
    assert matrix.shape == (new, old)
    assert np.allclose(matrix.sum(axis=1), 1)
    line = DRAWS.uniform(0, 1, (1, old)).astype("float32")
    expected = np.asarray(Image.fromarray(line).resize((new, 1), Image.Resampling.BILINEAR))
    assert np.allclose(line @ matrix.T, expected, atol=1e-5)


def test_what_cannot_be(model):
    with pytest.raises(ValueError, match=r"\(9, 6, 3\)|9x6.*patches"):
        mixer_tf.resize(model, (9, 6, 3))
    with pytest.raises(ValueError, match="channels"):
        mixer_tf.resize(model, (16, 12, 1))
    with pytest.raises(ValueError, match="no Mixer"):
        mixer_tf.resize(mixer_tf.build("resnet20"), (64, 64, 3))


def test_config_is_read_back_from_the_layers():
    for config in (
        mixer_tf.MixerConfig(3, 8, 4, 16, (4, 4), dropout=0.1, stochastic_depth=0.2),
        mixer_tf.MixerConfig(1, 8, 4, 16, (4, 4), stochastic_depth=0.2),  # the only one is the last
        mixer_tf.MixerConfig(
            1, 8, 4, 16, (1, 8), final_norm=False, activation="gelu", epsilon=1e-5
        ),
    ):
        built = mixer_tf.build(config, (8, 8, 3), 4)
        assert config_of(built) == config
        assert num_classes(built) == 4
        assert num_classes(mixer_tf.build(config, (8, 8, 3), 0)) == 0


def test_features_are_the_stages(model):
    images = pictures(8, 6)
    stages = mixer_tf.features(model)(images)
    assert list(stages) == (
        ["stem", "tokens", "block_0", "block_1", "pre_head_layer_norm", "pre_logits", "logits"]
    )
    assert stages["stem"].shape == (3, 2, 3, 10)
    assert stages["block_1"].shape == (3, 6, 10)
    assert np.allclose(stages["logits"], model(images), atol=1e-6)
    headless = mixer_tf.build(CONFIG, (8, 6, 3), 0)
    for name in ("stem", "pre_head_layer_norm"):
        headless.get_layer(name).set_weights(model.get_layer(name).get_weights())
    for i in range(2):
        headless.get_layer(f"block_{i}").set_weights(model.get_layer(f"block_{i}").get_weights())
    assert np.allclose(headless(images), stages["pre_logits"], atol=1e-6)
    assert "logits" not in mixer_tf.features(headless).output
    with pytest.raises(ValueError, match="no Mixer"):
        mixer_tf.features(mixer_tf.build("resnet20"))
