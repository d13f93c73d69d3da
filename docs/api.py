"""Pages of the Python interface, made from the docstrings.

    pip install pdoc
    python docs/api.py FOLDER

`index.html` in the folder leads to all of them.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import pdoc  # noqa: E402

import callbacks  # noqa: E402
import mixer_tf  # noqa: E402


def main(folder):
    """Write the pages into a folder."""
    for name in mixer_tf.__all__:
        getattr(mixer_tf, name)  # they are loaded when they are first used
    rooms = {path.stem for path in (ROOT / "mixer_tf").glob("[!_]*.py")}
    rooms |= {path.parent.name for path in (ROOT / "mixer_tf").glob("*/__init__.py")}
    pdoc.render.configure(docformat="google", footer_text=f"mixer_tf {mixer_tf.__version__}")
    pdoc.pdoc(
        mixer_tf.__name__,
        *(f"mixer_tf.{room}" for room in sorted(rooms)),
        callbacks.__name__,
        output_directory=pathlib.Path(folder),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
