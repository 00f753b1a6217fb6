"""Fixtures for every test of the study."""

import sys

import pytest


@pytest.fixture(autouse=True)
def pictures_lay_themselves_out(monkeypatch):
    """A picture of the study in which labels may cover each other or be cut off is an error of its test."""
    from matplotlib.figure import Figure

    made, plain = [], Figure.__init__

    def noted(figure, *arguments, **options):
        plain(figure, *arguments, **options)
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.startswith("audiomnist.") and not caller.startswith("audiomnist.recording"):  # windows, not pictures
            made.append((caller, options.get("layout")))

    monkeypatch.setattr(Figure, "__init__", noted)
    yield
    assert {layout for _, layout in made} <= {"constrained"}, made
