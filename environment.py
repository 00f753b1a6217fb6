"""Does this interpreter have what requirement files ask for? Needs nothing but Python 3.

    python environment.py [requirements.in ...]

Exit status 0: yes. 1: no, and one line says what is missing. Lines of a file are `name>=version` or `name`, comments
apart; nothing else is needed here, and so nothing else is understood.
"""

import re
import sys

MINIMUM_PYTHON = (3, 10)


def release(version):
    """The leading numbers of a version: "2.11.0+cu130" -> (2, 11, 0)."""
    return tuple(int(part) for part in re.match(r"\d+(\.\d+)*", version).group().split("."))


def read_requirements(path):
    """[(distribution name, minimal release or None)] of a file."""
    requirements = []
    with open(path) as file:
        for number, line in enumerate(file, 1):
            line = line.partition("#")[0].strip()
            if line:
                match = re.match(r"([A-Za-z0-9._-]+)(?:>=(\d+(?:\.\d+)*))?$", line)
                if match is None:
                    sys.exit(f"{path} line {number}: `{line}` found; name>=version was wanted")
                requirements.append((match.group(1), match.group(2) and release(match.group(2))))
    return requirements


def missing(paths):
    """What this interpreter lacks, as a list of texts."""
    from importlib.metadata import PackageNotFoundError, version

    lacking = []
    for path in paths:
        for name, minimum in read_requirements(path):
            try:
                found = version(name)
            except PackageNotFoundError:
                lacking.append(f"{name} is missing")
                continue
            if minimum and release(found) < minimum:
                lacking.append(f"{name} {found} is older than {'.'.join(map(str, minimum))}")
    return lacking


def main(paths):
    if sys.version_info[:2] < MINIMUM_PYTHON:
        found, wanted = (".".join(map(str, version)) for version in (sys.version_info[:2], MINIMUM_PYTHON))
        return f"Python {found} found; {wanted} or newer was wanted"
    return ", ".join(missing(paths)) or None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
