"""What is written about the code is there, and what it speaks of exists."""

import inspect
import pathlib
import re
import shlex

import pytest

import callbacks
import mixer_tf
from mixer_tf import cli
from mixer_tf.recipes import RECIPES

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("weights/*/*.md")]
PUBLIC = [(room, name) for room in (mixer_tf, callbacks) for name in room.__all__]


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text("utf-8")
    headings = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, heading = target.partition("#")
        assert (page.parent / path).exists(), target
        assert path or heading in headings, target


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
        command.make_context(name, words)


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
