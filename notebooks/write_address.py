"""Write the repository's address, which stands in pyproject.toml alone, into every notebook.

    python notebooks/write_address.py

In pyproject.toml it is `[project.urls] Repository`. From it follow the badge
below each title and `ADDRESS` in each set-up cell. Where there is none, the badge
says so and the set-up cell clones nothing.
"""

import json
import pathlib
import re
import sys
import tomllib

HERE = pathlib.Path(__file__).parent
_COLAB = "https://colab.research.google.com"
_NO_BADGE = (
    "*Once the repository has an address, the badge that opens this notebook in Colab stands here.*"
)


def notebooks():
    """Paths of all notebooks, in order."""
    return sorted(HERE.glob("[0-9]_*.ipynb"))


def address():
    """The repository's address as pyproject.toml has it; empty where it has none."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))["project"]
    return project.get("urls", {}).get("Repository", "").removesuffix("/")


def badge(file_name, repository):
    """The line below a notebook's title.

    Raises:
        ValueError: Colab cannot open notebooks from this address.
    """
    if not repository:
        return _NO_BADGE
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?", repository)
    if found is None:
        raise ValueError(
            f"Repository is {repository!r}; give https://github.com/OWNER/NAME, from where Colab "
            "opens notebooks."
        )
    page = f"{_COLAB}/github/{found[1]}/blob/main/notebooks/{file_name}"
    return f"[![Open in Colab]({_COLAB}/assets/colab-badge.svg)]({page})"


def written(notebook, file_name, repository):
    """A notebook (as JSON) with an address in its badge and its set-up cell."""
    title, setup = notebook["cells"][0], _setup(notebook)
    title["source"][2] = badge(file_name, repository) + "\n"
    line = next(i for i, text in enumerate(setup["source"]) if text.startswith("ADDRESS = "))
    setup["source"][line] = re.sub('".*?"', f'"{repository}"', setup["source"][line], count=1)
    return notebook


def _setup(notebook):
    return next(c for c in notebook["cells"] if "setup" in c["metadata"].get("tags", []))


def main():
    """Write all of them."""
    repository = address()
    for path in notebooks():
        notebook = written(json.loads(path.read_text("utf-8")), path.name, repository)
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, "utf-8")
    print(f"{len(notebooks())} notebooks: {repository or 'no address in pyproject.toml'}")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"write_address: {error}")
