"""Every option of an experiment reaches what it decides."""

import dataclasses
from pathlib import Path

import pytest

from audiomnist.study import command
from audiomnist.study.outcome import Experiment
from audiomnist.study.setting import Setting

WORDS = """--data d --preprocessed p --runs r --output o --limit 3 --seed 4 --engine numpy --keep-relevance --gpu 1
           --composite epsilon_plus_flat epsilon_plus epsilon_plus_flat"""
EXPERIMENT = Experiment("an_experiment", "A title", lambda setting: None)


@pytest.fixture
def carried_out(tmp_path, monkeypatch):
    """(setting, folder of results) of each call of an experiment's command; it was made now if `made` says so."""
    calls, made = [], [True]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        command, "carry_out", lambda experiment, *words: calls.append(words) or (Path("o/an_experiment"), made[0])
    )
    return calls, made


def test_every_option_is_a_field_of_the_setting_and_no_field_is_left(carried_out, tmp_path, capsys):
    calls, made = carried_out
    assert command.main(EXPERIMENT, WORDS.split()) == 0
    wanted = Setting(tmp_path / "d", tmp_path / "p", tmp_path / "r", limit=3, seed=4, engine="numpy", gpu=1,
                     composites=("epsilon_plus_flat", "epsilon_plus"), keep_relevance=True)  # fmt: skip
    assert calls == [(wanted, Path("o"))] and capsys.readouterr().out == "o/an_experiment\n"
    differing = {f.name for f in dataclasses.fields(Setting) if getattr(wanted, f.name) != getattr(Setting(), f.name)}
    assert differing == {f.name for f in dataclasses.fields(Setting)} - {"kept"}  # none that the words do not show
    made[0] = False
    assert command.main(EXPERIMENT, []) == 0
    assert calls[1][0] == Setting() and capsys.readouterr().out.endswith(" (made before from the same inputs)\n")


@pytest.mark.parametrize("limit, default, wanted", [(None, 6, 6), (None, None, None), (3, 6, 3), (0, 6, None)])
def test_the_limit_is_the_experiments_own_unless_one_is_given_and_none_for_0(limit, default, wanted):
    assert Setting(limit=limit).recordings(default) == wanted
