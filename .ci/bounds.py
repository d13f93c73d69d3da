"""Do the bounds say what was tested? Compares them, the pins of the oldest lane, and what is here.

    python .ci/bounds.py             the files with each other
    python .ci/bounds.py oldest      and this environment with the oldest lane's pins
    python .ci/bounds.py newest      and this environment with the newest that the index offers

The oldest lane installs .ci/colab.txt and .ci/oldest.txt, the newest whatever pip finds.
"""

import importlib.metadata
import pathlib
import subprocess
import sys
import tomllib

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = pathlib.Path(__file__).parent.parent


def read(name):
    """{package: its specifier} of a requirements file."""
    lines = (ROOT / name).read_text().splitlines()
    found = [Requirement(line.split("#")[0]) for line in lines if line.split("#")[0].strip()]
    return {requirement.name: requirement.specifier for requirement in found}


def lower(specifier):
    """The lower bound."""
    (bound,) = [s.version for s in specifier if s.operator in (">=", "==")]
    return Version(bound)


def problems(lane):
    """Sentences on what does not agree."""
    bounds = read("requirements.txt")
    pins = {**read(".ci/colab.txt"), **read(".ci/oldest.txt")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for requirement in map(Requirement, project):
        if bounds.get(requirement.name) != requirement.specifier:
            yield f"pyproject.toml has {requirement}, requirements.txt {bounds[requirement.name]}"
    for name, specifier in bounds.items():
        pin = lower(pins[name]) if name in pins else None
        # A bound without its last numbers means the first of that series.
        series = lower(specifier).release
        if pin and (pin not in specifier or pin.release[: len(series)] != series):
            yield f"{name}{specifier} was tested from {pin} on"
        if lane == "oldest" and pin and Version(importlib.metadata.version(name)) != pin:
            yield f"{name} here is {importlib.metadata.version(name)}, the oldest lane's is {pin}"
        if lane == "newest":
            yield from behind(name)


def behind(name):
    """Whether the index offers a newer one than is here, which the packages here would accept."""
    command = [sys.executable, "-m", "pip", "index", "versions", name]
    done = subprocess.run(command, capture_output=True, text=True)
    offered = done.stdout.partition("Available versions:")[2].partition("\n")[0].split(",")
    asked = limits(name)
    accepted = [Version(v) for v in map(str.strip, offered) if v and v in asked]
    here = importlib.metadata.version(name)
    if accepted and max(accepted) > Version(here):
        yield f"{name} here is {here}, the newest is {max(accepted)}"


def limits(name):
    """What all packages here ask of one: TensorFlow, for example, bounds h5py from above."""
    asked = SpecifierSet()
    for package in importlib.metadata.distributions():
        for requirement in map(Requirement, package.requires or []):
            here = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if requirement.name == name and here:
                asked &= requirement.specifier
    return asked


if __name__ == "__main__":
    found = list(problems(sys.argv[1] if len(sys.argv) > 1 else ""))
    for sentence in found:
        print(f"bounds: {sentence}")
    sys.exit(bool(found))
