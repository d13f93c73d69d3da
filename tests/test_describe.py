"""A model stage by stage, and the example of MLP-Mixer-PyTorch (lavish619)."""

import numpy as np
import pytest
from helpers import refused

import mixer_tf
from mixer_tf import cli, describe


def test_an_interface_of_sizes():
    """Its image_shape, patch_size, classes, mixers, features, expansions, dropout are all here."""
    config = mixer_tf.MixerConfig(
        num_blocks=8,
        hidden_dim=4,
        tokens_mlp_dim=4 * 256,  # 16x16 tokens, expanded four times
        channels_mlp_dim=2,
        patch_size=16,
        dropout=0.5,
        final_norm=False,
    )
    model = mixer_tf.build(config, (256, 256, 3), 10)
    assert model.count_params() == 4_207_974
    rows = {name: (shape, weights) for name, shape, weights in describe.stages(model)}
    assert rows["stem"] == ((16, 16, 4), 16 * 16 * 3 * 4 + 4)
    assert rows["tokens"] == ((256, 4), 0)
    block = 2 * 256 * 1024 + 1024 + 256 + 2 * 4 * 2 + 2 + 4 + 4 * 4
    assert all(rows[f"block_{i}"] == ((256, 4), block) for i in range(8))
    assert rows["head"] == ((10,), 50)
    logits, seconds = describe.forward_pass(model, repeats=2)
    assert logits.shape == (1, 10)
    assert np.isfinite(logits).all()
    assert seconds > 0


@pytest.mark.parametrize("name", ["mixer_rows", "resnet20", "resnet20_v2", "repvgg_a0"])
def test_stages_hold_every_weight_in_order(name):
    model = mixer_tf.build(name)
    rows = describe.stages(model)
    assert sum(weights for *_, weights in rows) == mixer_tf.MODELS[name].weights
    names = [name for name, *_ in rows]
    assert names[:2] == ["rescale", "stem"]
    assert names[-2:] == ["pre_logits", "head"]
    assert len(names) < 30


def test_describe_on_the_command_line(capsys):
    cli.main(["describe", "resnet20", "--image-size", "16", "--classes", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["stage", "shape", "weights"]
    assert ["stage_2_block_2", "4x4x64", "74,240"] in [line.split() for line in lines]
    # 9 * 64 * 64 twice, two BatchNorms of four numbers a channel
    assert lines[-1].startswith("one random picture -> 3 logits, ")
    assert "270,643 weights" in lines[-2]
    cli.main(["describe", "resnet20", "--classes", "0"])
    assert "one random picture -> 64 pre-logits, " in capsys.readouterr().out
    assert "resnet21" in refused(capsys, "describe", "resnet21")
