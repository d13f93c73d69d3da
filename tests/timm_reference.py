"""timm's logits, computed in a process of its own: MIXER_TF_TORCH_PYTHON names a Python with it.

python tests/timm_reference.py gmixer_24 resmlp_12 gmlp_s16    how far the whole networks differ
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pytest

PYTHON = os.environ.get("MIXER_TF_TORCH_PYTHON", sys.executable)
PROGRAM = """
import sys, types
try:
    import torchvision
except ImportError:  # timm imports it for its data sets alone
    from importlib.machinery import ModuleSpec
    class Names(type):
        def __getattr__(cls, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return name
    class Stub(types.ModuleType):
        __path__ = []
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return Names(name, (), {})
    class Finder:
        def find_spec(self, name, path=None, target=None):
            return ModuleSpec(name, self) if name.split(".")[0] == "torchvision" else None
        def create_module(self, spec):
            return Stub(spec.name)
        def exec_module(self, module):
            pass
    sys.meta_path.append(Finder())
try:
    import timm, torch
    from timm.models.mlp_mixer import MlpMixer
    from safetensors.torch import save_file
except ImportError as error:
    sys.exit(f"SKIP {error}")
import numpy as np
made, blocks, folder = sys.argv[1:]
torch.manual_seed(0)
model = eval(made).eval()
if int(blocks):
    model.blocks = model.blocks[: int(blocks)]
size = model.stem.img_size
with torch.no_grad():
    for value in model.parameters():
        spread = 0.2 if value.ndim == 1 or len(value) == 1 else 1 / value[0].numel() ** 0.5
        value.add_(spread * torch.randn_like(value))
    images = np.random.default_rng(1).uniform(0, 255, (3, *size, 3)).astype("float32")
    logits = model(torch.from_numpy(images / 127.5 - 1).permute(0, 3, 1, 2).float())
save_file(model.state_dict(), folder + "/w.safetensors")
weights = sum(value.numel() for value in model.parameters())
np.savez(folder + "/expected.npz", images=images, logits=logits.numpy(), weights=weights)
"""


def run(made, folder, blocks=0):
    """Let timm make a model with random weights, all of them changed.

    Args:
        made: the expression that makes it.
        folder: where its state dict goes, `w.safetensors`.
        blocks: how many of its blocks are kept; 0 for all.

    Returns:
        A dict: `images` `[3, H, W, 3]` in [0, 255], `logits`, `weights` (their number).
    """
    command = [PYTHON, "-c", PROGRAM, made, str(blocks), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and "SKIP" in done.stderr:
        pytest.skip(f"needs torch and timm ({done.stderr.strip()[-80:]})")
    assert done.returncode == 0, done.stderr[-1500:]
    with np.load(pathlib.Path(folder) / "expected.npz") as expected:
        return dict(expected)


def compare(name):
    """Largest difference of the logits of a whole network, and what is compared."""
    import mixer_tf
    from mixer_tf.timm_relatives import load_timm_relative

    with tempfile.TemporaryDirectory() as folder:
        expected = run(f"timm.create_model('{name}_224')", folder)
        model = load_timm_relative(mixer_tf.build(name), pathlib.Path(folder) / "w.safetensors")
    logits = np.asarray(model(expected["images"]))
    difference = np.abs(logits - expected["logits"]).max()
    return (
        f"{name}: {model.count_params():,} weights (timm: {expected['weights']:,}), largest "
        f"difference {difference:.1e} of logits up to {np.abs(logits).max():.1f}"
    )


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(compare(name))
