"""The rooms and their arrows, read from the imports."""

import ast
import pathlib

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


TRAINING = ["train", "trainer", "cpu_step", "recipe", "batches", "data", "augment", "runtime"]
TRAINING += ["machine"]
TRAINING += [
    "runs",
    "state",
    "saving",
    "compiling",
    "cli",
    "cli_flags",
    "cli_plan",
    "cli_resume",
    "cli_training",
]
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
    rooms = [p for p in ROOMS if p.stem == "figures" or p.parent.name == "figures"]
    assert rooms
    for path in rooms:
        for word in ("keras", "tensorflow", "jax", "callbacks"):
            assert not uses(path, word), path
        inner = {i for i in imports(path) if i.startswith("mixer_tf")}
        assert all(i.startswith("mixer_tf.figures") for i in inner), inner


def test_only_the_command_line_knows_the_callbacks():
    for path in ROOMS:
        if path.parent.name == "mixer_tf" and path.name != "cli_training.py":
            assert not uses(path, "callbacks"), path


def test_callbacks_ask_only_for_figures_and_files():
    allowed = ("mixer_tf.figures", "mixer_tf.files")
    for path in ROOMS:
        if path.parent.name == "callbacks":
            inner = {i for i in imports(path) if i.startswith("mixer_tf.")}
            assert all(i.startswith(allowed) for i in inner), (path, inner)


def test_imports_run_one_way():
    """No circle among the rooms, late imports included."""
    names = {p.stem: imports(p) for p in ROOMS if p.parent.name == "mixer_tf"}
    arrows = {
        name: {
            other
            for other in names
            if any(i == f"mixer_tf.{other}" or i.startswith(f"mixer_tf.{other}.") for i in found)
        }
        for name, found in names.items()
        if name not in ("__init__", "__main__")
    }
    done = set()
    while len(done) < len(arrows):
        ready = {n for n, to in arrows.items() if n not in done and to <= done}
        assert ready, f"a circle among {sorted(set(arrows) - done)}"
        done |= ready


def test_help_needs_no_keras():
    commands = ["__init__", "__main__", "cli", "cli_flags", "cli_training", "console"]
    commands += ["cli_plan", "cli_resume", "recipe", "recipes", "runs", "run_config"]
    for name in [*commands, "cluster", "meeting", "report", "zoo", "variants", "version"]:
        for heavy in ("keras", "tensorflow", "numpy", "matplotlib"):
            found = imports(room(f"{name}.py"), top_only=True)
            assert not any(i.split(".")[0] == heavy for i in found), name
