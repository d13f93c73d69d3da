"""The commands as a person types them: results on standard output, mistakes in one line."""

import json
import logging
import os
import re
import subprocess
import sys
import types

import pytest
from helpers import at_hand, refused, run_python
from PIL import Image

from mixer_tf import MixerConfig
from mixer_tf.cli import main
from mixer_tf.command_line.console import load_backend
from mixer_tf.command_line.training import tensorboard_callbacks
from mixer_tf.compare import compare, table
from mixer_tf.data import load_data
from mixer_tf.distributed import hosts
from mixer_tf.distributed.cluster import WorkerLost
from mixer_tf.evaluate import evaluate
from mixer_tf.recipe import Recipe
from mixer_tf.recipes import RECIPES
from mixer_tf.run_config import RunConfig
from mixer_tf.runs import Run
from mixer_tf.shipped import FOLDER


def run(*arguments, **environment):
    """A real process, as a shell would start it."""
    return subprocess.run(
        [sys.executable, "-m", "mixer_tf", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**at_hand(), **environment},
    )


def test_help_and_models_load_nothing_heavy():
    code = """
import sys
from mixer_tf import cli
for words in (["--help"], ["models"], ["train", "--help"], ["--version"]):
    cli.main(words)
print(sorted({name.split(".")[0] for name in sys.modules} & {"keras", "tensorflow", "matplotlib"}))
"""
    lines = run_python(code).stdout.splitlines()
    assert lines[-1] == "[]"
    assert len(lines) > 60


def test_help_names_every_recipe():
    from mixer_tf import RECIPES

    text = " ".join(run("train", "--help").stdout.split())
    for name in RECIPES:
        assert re.search(rf"\b{name}\b", text.split("How to train")[1].split("--epochs")[0])


def test_models_lists_every_model():
    from mixer_tf import MODELS

    lines = run("models").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(MODELS)
    nano = next(line for line in lines if line.startswith("mixer_nano "))
    assert nano.split()[1:6] == ["1,132,170", "75.9", "M", "64", "32x32"]
    assert max(map(len, lines)) <= 110


def test_unknown_names(capfd):
    assert "did you mean mixer_nano" in refused(capfd, "train", "--model", "mixer_nan")
    assert "did you mean resnet20" in refused(capfd, "compare", "--models", "resnet2")
    assert "did you mean digits" in refused(capfd, "train", "--recipe", "digit")
    assert "neither a name (digits, cifar10, cifar100)" in refused(capfd, "train", "--data", "x")
    assert "no optimizer 'adamx'" in refused(capfd, "train", "--optimizer", "adamx")
    assert "No such command" in refused(capfd, "trian")
    assert "No such option" in refused(capfd, "train", "--modle", "x")


def test_bad_numbers(capfd, tmp_path):
    out = ["--out", tmp_path / "run"]
    line = refused(capfd, "train", "--image-size", "18", *out)
    assert "18x18 is no whole number of 4x4 patches; sizes that are: 16x16, 20x20" in line
    assert "--epochs" in refused(capfd, "train", "--epochs", "0", *out)
    assert "batch_size is 9999" in refused(capfd, "train", "--batch-size", "9999", *out)
    assert "no precision 'half'" in refused(capfd, "train", "--precision", "half", *out)
    sizes = ["--per-device", "8", "--batch-size", "8"]
    assert "--per-device, not both" in refused(capfd, "train", *sizes, *out)
    assert "--save-every" in refused(capfd, "train", "--save-every", "0", *out)
    assert not (tmp_path / "run").exists()


def test_a_developer_can_see_where_a_mistake_came_from(monkeypatch):
    monkeypatch.setenv("MIXER_TF_TRACEBACK", "1")
    with pytest.raises(ValueError, match="did you mean mixer_nano"):
        main(["train", "--model", "mixer_nan"])


def test_bad_folders(capfd, tmp_path, picture_folder):
    (tmp_path / "empty").mkdir()
    assert "pictures of 0 classes" in refused(capfd, "train", "--data", tmp_path / "empty")
    root = picture_folder(classes=("cat",))
    assert "pictures of 1 classes" in refused(capfd, "train", "--data", root)
    (root / "dog").mkdir()
    (root / "dog" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    assert "dog/bad.png cannot be read" in refused(capfd, "train", "--data", root)


def test_no_network_and_no_cifar(capfd, monkeypatch, tmp_path):
    """A home folder without Keras's cache, and addresses that lead nowhere."""
    monkeypatch.delenv("MIXER_TF_DATA_DIR", raising=False)
    nowhere = "http://127.0.0.1:9"
    result = run(
        *("train", "--data", "cifar10", "--out", tmp_path / "run"),
        KERAS_HOME=str(tmp_path), HOME=str(tmp_path), https_proxy=nowhere, HTTPS_PROXY=nowhere,
    )  # fmt: skip
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert "set MIXER_TF_DATA_DIR" in result.stderr
    assert "--data digits" in result.stderr


def test_an_out_that_is_taken(capfd, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert "holds another run" in refused(capfd, "train", "--out", tmp_path)
    assert "is not empty" in refused(capfd, "compare", "--out", tmp_path)
    assert "--resume needs --out" in refused(capfd, "train", "--resume")
    (tmp_path / "file").write_text("")
    assert "is a file" in refused(capfd, "train", "--out", tmp_path / "file")
    assert "holds no run" in refused(capfd, "evaluate", tmp_path / "nothing")


def test_compare_then_evaluate_then_resume(capfd, tmp_path, picture_folder):
    """The whole way, on a folder of pictures: blue ones and red ones."""
    root = picture_folder(size=(16, 16), per_class=40)
    for name, colour in (("cat", (200, 40, 40)), ("dog", (40, 40, 200))):
        for file in (root / name).iterdir():
            Image.blend(Image.open(file), Image.new("RGB", (16, 16), colour), 0.7).save(file)
    out = tmp_path / "all of them"
    flags = ["--data", root, "--image-size", 18, "--epochs", 3, "--batch-size", 4, "--out", out]
    result = run("compare", "--models", "mixer_cifar_2", "resnet20", *flags)
    assert result.returncode == 0, result.stderr
    assert "port.cc" not in result.stderr  # TensorFlow's start-up lines
    assert result.stdout.startswith("| model | weights |")
    with Image.open(out / "comparison.png") as picture:
        assert picture.size[0] > 1000
    table = (out / "comparison.md").read_text()
    for name in ("mixer_cifar_2", "resnet20"):
        found = json.loads((out / name / "result.json").read_text())
        assert found["test_accuracy"] == 1.0
        assert f"{found['parameters']:,}" in table
        assert found["command"].startswith("python -m mixer_tf compare --models mixer_cifar_2")
        assert list((out / name).glob("events.out.tfevents.*"))

    main(["evaluate", str(out / "mixer_cifar_2")])
    assert "accuracy 100.00 ± 0.00 %" in capfd.readouterr().out
    kept = json.loads((out / "mixer_cifar_2" / "result.json").read_text())
    assert evaluate(out / "mixer_cifar_2")["loss"] == kept["test_loss"]
    line = refused(capfd, "evaluate", out / "mixer_cifar_2", "--data", "digits")
    assert "digits has 10 others" in line
    main(["compare", "--models", "mixer_cifar_2", "resnet20", "--out", str(out), "--resume"])
    assert capfd.readouterr().out.startswith(table)
    line = refused(capfd, "compare", "--out", out, "--resume")  # not those two
    assert "compares mixer_cifar_2, resnet20, and --models says mixer_nano, resnet20" in line

    line = refused(capfd, "compare", "--out", out / "resnet20", "--resume")
    assert "holds a single run: train --resume" in line
    assert "holds no comparison" in refused(capfd, "compare", "--out", tmp_path / "ou", "--resume")
    with pytest.raises(ValueError, match="began with another recipe"):
        compare(["resnet20"], load_data(root, (18, 18)), RECIPES["quick"], out, resuming=True)
    with pytest.raises(ValueError, match="is a file"):
        compare(["resnet20"], load_data(root, (18, 18)), RECIPES["quick"], out / "comparison.md")
    with pytest.raises(ValueError, match="No model is given"):
        compare([], load_data(root, (18, 18)), RECIPES["quick"], out / "none")

    # The flags it began with may stand there again, others may not.
    again = ["--models", "mixer_cifar_2", "resnet20", "--resume", *flags]
    main(["compare", *map(str, again)])
    assert capfd.readouterr().out.startswith(table)
    run_folder = out / "mixer_cifar_2"
    for command, said in (
        (["compare", *again, "--epochs", 4], "has epochs 3, the command says 4"),
        (["compare", *again, "--recipe", "cifar"], "has augmentation"),
        (["train", "--resume", "--out", run_folder, "--batch-size", 8], "has batch_size 4"),
        (["train", "--resume", "--out", run_folder, "--seed", 1], "has seed 0, the command says 1"),
        (["train", "--resume", "--out", run_folder, "--model", "resnet20"], "mixer_cifar_2"),
        (["train", "--resume", "--out", run_folder, "--image-size", 9], "has image_size 18"),
        (
            ["train", "--resume", "--out", run_folder, "--validation-fraction", 0.5],
            "has validation_fraction 0.1, the command says 0.5",
        ),
    ):
        line = refused(capfd, *command)
        assert said in line
        assert "keeps what it began with" in line
        assert f"(--pretrained '{run_folder}' takes its weights)" in line
    moved = root.rename(root.with_name("moved"))
    assert "moved" not in refused(capfd, "train", "--resume", "--out", run_folder)
    main(["train", "--resume", "--out", str(run_folder), "--data", str(moved)])
    # Other pictures of these classes, of which a tenth are held out to test on.
    (moved / "cat" / "39.png").rename(moved / "cat" / "00.png")
    capfd.readouterr()
    main(["evaluate", str(run_folder), "--data", str(moved)])
    assert "8 test pictures" in capfd.readouterr().out


@pytest.fixture
def told(monkeypatch):
    """What a training command asks for; nothing is trained."""
    asked = {}

    def stop(*arguments, **options):
        asked.update(recipe=arguments[2], options={"out": arguments[3], **options})
        ask.data = arguments[1]
        raise ValueError("enough")

    monkeypatch.setattr("mixer_tf.train.train", stop)
    monkeypatch.setattr("mixer_tf.compare.compare", stop)

    def ask(*words):
        with pytest.raises(SystemExit):
            main([str(word) for word in words])
        return asked["recipe"], asked["options"]

    return ask


def test_models_that_have_not_begun_take_what_the_others_have(told, tmp_path):
    kept = Recipe(epochs=7, optimizer="adamw", learning_rate=0.003, batch_size=96)
    config = RunConfig(
        *("mixer_nano", (16, 16, 1), tuple("0123456789"), "digits", kept, 5, "float32"),
        command="",
        pretrained="before",
    )
    Run.create(tmp_path / "mixer_nano", config)
    recipe, options = told("compare", "--out", tmp_path, "--resume")
    assert recipe == kept
    known = {name: options[name] for name in ("seed", "precision", "pretrained", "image_size")}
    assert known == {"seed": 5, "precision": "float32", "pretrained": "before", "image_size": None}


def test_a_size_that_was_asked_for_is_every_models(told, tmp_path):
    """Also of those that had not begun when the comparison was stopped."""
    recipe = Recipe()
    about = ("mixer_nano", (24, 24, 1), tuple("0123456789"), "digits", recipe, 5, "auto", "")
    Run.create(tmp_path / "mixer_nano", RunConfig(*about, asked_size=(24, 24)))
    words = ["compare", "--models", "mixer_nano", "resnet20", "--out", tmp_path, "--resume"]
    _, options = told(*words)
    assert options["image_size"] == (24, 24)
    config = Run.open(tmp_path / "mixer_nano").config()
    assert config == RunConfig(*about, asked_size=(24, 24))


def test_each_model_reads_pictures_at_the_size_it_sees(told, tmp_path, picture_folder):
    root = picture_folder(size=(40, 40))
    Image.open(root / "cat" / "0.png").resize((24, 20)).save(root / "cat" / "0.png")
    models = ["mixer_cifar_2", "mixer_s32", "resnet20"]
    told("compare", "--data", root, "--models", *models, "--out", tmp_path / "all")
    shapes = {name: data.image_shape for name, data in told.data.items()}
    larger = (224, 224, 3)
    assert shapes == {"mixer_cifar_2": (72, 72, 3), "mixer_s32": larger, "resnet20": larger}


def test_data_is_kept_as_a_path_from_everywhere(told, tmp_path, picture_folder, monkeypatch):
    root = picture_folder()
    monkeypatch.chdir(root.parent)
    told("train", "--data", root.name, "--out", tmp_path / "run")
    assert told.data.source == str(root)
    told("train", "--out", tmp_path / "run")
    assert told.data.source == "digits"


def test_weights_to_begin_with_are_kept_as_a_path_from_everywhere(told, tmp_path, monkeypatch):
    (tmp_path / "google.npz").touch()
    monkeypatch.chdir(tmp_path)
    words = ["train", "--model", "mixer_nano", "--pretrained", "google.npz", "--data", "digits"]
    _, options = told(*words, "--out", "run")
    assert options["pretrained"] == str(tmp_path / "google.npz")
    _, options = told("train", "--pretrained", "mixer_b16_in1k", "--out", "run")
    assert options["pretrained"] == "mixer_b16_in1k"


def test_what_one_of_several_models_cannot_do_is_said_before_the_first_is_trained(capfd, tmp_path):
    words = ["compare", "--out", tmp_path / "out", "--models", "mixer_nano"]
    line = refused(capfd, *words, "mixer_cifar_2", "--image-size", "32")
    assert "32x32 is no whole number of 9x9 patches" in line
    line = refused(capfd, *words, "resnet20", "--freeze", "stem")
    assert "resnet20 is no Mixer, and freeze is for Mixers only" in line
    line = refused(capfd, *words, "resnet20", "--pretrained", FOLDER / "mixer_nano_7-cifar10")
    assert "holds mixer_nano_7, not resnet20; give --model mixer_nano_7, or another run" in line
    assert not (tmp_path / "out").exists()


def test_a_file_of_the_same_name_as_the_callbacks(monkeypatch, tmp_path, digits):
    other = types.ModuleType("callbacks")
    other.__file__ = str(tmp_path / "callbacks.py")
    monkeypatch.setitem(sys.modules, "callbacks", other)
    with pytest.raises(ValueError, match=r"callbacks\.py hides"):
        tensorboard_callbacks(Run(tmp_path), digits)


def test_a_resumed_fine_tuning_may_name_its_model(told, capfd, tmp_path):
    """At another size its model is a config, which has no name."""
    config = MixerConfig(1, 8, 8, 8, 4)
    classes = tuple("0123456789")
    recipe = Recipe(epochs=2)
    Run.create(tmp_path, RunConfig(config, (16, 16, 1), classes, "digits", recipe, 0, "auto", ""))
    words = ["train", "--resume", "--out", str(tmp_path), "--model", "mixer_b16"]
    line = refused(capfd, *words, "--epochs", "3")
    assert "has epochs 2, the command says 3" in line  # and not of the model


def test_flags_change_the_recipe_that_is_named(told, tmp_path):
    out = ["--out", tmp_path / "run"]
    recipe, _ = told("train", "--recipe", "cifar", "--epochs", 3, *out)
    assert recipe.warmup_epochs == pytest.approx(0.15)  # its share of the run, as in 5 of 100
    recipe, _ = told("train", "--per-device", 96, "--accumulate", 3, "--shares", 8, *out)
    assert (recipe.batch_size, recipe.accumulate, recipe.shares) == (96, 3, 8)
    assert recipe.learning_rate == pytest.approx(2e-3 * (96 / 64) ** 0.5)
    recipe, _ = told("train", "--per-device", 96, "--learning-rate", 0.5, *out)
    assert recipe.learning_rate == 0.5  # as it was said
    flags = ["--optimizer", "sgd", "--learning-rate", 0.1, "--weight-decay", 0.005]
    recipe, options = told("train", *flags, *out)
    assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay) == ("sgd", 0.1, 0.005)
    assert options["save_every"] == 0
    assert told("train", "--save-every", 7, *out)[1]["save_every"] == 7
    told("train", "--seed", 3, *out)
    assert told.data.split == (0.1, 3)
    told("train", "--seed", 3, "--validation-fraction", 0.25, *out)
    assert told.data.split == (0.25, 3)
    assert len(told.data.validation) == pytest.approx(0.25 * 1_438, abs=5)  # by whole pictures


def test_several_hosts_are_told_to_name_one_folder(capfd, monkeypatch):
    monkeypatch.setattr("mixer_tf.command_line.plan._is_one_of_several", lambda: True)
    assert "Several hosts need --out" in refused(capfd, "train", "--data", "digits")


def test_without_out_a_new_folder_is_taken(told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    taken = []
    for _ in range(3):
        _, options = told("train", "--model", "resnet20")
        options["out"].mkdir(parents=True)
        taken.append(str(options["out"]))
    assert taken == [f"runs/digits-resnet20{more}" for more in ("", "-2", "-3")]


def test_a_rate_belongs_to_its_optimizer(capfd, tmp_path):
    out = ["--out", tmp_path / "run"]
    line = refused(capfd, "train", "--recipe", "quick", "--optimizer", "adamw", *out)
    assert "has a learning rate for muon, 0.01; with --optimizer adamw give --learning-rate" in line
    line = refused(capfd, "train", "--optimizer", "sgd", *out)
    assert "The recipe digits has a learning rate for adamw, 0.002" in line
    assert "--learning-rate" in refused(capfd, "train", "--learning-rate", "0", *out)
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_sees_pictures_of_its_own_size(monkeypatch, tmp_path, picture_folder):
    """Also where a folder's pictures differ in size, so that they are resized as they are read."""
    root = picture_folder(size=(40, 40))
    Image.open(root / "cat" / "0.png").resize((24, 20)).save(root / "cat" / "0.png")
    config = RunConfig(
        *("mixer_nano", (24, 24, 3), ("cat", "dog"), str(root), Recipe(), 0, "float32", ""),
        save_every=5,
    )
    Run.create(tmp_path / "run", config)
    seen = {}

    def stop(out, data, **options):
        seen.update(options, shape=data.image_shape)
        raise ValueError("enough")

    monkeypatch.setattr("mixer_tf.train.resume", stop)
    with pytest.raises(SystemExit):
        main(["train", "--resume", "--save-every", "7", "--out", str(tmp_path / "run")])
    assert seen["shape"] == (24, 24, 3)
    assert (seen["save_every"], seen["own_process"], callable(seen["callbacks"])) == (7, True, True)
    with pytest.raises(SystemExit):
        main(["train", "--resume", "--out", str(tmp_path / "run")])
    assert seen["save_every"] == 5  # as it began


def test_several_models_stand_once(capfd):
    assert "stands twice" in refused(
        capfd, "compare", "--models", "resnet20", "resnet20", "--out", "never"
    )


def test_a_lost_worker_ends_the_command_with_75(monkeypatch, capfd):
    """By which clusters know that the worker is to be started again."""

    def lost(*_):
        raise WorkerLost("another worker has ended")

    monkeypatch.setattr("mixer_tf.command_line.training.make_plan", lost)
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as stopped:
        main(["train"])
    assert stopped.value.code == 75
    assert capfd.readouterr().err == "mixer_tf: another worker has ended\n"


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes.")]
)
def test_memory_that_is_full_is_one_line(monkeypatch, capfd, error):
    def full(*_):
        raise error

    monkeypatch.setattr("mixer_tf.command_line.training.make_plan", full)
    assert "The memory is full (" in refused(capfd, "train")


def test_only_trainings_wait_for_other_hosts(monkeypatch):
    joined = []
    monkeypatch.setattr(hosts, "join", lambda: joined.append(1))
    load_backend()
    assert not joined
    load_backend(training=True)
    assert joined


def test_commands_do_not_warn_that_another_model_is_compiled():
    load_backend(training=True)
    assert not logging.getLogger("tensorflow").isEnabledFor(logging.WARNING)


def test_models_that_have_not_begun_have_the_pictures_of_the_first(tmp_path, digits, monkeypatch):
    """Also where that was begun in Python, by another share."""
    about = (digits.image_shape, digits.class_names, "digits", RECIPES["digits"], 7, "float32", "")
    config = RunConfig("mixer_nano", *about, split=(0.25, 7))
    Run.create(tmp_path / "mixer_nano", config)
    seen = {}

    def compare(names, data, recipe, out, **options):
        seen.update(data)
        (out / "comparison.md").write_text("table")

    monkeypatch.setattr("mixer_tf.compare.compare", compare)
    main(["compare", "--models", "mixer_nano", "resnet20", "--resume", "--out", str(tmp_path)])
    assert seen["mixer_nano"] is seen["resnet20"]
    assert seen["resnet20"].split == (0.25, 7)
    assert len(seen["resnet20"].validation) > 350  # of 1,438


def test_what_the_commands_show_in_tensorboard(tmp_path, digits):
    def shown(model):
        recipe = Recipe(epochs=120)
        config = RunConfig(
            model, (16, 16, 1), digits.class_names, "digits", recipe, 0, "float32", ""
        )
        made = tensorboard_callbacks(Run.create(tmp_path / model, config), digits)
        pictures = [callback.labels for callback in made if hasattr(callback, "labels")]
        assert [len(labels) for labels in pictures] == [len(digits.validation)] * 2  # not of test
        return {type(callback).__name__: callback for callback in made}

    plain = {"Confusion", "Curves", "EmbeddingProjector", "PatchProjections", "Throughput"}
    assert set(shown("resnet20")) == plain
    mixer = shown("mixer_nano")
    assert set(mixer) == plain | {"TokenMixing"}
    assert (mixer["TokenMixing"].every, mixer["Throughput"].batch_size) == (3, 128)


def test_the_table_of_a_comparison_has_what_was_measured():
    result = {"parameters": 1234, "test_accuracy": 0.5, "test_standard_error": 0.01}
    result |= {"best_val_accuracy": 0.7, "train_seconds": 12.3, "images_per_second": 120.0}
    *_, row = table([{"name": "a", "macs": 2e6, "result": result}]).splitlines()
    assert row == "| a | 1,234 | 2.0 M | 50.00 ± 1.00 % | 12 s | 120 |"
