"""What made a result: this project's version and commit, written into run.json, outcome.json and relevance files."""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

_PACKAGE = Path(__file__).resolve().parent
UNKNOWN = "unknown"


@cache
def commit() -> str:
    """The commit of this code: 40 hex digits, with "+changes" if tracked files differ from it; "unknown" without git.

    An installed package has it in a file that the build wrote; a checkout asks its own repository, and no other one
    that it may lie in.
    """
    built = _PACKAGE / "COMMIT"
    if built.is_file():
        return built.read_text(encoding="utf-8").strip()
    root = _PACKAGE.parent
    if not (root / ".git").exists():
        return UNKNOWN
    head, changes = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain", "--untracked-files=no")
    return UNKNOWN if head is None else head + ("+changes" if changes else "")


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints, or None where it is not there or fails.

    Without the lock that it would take to note what it found: if it was killed, the lock would keep everybody else out.
    """
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def made_by() -> dict[str, str]:
    """{"version": of this project, "commit": see `commit`}."""
    from audiomnist import __version__  # here, as setup.py runs this file while nothing is installed

    return {"version": __version__, "commit": commit()}


@cache
def code_digest(*packages: ModuleType | str) -> str:
    """SHA-256, hexadecimal, over the modules of these packages and of those inside them.

    A package that is given by its name is not imported for it.
    """
    digest = hashlib.sha256()
    for package in packages:
        spec = find_spec(package) if isinstance(package, str) else package.__spec__
        folder = Path(*spec.submodule_search_locations)
        for path in sorted(folder.rglob("*.py")):
            for part in (f"{spec.name}/{path.relative_to(folder).as_posix()}".encode(), path.read_bytes()):
                digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
