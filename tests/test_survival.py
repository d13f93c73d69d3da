"""What a run directory is after a kill, a full disk, damage, or a second process."""

import dataclasses
import errno
import fcntl
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time

import h5py
import keras
import numpy as np
import pytest
from helpers import ROOT, refused, run_python
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_tf import MixerConfig, run_config, runs
from mixer_tf.recipe import Recipe
from mixer_tf.run_config import RunConfig
from mixer_tf.runs import Run
from mixer_tf.storage import files, h5
from mixer_tf.storage.lock import only_one
from mixer_tf.training.saving import SaveState
from mixer_tf.training.state import load_newest, load_state, save_state

CONFIG = RunConfig(
    MixerConfig(1, 8, 4, 16, (4, 4)), (8, 8, 1), ("a", "b"), "digits", Recipe(), 0,
    "float32", "",
)  # fmt: skip


@pytest.fixture(scope="module")
def model():
    """Compiled, with the optimizer's variables."""
    made = CONFIG.build()
    made.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy")
    made.optimizer.build(made.trainable_variables)
    return made


def progress(step):
    return {"step": step, "seconds": 0.0, "history": []}


def save(run, model, step):
    """A state in which every weight is the number of its step."""
    fill(model, step)
    save_state(run.state_file, model, progress(step), run.previous_state_file)


def fill(model, number):
    for variable in model.trainable_variables:
        variable.assign(np.full(variable.shape, number))


def assert_filled(model, number):
    assert all((np.asarray(v) == number).all() for v in model.trainable_variables)


def loaded(run, model):
    """The step of the newest state, after comparing the weights with it."""
    fill(model, -1)  # what was saved last is still in the model
    step = load_newest(run, model)["step"]
    assert_filled(model, step)
    return step


class Killed(BaseException):
    """Stands for the moment at which a process is no more."""


def test_killed_at_every_operation_of_a_save(tmp_path, model, monkeypatch):
    """Each call that changes the folder is the last one of a process once."""
    run, count = Run(tmp_path), 0

    def killed_before(name):
        original = getattr(os, name)

        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return original(*arguments, **options)

        return call

    save(run, model, 1)
    save(run, model, 2)
    step = 2
    for operations in range(20):
        left = operations
        with monkeypatch.context() as patch:
            for name in ("fsync", "replace", "unlink"):  # the last: a killed process tidies nothing
                patch.setattr(os, name, killed_before(name))
            try:
                save(run, model, step + 1)
            except Killed:
                count += 1
                assert loaded(run, model) in (step, step + 1)
                continue
        break
    assert count >= 4  # two syncs, two renames
    assert loaded(run, model) == step + 1


def test_a_file_that_cannot_be_read_is_not_one_that_cannot_be_written(tmp_path):
    def write(path, source):
        with files.replacing(path) as beside:
            beside.write_bytes(pathlib.Path(source).read_bytes())

    with pytest.raises(FileNotFoundError, match="/nowhere/else") as caught:
        write(tmp_path / "figure.png", "/nowhere/else")
    assert "figure" not in str(caught.value)
    with pytest.raises(OSError, match="figure.png cannot be written .*Make room"):
        write(tmp_path / "gone" / "figure.png", __file__)


WRITER = """
import pathlib, sys
sys.path.insert(0, {root!r})
from mixer_tf.storage import files
for n in range(10**9):
    with files.replacing(pathlib.Path({path!r})) as beside:
        beside.write_bytes(bytes([n % 256]) * 2_000_000)
"""


def test_a_writer_killed_again_and_again(tmp_path):
    """Real processes, real kills, at any moment: the file is whole every time."""
    draws, path, unfinished = random.Random(0), tmp_path / "state", 0
    for _ in range(15):
        code = WRITER.format(root=str(ROOT), path=str(path))
        process = subprocess.Popen([sys.executable, "-c", code])
        while not path.exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(draws.uniform(0.05, 0.2))
        process.kill()
        process.wait()
        content = path.read_bytes()
        assert len(content) == 2_000_000
        assert len(set(content)) == 1
        unfinished += len(list(tmp_path.glob(".writing-*")))
        path.unlink()
        files.remove_unfinished(tmp_path, [path.name])
        assert list(tmp_path.iterdir()) == []
    assert unfinished  # else no kill fell into a writing


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone"])
def test_a_damaged_newest_state_is_told_and_the_one_before_used(tmp_path, model, damage, capfd):
    run = Run(tmp_path)
    save(run, model, 1)
    save(run, model, 2)
    content = bytearray(run.state_file.read_bytes())
    content[len(content) // 2] ^= 1
    pieces = {"cut": content[: len(content) // 2], "flip": content, "empty": b""}
    if damage == "gone":
        run.state_file.unlink()
    else:
        run.state_file.write_bytes(pieces[damage])
    assert loaded(run, model) == 1
    errors = capfd.readouterr().err
    if damage != "gone":
        assert "state.npz is damaged" in errors
        assert "The state before it, of step 1, is used." in errors
        run.previous_state_file.write_bytes(b"PK")
        fill(model, -1)
        with pytest.raises(ValueError, match=r"No state before it .* another --out"):
            load_newest(run, model)
        assert_filled(model, -1)


def test_a_damaged_state_does_not_take_the_place_of_the_good_one(tmp_path, model):
    """The one before it is all there is until the next is written."""
    run = Run(tmp_path)
    save(run, model, 1)
    save(run, model, 2)
    run.state_file.write_bytes(b"PK")
    found = load_newest(run, model)
    assert (found["step"], found["damaged"]) == (1, True)
    saver = SaveState(run, 10, [], lambda: 0.0, 3, damaged=found["damaged"])
    saver.set_model(model)
    good = run.previous_state_file.read_bytes()
    saver.save()
    assert run.previous_state_file.read_bytes() == good
    assert load_newest(run, model)["step"] == 3
    written = run.state_file.read_bytes()
    saver.save()
    assert run.previous_state_file.read_bytes() == written  # from then on as ever


@pytest.fixture
def limited():
    """Bytes after which every file is full, as a disk is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_hosts_with_the_same_process_number_write_beside_each_other(tmp_path):
    """As in containers, where every process is number 1."""
    with files.replacing(tmp_path / "file") as one, files.replacing(tmp_path / "file") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_is_full_at_any_byte(tmp_path, model, limited):
    run = Run(tmp_path)
    save(run, model, 1)
    rows = [{"epoch": i, "loss": i / 3} for i in range(99)]
    run.write_history(rows)
    files.write_json(run.result_file, {"rows": rows})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    writers = {
        run.state_file: lambda: save_state(
            run.state_file, model, progress(2), run.previous_state_file
        ),
        run.history_file: lambda: run.write_history([*rows, {"epoch": 99}]),
        run.result_file: lambda: files.write_json(run.result_file, {"rows": rows * 2}),
    }
    points = 0
    for path, write in writers.items():
        size = len(before[path.name])
        for limit in sorted({0, 1, size - 1, *range(0, size, max(1, size // 30))}):
            limited(limit)
            with pytest.raises(OSError, match=f"{path.name} cannot be written .* is whole") as full:
                write()
            limited(resource.RLIM_INFINITY)
            points += 1
            assert full.value.errno == errno.EFBIG
            assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert points > 90
    assert loaded(run, model) == 1


def test_weights_come_without_the_optimizer(tmp_path, model):
    """Its variables are the state's; a file of weights is as large as the weights."""
    assert model.optimizer.variables
    path = tmp_path / "w.weights.h5"
    h5.save_weights(model, path)
    with h5py.File(path) as file:
        assert "optimizer" not in file
    kept = [np.array(w) for w in model.get_weights()]
    optimizer = model.optimizer
    model.set_weights([w + 1 for w in kept])
    h5.load_weights(model, path)
    for now, then in zip(model.get_weights(), kept):
        np.testing.assert_array_equal(now, then)
    assert model.optimizer is optimizer


def test_room_for_weights_is_tried_before(tmp_path, model, limited):
    """HDF5 itself ends with a segmentation fault where it can write no more."""
    path = tmp_path / "w.weights.h5"
    h5.save_weights(model, path)
    before = path.read_bytes()
    for size in range(100, len(before), len(before) // 7):
        limited(size)
        with pytest.raises(OSError, match=r"cannot be written \(File too large\)"):
            h5.save_weights(model, path)
        limited(resource.RLIM_INFINITY)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_gone_or_read_only(tmp_path, model, monkeypatch):
    run = Run(tmp_path / "run")
    with pytest.raises(OSError, match=r"state.npz cannot be written \(No such file"):
        save(run, model, 1)
    run.folder.mkdir()
    save(run, model, 1)

    def read_only(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", read_only)
        with pytest.raises(OSError, match=r"cannot be written \(Read-only file system\)"):
            save(run, model, 2)
    assert loaded(run, model) == 1
    assert sorted(p.name for p in run.folder.iterdir()) == ["state.npz"]


def test_a_run_whose_folder_is_deleted_goes_on(tmp_path, capfd):
    run = Run.create(tmp_path / "run", CONFIG)
    with run.alone():
        shutil.rmtree(run.folder)
        run.ensure()
        assert "run was deleted while it was trained in" in capfd.readouterr().err
        assert run.config() == CONFIG
        run.ensure()
        assert not capfd.readouterr().err


def test_a_run_that_took_the_place_of_a_deleted_one_is_left_alone(tmp_path):
    """Also by a training whose folder it was, and which is still at work."""
    run = Run.create(tmp_path / "run", CONFIG)
    other = dataclasses.replace(CONFIG, seed=1)
    with run.alone():
        shutil.rmtree(run.folder)
        Run.create(run.folder, other)
        with pytest.raises(ValueError, match="holds another run by now"):
            run.ensure()
    assert [path.name for path in run.folder.iterdir()] == ["config.json"]
    assert run.config() == other


def test_who_has_the_lock_of_a_folder_made_again_keeps_it(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    with run.alone():
        shutil.rmtree(run.folder)
        with Run.create(run.folder, CONFIG).alone():
            with pytest.raises(ValueError, match="in use by process"):
                run.ensure()
            assert (run.folder / ".lock").exists()
    assert [path.name for path in run.folder.iterdir()] == ["config.json"]


HOLDER = """
import sys, time
sys.path.insert(0, {root!r})
from mixer_tf.storage.lock import only_one
with only_one({folder!r}):
    print("in", flush=True)
    time.sleep(60)
"""


def test_one_process_a_folder(tmp_path, capfd):
    run = Run.create(tmp_path / "run", CONFIG)
    code = HOLDER.format(root=str(ROOT), folder=str(run.folder))
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "in\n"
    with pytest.raises(ValueError, match=f"in use by process {holder.pid}; .* another --out"):
        only_one(run.folder).__enter__()
    holder.kill()
    holder.communicate()
    assert (run.folder / ".lock").exists()  # left by the one that was killed
    with run.alone():
        pass
    assert sorted(p.name for p in run.folder.iterdir()) == ["config.json"]


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    """As an export is."""

    def fail():
        with files.new_folder(tmp_path / "out") as beside:
            beside.mkdir()
            (beside / "a").write_text("half")
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail()
    assert not list(tmp_path.iterdir())
    with files.new_folder(tmp_path / "out") as beside:
        (beside / "variables").mkdir(parents=True)
        (beside / "variables" / "a").write_text("whole")
        assert not (tmp_path / "out").exists()
        files.remove_unfinished(tmp_path, ["config.json"])  # a training that begins here
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "variables" / "a").read_text() == "whole"


def test_a_run_killed_as_it_began_is_no_obstacle(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".lock").write_text("1\n")
    (folder / ".writing-1-config.json").write_text("{")
    (folder / ".writing-2-saved_model" / "variables").mkdir(parents=True)  # an export
    run = Run.create(folder, CONFIG)
    with run.alone():
        left = [".lock", ".writing-2-saved_model", "config.json"]  # it may be going on
        assert sorted(p.name for p in folder.iterdir()) == left
    assert run.config() == CONFIG


KILLS = """
import sys
sys.path.insert(0, "benchmarks")
import kills
from mixer_tf.runtime import Runtime

Runtime.jit_compile = lambda self, has_convolutions: False  # by each of its three processes
kills.main()
"""


def test_killed_and_resumed_is_identical():
    """The whole of it once; `python benchmarks/kills.py` does it 50 times."""
    done = run_python(KILLS, "--kills", "1", "--epochs", "2")
    assert done.stdout.splitlines()[-1].startswith("1 of 1 runs identical"), done.stdout


FAILING = """
import sys
import keras
from mixer_tf import MixerConfig, Recipe, load_data
from mixer_tf.recipe import Augmentation
from mixer_tf.runtime import Runtime
from mixer_tf.train import train

class Fail(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 12:
            raise ArithmeticError("enough")

Runtime.jit_compile = lambda self, has_convolutions: False
Runtime.fuses_blocks = False
recipe = Recipe(2, 64, warmup_epochs=0, augmentation=Augmentation(0.1, True, 0.02, 0.2))
model = MixerConfig(1, 4, 2, 4, (8, 8))  # faster than its pictures come
train(model, load_data("digits"), recipe, sys.argv[1], quiet=True, callbacks=lambda run: [Fail()])
"""


def test_a_training_that_fails_ends_its_process(tmp_path):
    """While TensorFlow fetches the next pictures; it used to wait for itself for ever."""
    done = run_python(FAILING, tmp_path / "run", ends_with=1)
    assert done.stderr.strip().endswith("ArithmeticError: enough")


def test_a_second_ctrl_c_does_not_wait(tmp_path, model):
    from mixer_tf.training.saving import SaveState

    saver = SaveState(Run(tmp_path), 10, [], lambda: 0.0)
    before = signal.getsignal(signal.SIGINT)
    saver.on_train_begin()
    try:
        # Not by os.kill, which any thread may take: then Python hears of it later.
        signal.raise_signal(signal.SIGINT)  # the first is kept for the end of the step
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        saver.restore_signal()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_format_of_another_time_names_its_version(tmp_path, capfd):
    run = Run.create(tmp_path / "run", CONFIG)
    values = json.loads(run.config_file.read_text())
    del values["version"]  # as version 0.1.0 first wrote it
    run.config_file.write_text(json.dumps(values))
    assert Run.open(run.folder).config() == CONFIG
    run.result_file.write_text("{}")  # of a run whose weights were deleted
    with pytest.raises(ValueError, match="holds another run"):
        Run.create(run.folder, CONFIG)
    run.config_file.write_text(json.dumps({**values, "format": 7, "version": "3.2.1"}))
    line = refused(capfd, "evaluate", run.folder)
    assert "of format 7, written by mixer_tf 3.2.1; this is" in line


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
NAMES = [f.name for f in dataclasses.fields(RunConfig)]
INNER = [f.name for f in dataclasses.fields(MixerConfig)]


def test_relatives_are_bounded_too(tmp_path):
    about = {"class_names": ("a", "b"), "data": "digits", "seed": 0, "precision": "auto"}
    for side, many in ((224, False), (9984, True)):
        config = RunConfig("resmlp_12", (side, side, 3), recipe=Recipe(), command="", **about)
        run_config.write(tmp_path / "config.json", config)
        if many:
            with pytest.raises(ValueError, match="weights, more than"):
                run_config.read(tmp_path / "config.json")
        else:
            assert run_config.read(tmp_path / "config.json") == config


def test_a_path_of_no_unicode_comes_back(tmp_path):
    values = {"data": "pictures/d\udcff", "class": "\u00fcber"}
    files.write_json(tmp_path / "config.json", values)
    assert files.read_json(tmp_path / "config.json") == values


@settings(max_examples=300, deadline=None, database=None)
@given(data=st.data())
def test_any_config_is_a_run_of_bounded_size_or_one_line(tmp_path_factory, data):
    run = Run(tmp_path_factory.mktemp("config"))
    values = {"format": 1, **json.loads(json.dumps(dataclasses.asdict(CONFIG)))}
    for name in data.draw(st.lists(st.sampled_from(NAMES), max_size=2)):
        values[name] = data.draw(PLAIN)
    if isinstance(values["model"], dict):
        for name in data.draw(st.lists(st.sampled_from(INNER), max_size=3)):
            values["model"][name] = data.draw(st.integers(1, 10**12) | PLAIN)
    run.config_file.write_text(json.dumps(values))
    try:
        config = run.config()
    except ValueError as error:
        lines = str(error).splitlines()
        assert len(lines) == 1, error  # noqa: PT017
        return
    if isinstance(config.model, MixerConfig):
        assert config.model.count_weights(config.input_shape, config.num_classes) <= 10**10


@pytest.mark.parametrize("inside", ["recipe", "model", None])
def test_a_name_that_breaks_lines_does_not_break_the_line(tmp_path, inside):
    """Found by fuzzing: Python's own error quotes the name as it is."""
    run = Run(tmp_path)
    values = {"format": 1, **json.loads(json.dumps(dataclasses.asdict(CONFIG)))}
    (values[inside] if inside else values)["pre\u2028cis\x1cion\n"] = 1
    run.config_file.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"damaged .*pre\\u2028cis\\x1cion") as caught:
        run.config()
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture(scope="module")
def good_state(model, tmp_path_factory):
    """The run of a whole state of step 1, and the bytes of its file."""
    run = Run(tmp_path_factory.mktemp("state"))
    save(run, model, 1)
    return run, run.state_file.read_bytes()


@settings(max_examples=150, deadline=None, database=None)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), drop=st.booleans())
def test_any_damage_of_a_state_is_one_line(good_state, model, place, byte, drop):
    run, content = good_state[0], bytearray(good_state[1])
    at = int(place * len(content))
    content[at : at + 1] = b"" if drop else bytes([byte])
    run.state_file.write_bytes(content)
    fill(model, -1)
    try:
        assert load_state(run.state_file, model)["step"] == 1
    except ValueError as error:
        lines = str(error).splitlines()
        assert len(lines) == 1, error  # noqa: PT017
        assert_filled(model, -1)
    else:
        assert_filled(model, 1)


def test_what_is_synced_can_be_written(tmp_path, monkeypatch):
    """Windows refuses to sync a file that was opened to read alone."""
    synced = []

    def like_windows(handle):
        if stat.S_ISREG(os.fstat(handle).st_mode):
            if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            synced.append(handle)

    monkeypatch.setattr(os, "fsync", like_windows)
    files.write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"
    assert len(synced) == 1


def test_a_run_set_aside_keeps_its_files(tmp_path):
    runs.set_aside(tmp_path / "run")  # nothing there: nothing to do
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.weights.h5").write_bytes(b"hours")
    runs.set_aside(tmp_path / "run")
    (earlier,) = tmp_path.iterdir()
    (kept,) = earlier.iterdir()
    assert kept.name.startswith("run-20")
    assert (kept / "model.weights.h5").read_bytes() == b"hours"
    assert [file.name for file in kept.iterdir()] == ["model.weights.h5"]
    for _ in range(3):  # within a second
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "more").mkdir()
        runs.set_aside(tmp_path / "run")
    assert len(list(earlier.iterdir())) == 4
    (tmp_path / "run").mkdir()
    holder = "import sys, time; from mixer_tf.storage.lock import Lock; Lock(sys.argv[1]).take()"
    command = [sys.executable, "-c", f"{holder}; print(flush=True); time.sleep(60)"]
    with subprocess.Popen([*command, tmp_path / "run"], stdout=subprocess.PIPE, cwd=ROOT) as other:
        other.stdout.readline()
        with pytest.raises(ValueError, match=f"in use by process {other.pid}"):
            runs.set_aside(tmp_path / "run")
        other.kill()
