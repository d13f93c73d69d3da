import ast
import copy
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import types

import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
NAMES = ("1_train_mixer", "2_resnet20_baseline", "3_visualize", "4_fine_tune")
NOTEBOOKS = {
    name: json.loads((FOLDER / f"{name}.ipynb").read_text("utf-8"))
    for name in NAMES
    if (FOLDER / f"{name}.ipynb").exists()
}
every_notebook = pytest.mark.parametrize("name", NAMES)


def cells_of(name, kind="code"):
    return [cell for cell in NOTEBOOKS[name]["cells"] if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def tags(cell):
    return cell["metadata"].get("tags", [])


def tagged(name, tag):
    return [cell for cell in cells_of(name) if tag in tags(cell)]


def is_magic(cell):
    """A cell of magics alone, which a run without Jupyter cannot prove."""
    return all(line.startswith("%") for line in source(cell).splitlines())


def python_of(cell):
    lines = source(cell).splitlines()
    return "\n".join("" if line.startswith("%") else line for line in lines)


def load_writer():
    spec = importlib.util.spec_from_file_location("write_address", FOLDER / "write_address.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_notebooks_are_there():
    assert [path.stem for path in load_writer().notebooks()] == list(NAMES)


@every_notebook
def test_set_up_accelerator_and_parameters(name):
    assert [source(c) for c in tagged(name, "setup")] == [
        source(c) for c in tagged(NAMES[0], "setup")
    ]
    assert len(tagged(name, "setup")) == 2
    assert "git" in source(tagged(name, "setup")[0])
    assert "clone" in source(tagged(name, "setup")[0])
    (accelerator,) = tagged(name, "accelerator")
    assert source(accelerator) == source(tagged(NAMES[0], "accelerator")[0])
    (parameters,) = tagged(name, "parameters")
    following = cells_of(name)[cells_of(name).index(parameters) + 1 :]
    assert any("print(" in source(cell) for cell in following[:2])


@pytest.mark.parametrize("tag", ["compile", "fit"])
def test_compile_and_fit_are_the_same_in_1_and_2(tag):
    (one,), (two,) = (tagged(name, tag) for name in NAMES[:2])
    assert source(one) == source(two)
    assert f"model.{tag}(" in source(one)


@pytest.mark.parametrize("name", NAMES[:2])
def test_tensorboard_opens_before_training(name):
    cells = cells_of(name)
    opened = [i for i, cell in enumerate(cells) if "%tensorboard" in source(cell)]
    assert opened
    assert opened[0] < cells.index(tagged(name, "fit")[0])


@every_notebook
def test_every_function_is_called(name):
    trees = [ast.parse(python_of(cell)) for cell in cells_of(name)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    defined = {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    called = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert defined <= called, defined - called


@every_notebook
def test_only_magics_are_left_out_of_the_short_run(name):
    for cell in cells_of(name):
        assert ("skip-execution" in tags(cell)) == is_magic(cell)
        assert not set(tags(cell)) & {"raises-exception", "remove-cell"}


@every_notebook
def test_shape_of_a_notebook(name):
    assert 12 <= len(cells_of(name)) <= 20
    for cell in cells_of(name):
        if "setup" not in tags(cell):
            assert len(cell["source"]) <= 17, source(cell)
    text = "\n".join(source(cell) for cell in cells_of(name, "markdown"))
    text = re.sub(r"(?ms)^```.*?^```", "", text)
    assert len(re.findall(r"(?m)^# ", text)) == 1
    opening = source(NOTEBOOKS[name]["cells"][0]).split("\n\n")
    assert opening[0].startswith("# ")
    assert "Colab" in opening[1]
    assert "runtime" in opening[2]
    assert "minutes" in opening[2]


@every_notebook
def test_figures_say_how_to_read_them(name):
    cells = NOTEBOOKS[name]["cells"]
    for cell, after in zip(cells, cells[1:]):
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            assert after["cell_type"] == "markdown", source(cell)
            assert "How to read it" in source(after), source(cell)
            assert "would contradict" in source(after), source(cell)


@every_notebook
def test_stored_outputs_are_of_one_whole_run(name):
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 1_500_000
    cells = cells_of(name)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs
    for output in outputs:
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr", output["text"]
    said = "".join("".join(output.get("text", "")) for output in outputs)
    assert re.search("45,000 pictures|8 x 8 tokens|airplane", said), "not of CIFAR-10"


@every_notebook
def test_nothing_names_a_machine(name):
    notebook = copy.deepcopy(NOTEBOOKS[name])
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)  # its letters mean nothing
    text = json.dumps(notebook)
    assert not re.findall(r"/(?:work|tmp|opt|root|home|Users|usr|content|mnt)\b", text)
    assert not re.findall(r"[A-Z]:\\\\\w|0x[0-9a-f]{6,}|localhost|127\.0\.0\.1", text)


@every_notebook
def test_address_is_that_of_pyproject(name):
    writer = load_writer()
    notebook = NOTEBOOKS[name]
    again = writer.written(copy.deepcopy(notebook), f"{name}.ipynb", writer.address())
    assert again == notebook, "run: python notebooks/write_address.py"


def test_an_address_goes_into_badge_and_set_up_and_out_again():
    writer, notebook = load_writer(), NOTEBOOKS[NAMES[2]]
    given = "https://github.com/someone/mixer-tf"
    after = writer.written(copy.deepcopy(notebook), "3_visualize.ipynb", given)
    assert "/github/someone/mixer-tf/blob/main/notebooks/3_visualize.ipynb)" in source(
        after["cells"][0]
    )
    setup = next(cell for cell in after["cells"] if "setup" in tags(cell))
    assert f'\nADDRESS = "{given}"  #' in source(setup)
    before = writer.written(after, "3_visualize.ipynb", writer.address())
    assert before == notebook


def test_an_address_that_colab_cannot_open_is_refused():
    with pytest.raises(ValueError, match=r"https://elsewhere\.org/a/b"):
        load_writer().badge("1_train_mixer.ipynb", "https://elsewhere.org/a/b")


def run_set_up(folder, address):
    """The first set-up cell alone, in a folder without a checkout."""
    code = re.sub('ADDRESS = ".*?"', f'ADDRESS = "{address}"', source(tagged(NAMES[0], "setup")[0]))
    code += "\nimport mixer_tf\nprint(mixer_tf.__file__)\n"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_without_address_nothing_is_cloned(tmp_path):
    done = run_set_up(tmp_path, "")
    assert done.returncode
    assert "set ADDRESS above" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_set_up_clones_and_imports(tmp_path):
    repository, elsewhere = tmp_path / "repository", tmp_path / "elsewhere"
    (repository / "mixer_tf").mkdir(parents=True)
    elsewhere.mkdir()
    (repository / "mixer_tf" / "__init__.py").write_text("")
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for step in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *step], check=True, capture_output=True)
    done = run_set_up(elsewhere, repository.as_uri())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(elsewhere / "mixer-tf/mixer_tf/__init__.py")
    assert run_set_up(elsewhere, "").returncode == 0  # the second time it is there


def test_on_a_tpu_runtime_jax_is_chosen_and_tensorboard_added(monkeypatch):
    """Colab's TPU runtime has keras and jax, but neither tensorflow nor tensorboard."""
    there = {"keras", "jax", "sklearn", "PIL", "matplotlib", "click", "tqdm"}
    ran = []
    monkeypatch.chdir(FOLDER)
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda n: types.SimpleNamespace() if n in there else None
    )
    monkeypatch.setattr("subprocess.run", lambda command, **_: ran.append(command))
    exec(source(tagged(NAMES[0], "setup")[0]), {})
    assert os.environ["KERAS_BACKEND"] == "jax"
    # After a restart of the session what was installed is there, and the variable is not.
    there |= {"tensorflow", "tensorboard"}
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setattr("importlib.metadata.distributions", lambda name: [name] * (name[-1] == "u"))
    exec(source(tagged(NAMES[0], "setup")[0]), {})
    assert os.environ["KERAS_BACKEND"] == "jax"
    # A GPU runtime has TensorFlow itself, and JAX too.
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setattr("importlib.metadata.distributions", lambda name: [])
    exec(source(tagged(NAMES[0], "setup")[0]), {})
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    # A command of another process finds the package too, before what was there.
    assert os.environ["PYTHONPATH"].split(os.pathsep)[0] == str(FOLDER.parent)
    assert os.environ["PYTHONPATH"].endswith("elsewhere")
    (command,) = ran
    assert command[1:5] == ["-m", "pip", "install", "--quiet"]
    assert sorted(command[5:]) == ["tensorboard", "tensorflow-cpu"]
