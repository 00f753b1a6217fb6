"""Does this interpreter have what the project needs? Needs nothing but Python 3.

    python environment.py [EXTRA ...]

Reads the dependencies of pyproject.toml, and those of the extras (or dependency groups) that are named. Exit status 0:
all there. 1: not, and one line says what is missing. Dependencies are `name>=version` or `name`, for some with the
oldest Python that does without (`; python_version < "3.11"`); nothing else is needed here, and so nothing else is
understood.
"""

import re
import sys
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent / "pyproject.toml"
MINIMUM_PYTHON = (3, 10)


def release(version):
    """The leading numbers of a version: "2.11.0+cu130" -> (2, 11, 0)."""
    return tuple(int(part) for part in re.match(r"\d+(\.\d+)*", version).group().split("."))


def read_requirements(path, extras):
    """[(distribution name, minimal release or None)] of a pyproject.toml: its dependencies, and those of the extras."""
    try:
        import tomllib
    except ModuleNotFoundError:  # before Python 3.11; pip has it
        from pip._vendor import tomli as tomllib
    with open(path, "rb") as file:
        content = tomllib.load(file)
    project = content["project"]
    groups = {**project["optional-dependencies"], **content.get("dependency-groups", {})}
    lines, asked = list(project["dependencies"]), list(extras)
    for extra in asked:
        for line in groups[extra]:
            own = re.match(rf"{project['name']}\[(.*)\]$", line)
            if own:
                asked += own.group(1).split(",")
            else:
                lines.append(line)
    requirements = []
    for line in lines:
        match = re.match(r"([\w.-]+)(?:>=(\d+(?:\.\d+)*))?(?:; python_version < \"(\d+\.\d+)\")?$", line, re.ASCII)
        if match is None:
            sys.exit(f"{path}: expected name>=version, got `{line}`")
        name, minimum, without = match.groups()
        if without is None or sys.version_info[:2] < release(without):
            requirements.append((name, minimum and release(minimum)))
    return requirements


def missing(requirements):
    """What this interpreter lacks, as a list of texts."""
    from importlib.metadata import PackageNotFoundError, version

    lacking = []
    for name, minimum in requirements:
        try:
            found = version(name)
        except PackageNotFoundError:
            lacking.append(f"{name} is missing")
            continue
        if minimum and release(found) < minimum:
            lacking.append(f"{name} {found} is older than {'.'.join(map(str, minimum))}")
    return lacking


def main(extras, path=PYPROJECT):
    if sys.version_info[:2] < MINIMUM_PYTHON:
        found, wanted = (".".join(map(str, version)) for version in (sys.version_info[:2], MINIMUM_PYTHON))
        return f"Python: expected {wanted} or newer, got {found}"
    try:
        return ", ".join(missing(read_requirements(path, extras))) or None
    except ModuleNotFoundError:
        return "Python 3.10 without pip cannot read pyproject.toml: expected pip, got none"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
