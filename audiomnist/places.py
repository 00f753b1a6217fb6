"""Where the project's files lie: beside the package in a checkout, inside it where it was installed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = (_PACKAGE / "models").is_dir()
_FILES = _PACKAGE if _INSTALLED else _PACKAGE.parent

MODELS = _FILES / "models"  # <network>/*.prototxt
TABLES = _FILES / "data"  # AudioMNIST: splits, corrections, and the recording dates that it is known by
# where recordings, inputs, runs and results lie unless an option says otherwise
HOME = Path.cwd() if _INSTALLED else _PACKAGE.parent
