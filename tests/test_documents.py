"""What is written about the code is there, and what it speaks of exists."""

import ast
import base64
import importlib
import inspect
import json
import pathlib
import re
import shlex

import pytest

import callbacks
import mixer_tf
from mixer_tf import cli
from mixer_tf.recipe import OPTIMIZERS
from mixer_tf.recipes import RECIPES
from mixer_tf.zoo import MODELS

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("weights/*/*.md")]
ROOMS = {
    str(path.relative_to(ROOT / "mixer_tf").with_suffix(""))
    for path in (ROOT / "mixer_tf").glob("**/[a-z]*.py")
}
PUBLIC = [(room, name) for room in (mixer_tf, callbacks) for name in room.__all__]


def test_the_map_names_every_room_once():
    rows = [row for row in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if row[:3] == "| `"]
    named = []
    for row in rows:
        folder, names = re.fullmatch(r" (?:`(\w+/)` )?(.*) ", row.split("|")[1]).groups()
        named += [(folder or "") + name for name in re.findall(r"`(\w+)`", names)]
    assert sorted(named) == sorted(ROOMS)


@pytest.mark.parametrize(("room", "name"), PUBLIC)
def test_a_public_name_is_documented(room, name):
    """With what it takes, and each method that it does not have from a base of Keras."""
    value = getattr(room, name)
    if not callable(value):
        return
    text = inspect.getdoc(value) or ""
    assert text, name
    if not inspect.isclass(value):
        for parameter in inspect.signature(value).parameters:
            assert re.search(rf"\b{parameter}\b", text), f"{name} does not say what {parameter} is"
        return
    for member, method in inspect.getmembers(value):
        ours = not (
            member.startswith("_") or any(hasattr(base, member) for base in value.__bases__)
        )
        if ours and (inspect.isroutine(method) or isinstance(method, property)):
            assert inspect.getdoc(method), f"{name}.{member}"


def headings_of(page):
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, heading = target.partition("#")
        assert (page.parent / path).exists(), target
        assert not heading or heading in headings_of(page.parent / path if path else page), target


def commands_of(page):
    """Every `python -m mixer_tf ...` in its blocks of code."""
    for block in re.findall(
        r"^```\w*\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
    ):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.search(r"-m mixer_tf (\w+.*?)( &&.*)?$", line)
            if found:
                yield shlex.split(found[1], comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_ones_that_exist(page):
    """Parsed, not run: a name or a flag that is not there fails."""
    for name, *words in commands_of(page):
        command = cli.commands.commands[name]
        flags = command.make_context(name, words).params
        models = {flags.get("model"), *flags.get("names", ()), *flags.get("more", ())} - {None}
        assert models <= set(MODELS)
        assert flags.get("recipe") in (None, *RECIPES)
        assert flags.get("optimizer") in (None, *OPTIMIZERS)


def test_the_pages_have_commands():
    assert sum(len(list(commands_of(page))) for page in PAGES) > 15


def test_the_table_of_recipes_is_what_they_are():
    row = r"^\| `(\w+)` \| [^|]* \| ([\d,]+)( steps)? \| ([\d,]+) \| (\w+), ([\d.]+)"
    rows = re.findall(row, (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert {name for name, *_ in rows} == set(RECIPES)
    for name, length, steps, batch, optimizer, rate in rows:
        recipe = RECIPES[name]
        assert int(length.replace(",", "")) == (recipe.steps if steps else recipe.epochs), name
        assert int(batch.replace(",", "")) == recipe.batch_size, name
        assert (optimizer.lower(), float(rate)) == (recipe.optimizer, recipe.learning_rate), name


def test_the_table_of_models_is_what_they_are():
    """Every count of weights, in the order of the names."""
    text = (ROOT / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| (`\w+`.*?) \| ([\d,]+.*?) \|.*$", text, re.MULTILINE)
    listed = {}
    for cells, counts in rows:
        first, *others = re.findall(r"`(\w+)`", cells)
        names = [first] + [n if n in MODELS else first.rsplit("_", 1)[0] + n for n in others]
        found = re.findall(r"[\d,]{6,}", counts)
        if first in MODELS and len(found) == len(names):
            listed.update(zip(names, found))
    assert {name: f"{entry.weights:,}" for name, entry in MODELS.items()} == listed


def test_the_table_of_trained_weights_is_that_of_the_results():
    text = (ROOT / "README.md").read_text("utf-8").split("## Trained weights")[1]
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d,]+) \| `(\w+)`[^|]*?, (\d+) epochs[^|]*\| (.*?) \| (.*?) \|",
        text,
        re.MULTILINE,
    )
    results = (ROOT / "benchmarks" / "results.md").read_text("utf-8")
    assert len(rows) == len(re.findall(r"^\| `", text.split("\n## ")[0], re.MULTILINE)) >= 4
    for model, weights, recipe, epochs, accuracy, minutes in rows:
        start = f"| {model} | {weights} | {epochs} | {accuracy} | {minutes} |"
        found = [line for line in results.splitlines() if line.startswith(start)]
        assert len(found) == 1, start
        assert f"--recipe {recipe} " in found[0]


def test_what_recipes_say_of_themselves_is_in_the_results():
    results = (ROOT / "benchmarks" / "results.md").read_text("utf-8")
    said = [
        (name, found)
        for name, recipe in RECIPES.items()
        for found in re.findall(
            r"`(\w+)` \([\d,]+ weights(?: trained)?\):\s+([\d.]+ ± [\d.]+ %)", type(recipe).__doc__
        )
    ]
    assert len(said) >= 5
    for name, (model, accuracy) in said:
        row = rf"^\| {model} \| .* \| {re.escape(accuracy)} \| .*--recipe {name} "
        assert re.search(row, results, re.MULTILINE), (name, model, accuracy)


def test_the_picture_of_fine_tuning_is_that_of_the_notebook():
    cells = json.loads((ROOT / "notebooks" / "4_fine_tune.ipynb").read_text("utf-8"))["cells"]
    drawn = [
        base64.b64decode(output["data"]["image/png"])
        for cell in cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert (ROOT / "assets" / "fine_tuning.png").read_bytes() in drawn


def python_blocks():
    for page in PAGES:
        text = page.read_text("utf-8")
        for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            yield pytest.param(block, id=f"{page.stem}: {block.splitlines()[0]}")


@pytest.mark.parametrize("block", list(python_blocks()))
def test_python_on_the_pages_calls_what_exists_as_it_can_be_called(block):
    """Read, not run: names are looked up, arguments bound to signatures."""
    known, ours, checked = {}, {"mixer_tf": mixer_tf, "callbacks": callbacks}, 0
    named = {node.id for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Name)}
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Import):
            names = [alias.asname or alias.name.split(".")[0] for alias in node.names]
            known |= {name: ours[name] for name in names if name in ours}
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ours:
            room = importlib.import_module(node.module)
            known |= {alias.name: getattr(room, alias.name) for alias in node.names}
            checked += 1
    assert named & ours.keys() <= known.keys(), "the import is missing"
    for node in ast.walk(ast.parse(block)):
        if not isinstance(node, ast.Call):
            continue
        *path, name = ast.unparse(node.func).split(".")
        room = known.get(path[0]) if path else known
        value = room.get(name) if room is known else getattr(room, name) if room else None
        if value is not None:
            names = {keyword.arg: None for keyword in node.keywords}
            inspect.signature(value).bind(*node.args, **names)
            checked += 1
    assert checked or "mixer_tf" not in block
