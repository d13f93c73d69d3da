"""The scripts behind the pages' numbers: they start, know what they call, and count right."""

import ast
import dataclasses
import importlib
import json
import pathlib
import re
import types

import pytest

from mixer_tf import run_config
from mixer_tf.recipes import RECIPES
from mixer_tf.run_config import RunConfig
from mixer_tf.runs import Run

HISTORY = "epoch,loss,accuracy,val_loss,val_accuracy\n0,1.5,0.4,1.5,0.5\n"

FOLDER = pathlib.Path(__file__).parent.parent / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.fixture
def script(monkeypatch):
    """Import one of them by name, as Python does where it is started."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_it_asks_of_a_module_is_there(script, name):
    """Read, not run: most of them take hours."""
    module = script(name)
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            value = getattr(module, node.value.id, None)
            if isinstance(value, types.ModuleType):
                assert hasattr(value, node.attr), f"{node.value.id}.{node.attr}"
        if isinstance(node, ast.ImportFrom) and node.module.startswith(("mixer_tf", "callbacks")):
            source = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(source, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_says_how_it_is_called(script, name, monkeypatch, capsys):
    module = script(name)
    if not hasattr(module, "argparse"):
        return
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 0
    assert name in capsys.readouterr().out


def test_those_that_the_pages_name_are_there():
    pages = [*FOLDER.parent.glob("*.md"), *FOLDER.parent.glob("docs/*.md")]
    named = {name for p in pages for name in re.findall(r"benchmarks/(\w+)\.py", p.read_text())}
    assert len(named) > 8
    assert named <= set(SCRIPTS)


@pytest.fixture
def run(tmp_path):
    """As it stands on disk after two epochs of 600 pictures, at 10 a second."""
    recipe = dataclasses.replace(RECIPES["cifar"], epochs=2).in_epochs(600)
    about = RunConfig("resnet20", (8, 8, 3), ["a", "b"], "cifar10", recipe, 0, "float32", "")
    run = Run.create(tmp_path / "run", dataclasses.replace(about, pictures="600, 0a0b"))
    run.history_file.write_text(HISTORY + "1,1.0,0.6,1.0,0.712\n")
    result = {"images_per_second": 10.0, "epochs": 2, "parameters": 7, "test_accuracy": 0.75}
    result |= {"model": "resnet20", "data": "cifar10", "device": "abacus", "versions": {"x": "1"}}
    result |= {"test_standard_error": 0.01, "test_pictures": 50, "seed": 3, "test_loss": 0.5}
    result["train_seconds"] = 120.0
    result["command"] = "python -m mixer_tf train --recipe cifar"
    run.result_file.write_text(json.dumps(result))
    return run


def test_minutes_are_pictures_over_the_rate(script, run):
    results = script("results")
    assert results.minutes(run, 2) == pytest.approx(2 * 512 / 10 / 60)  # 4 batches of 128
    assert results.time_to_mark(run) == "1.7 min, epoch 2"
    run.history_file.write_text(HISTORY + "1,1.0,0.6,1.0,0.711\n")
    assert results.time_to_mark(run) == "not reached"


def test_operations_of_a_step_are_those_that_are_computed(script):
    """The stem, 64 patches of 9x9x3 numbers to 128 channels, has no gradient for the picture."""
    forward, training = script("speed").operations("mixer_cifar_4")
    assert forward == 2 * 14_574_848
    assert training == 3 * forward - 2 * 64 * 9 * 9 * 3 * 128


def test_a_row_says_what_the_run_was(script, run):
    results = script("results")
    cells = [cell.strip() for cell in results.row(run).strip("|").split("|")]
    assert cells[:5] == ["resnet20", "7", "2", "75.00 ± 1.00 %", "2 min"]
    assert cells[6:] == ["10", "3", "abacus; x 1", "`python -m mixer_tf train --recipe cifar`"]
    assert results.recipe_name(run.result()) == "cifar"
    assert results.recipe_name({"command": "python -m mixer_tf train"}) == "quick"
    assert results.recipe_name({"command": "train --recipe=cifar --out 'my runs'"}) == "cifar"


def test_the_table_is_that_of_the_runs_that_are_kept(script):
    results = script("results")
    runs = results.ended()
    table = (FOLDER / "results.md").read_text()
    assert runs
    assert [line for line in table.splitlines() if "±" in line and line.startswith("|")] == [
        results.row(run) for run in runs
    ]


def test_a_card_says_of_the_recipe_what_it_does(script):
    said = dict(script("ship").said(RECIPES["digits"].to_dict()))
    assert said["shift"] == 0.1
    assert said["optimizer"] == "adamw"
    assert not {"cutmix", "magnitude", "mix probability", "accumulate", "freeze"} & said.keys()
    assert {"magnitude", "mix probability"} <= dict(
        script("ship").said(RECIPES["cifar"].to_dict())
    ).keys()


def test_a_trial_reads_no_test_picture(script, tiny_data, tmp_path, monkeypatch, capsys):
    trained = []

    def spy(model, data, recipe, out):
        trained.append((model, data, recipe, out))
        return {"best_val_accuracy": 0.5}

    monkeypatch.setattr("mixer_tf.data.load_data", lambda source: tiny_data)
    monkeypatch.setattr(script("resumable"), "train_to_the_end", spy)
    words = ["schedule=constant", "epochs=2", "flip=True", "freeze=stem"]
    monkeypatch.setattr("sys.argv", ["trial", "mixer_nano", "--out", str(tmp_path), *words])
    script("trial").main()
    ((model, data, recipe, _),) = trained
    assert model == "mixer_nano"
    assert data.test is tiny_data.validation
    assert data.name != tiny_data.name  # its "test accuracy" is not to be taken for one
    assert (recipe.schedule, recipe.epochs, recipe.freeze) == ("constant", 2, "stem")
    assert recipe.augmentation.flip is True
    assert capsys.readouterr().out == "mixer_nano: 50.0 % of validation\n"
    monkeypatch.setattr("sys.argv", ["trial", "mixer_nano", "--out", str(tmp_path), "speed=1"])
    with pytest.raises(SystemExit):
        script("trial").main()
    assert "no field of Recipe or Augmentation: speed" in capsys.readouterr().err


def test_another_recipe_than_the_one_begun_is_refused(script, run, tiny_data):
    resumable = script("resumable")
    with pytest.raises(ValueError, match="Give another folder"):
        resumable.train_to_the_end("resnet20", tiny_data, RECIPES["quick"], run.folder)
    kept = dataclasses.replace(RECIPES["cifar"], epochs=2)
    splits = {name: getattr(tiny_data, name) for name in ("train", "validation", "test")}
    two = {name: dataclasses.replace(s, labels=s.labels % 2) for name, s in splits.items()}
    data = dataclasses.replace(tiny_data, class_names=("a", "b"), **two)
    known = {"pictures": data.train.fingerprint(), "input_shape": data.image_shape}
    config = dataclasses.replace(run.config(), **known)
    run_config.write(run.config_file, config)
    again = resumable.train_to_the_end("resnet20", data, kept, run.folder)
    assert again == run.result()  # it had ended: nothing to train
