"""timm's weights and logits, computed in a process of its own, with PyTorch.

python tests/timm_reference.py keep                     make data/timm/ again, which the tests read
python tests/timm_reference.py gmixer_24 resmlp_12 ...  how far whole networks differ
MIXER_TF_TORCH_PYTHON names a Python that has timm, where this one does not.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

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
except ImportError as error:
    sys.exit(f"{error}; MIXER_TF_TORCH_PYTHON names a Python that has it")
from timm.models import mlp_mixer as mixers
import numpy as np
made, path = sys.argv[1:]
torch.manual_seed(0)
model = eval(made).eval()
size = model.stem.img_size
with torch.no_grad():
    for value in model.parameters():
        spread = 0.2 if value.ndim == 1 or len(value) == 1 else 1 / value[0].numel() ** 0.5
        value.add_(spread * torch.randn_like(value))
    images = np.random.default_rng(1).uniform(0, 255, (3, *size, 3)).astype("float32")
    logits = model(torch.from_numpy(images / 127.5 - 1).permute(0, 3, 1, 2).float())
state = {f"state/{name}": value.numpy() for name, value in model.state_dict().items()}
np.savez_compressed(path, images=images, logits=logits.numpy(), **state)
"""

_SMALL = "img_size=16, patch_size=4, num_blocks=2, embed_dim=16, num_classes=7"
# What timm's entry points of these names say, made small.
KEPT = {
    "mixer": f"mixers.MlpMixer({_SMALL}, mlp_ratio=(0.5, 4.0))",
    "mixer_stem_norm": f"mixers.MlpMixer({_SMALL}, mlp_ratio=(0.5, 4.0), stem_norm=True)",
    "gmixer": f"mixers.MlpMixer({_SMALL}, mlp_ratio=(1.0, 4.0), mlp_layer=mixers.GluMlp,"
    " act_layer=torch.nn.SiLU)",
    "resmlp": f"mixers.MlpMixer({_SMALL}, mlp_ratio=4, block_layer=mixers.ResBlock,"
    " norm_layer=mixers.Affine)",
    "gmlp": f"mixers.MlpMixer({_SMALL}, mlp_ratio=6, block_layer=mixers.SpatialGatingBlock,"
    " mlp_layer=mixers.GatedMlp)",
}
FOLDER = pathlib.Path(__file__).parent / "data" / "timm"


def make(made, path):
    """Let timm make a model with random weights, all of them changed, and keep what it answers.

    Args:
        made: the expression that makes it.
        path: of the `.npz`: `images` `[3, H, W, 3]` in [0, 255], `logits`, `state/*`.
    """
    done = subprocess.run([PYTHON, "-c", PROGRAM, made, str(path)], stderr=subprocess.PIPE)
    if done.returncode:
        sys.exit(done.stderr.decode()[-1500:])


def read(path, folder):
    """What `make` kept, as `{"images", "logits", "weights"}`; the state in `w.safetensors`."""
    from safetensors.numpy import save_file

    with np.load(path) as kept:
        state = {name.split("/")[1]: kept[name] for name in kept if name.startswith("state/")}
        save_file(state, pathlib.Path(folder) / "w.safetensors")
        weights = sum(value.size for value in state.values())
        return {"images": kept["images"], "logits": kept["logits"], "weights": weights}


def compare(name):
    """Largest difference of the logits of a whole network, and what is compared."""
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
    from mixer_tf import zoo
    from mixer_tf.exchange.timm_relatives import RelativeFile, fill_relative

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make(f"timm.create_model('{name}_224')", folder / "made.npz")
        expected = read(folder / "made.npz", folder)
        model = zoo.build(name)
        with RelativeFile(folder / "w.safetensors") as source:
            fill_relative(model, source)  # not `convert`, which changes what pictures it expects
    logits = np.asarray(model(expected["images"]))
    difference = np.abs(logits - expected["logits"]).max()
    return (
        f"{name}: {model.count_params():,} weights (timm: {expected['weights']:,}), largest "
        f"difference {difference:.1e} of logits up to {np.abs(logits).max():.1f}"
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["keep"]:
        FOLDER.mkdir(exist_ok=True)
        for name, made in KEPT.items():
            make(made, FOLDER / f"{name}.npz")
    else:
        for name in sys.argv[1:]:
            print(compare(name))
