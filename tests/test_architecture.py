"""The rooms and their arrows, read from the imports."""

import ast
import pathlib
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
ROOMS = sorted(ROOT.glob("mixer_tf/**/*.py")) + sorted(ROOT.glob("callbacks/**/*.py"))


def imports(path, top_only=False):
    """Modules that a file imports, `mixer_tf.x` for `from mixer_tf import x` too."""
    tree = ast.parse(path.read_text())
    found = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def uses(path, name):
    return any(found == name or found.startswith(name + ".") for found in imports(path))


def room(name):
    return ROOT / "mixer_tf" / name


def module(path):
    """`mixer_tf/training/sam.py` -> `mixer_tf.training.sam`, a folder's `__init__.py` its name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


TRAINING = ["train", "training", "recipe", "recipes", "batches", "data", "augment", "runtime"]
TRAINING += ["machine", "runs", "run_config", "distributed", "storage", "cli", "command_line"]
NETWORKS = ["layers.py", "mixer.py", "resnet.py", "repvgg.py", "relatives.py"]


@pytest.mark.parametrize("name", [*NETWORKS, "variants.py", "zoo.py"])
def test_models_know_nothing_that_trains(name):
    for other in TRAINING:
        assert not uses(room(name), f"mixer_tf.{other}"), other


@pytest.mark.parametrize("name", NETWORKS)
def test_models_use_only_keras_layers(name):
    """They run on TensorFlow, on JAX, and on Keras 2.15."""
    text = room(name).read_text()
    for word in ("tensorflow", "jax", "keras.ops", "keras.random"):
        assert not any(word == i.split(".")[0] or word == i for i in imports(room(name)))
        if word.startswith("keras."):
            assert word not in text


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: path.stem)
def test_the_layer_that_adds_its_bias_wrongly_is_not_used(path):
    """Keras 3.10 to 3.15 on TensorFlow, where tokens are as many as hidden units."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Attribute, ast.Name, ast.alias)):
            said = getattr(node, "attr", None) or getattr(node, "id", None) or node.name
            assert said != "EinsumDense"


def test_figures_know_no_keras():
    rooms = [p for p in ROOMS if p.parent.name == "figures"]
    assert rooms
    for path in rooms:
        for word in ("keras", "tensorflow", "jax", "callbacks"):
            assert not uses(path, word), path
        inner = {i for i in imports(path) if i.startswith("mixer_tf")}
        assert all(i.startswith("mixer_tf.figures") for i in inner), inner


def test_only_the_command_line_knows_the_callbacks():
    for path in ROOMS:
        if module(path).startswith("mixer_tf.") and path != room("command_line/training.py"):
            assert not uses(path, "callbacks"), path


def test_callbacks_ask_only_for_figures_and_files():
    allowed = ("mixer_tf.figures", "mixer_tf.storage.files")
    for path in ROOMS:
        if path.parent.name == "callbacks":
            inner = {i for i in imports(path) if i.startswith("mixer_tf.")} - {"mixer_tf.storage"}
            assert all(i.startswith(allowed) for i in inner), (path, inner)


@pytest.mark.parametrize("depth", [3, 2], ids=["files", "folders"])
def test_imports_run_one_way(depth):
    """No circle among the rooms, late imports included, nor among whole folders of them."""

    def cut(name):
        return ".".join(name.split(".")[:depth])

    rooms = {module(p): imports(p) for p in ROOMS if module(p).startswith("mixer_tf.")}
    arrows = {cut(name): set() for name in rooms}
    for name, found in rooms.items():
        # `from folder import file` is no use of what the folder's __init__ holds.
        within = {i.rpartition(".")[0] for i in found & rooms.keys()}
        arrows[cut(name)] |= {cut(i) for i in found - within} & arrows.keys() - {cut(name)}
    assert sum(map(len, arrows.values())) > 100
    done = set()
    while len(done) < len(arrows):
        ready = {n for n, to in arrows.items() if n not in done and to <= done}
        assert ready, f"a circle among {sorted(set(arrows) - done)}"
        done |= ready


def test_every_folder_is_installed():
    """`pip install .` takes those that pyproject.toml names."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {module(p.parent) for p in ROOMS}
    assert set(settings["tool"]["setuptools"]["packages"]) == packages | {"mixer_tf.weights"}


def test_help_needs_no_keras():
    commands = ["__init__", "__main__", "cli", "recipe", "recipes", "runs", "run_config"]
    commands += ["zoo", "variants", "version", "reading/report"]
    commands += ["distributed/cluster", "distributed/meeting"]
    rooms = [room(f"{name}.py") for name in commands] + sorted(room("command_line").glob("*.py"))
    rooms += sorted(room("").glob("*/__init__.py"))
    for path in rooms:
        if path.parent.name == "figures":
            continue
        for heavy in ("keras", "tensorflow", "numpy", "matplotlib"):
            found = imports(path, top_only=True)
            assert not any(i.split(".")[0] == heavy for i in found), path
