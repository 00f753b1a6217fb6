"""Numbers on the command line: what is read, and what is refused with one sentence."""

import argparse
import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiomnist.arguments import number, positive, real_number, whole_number
from audiomnist.corpus import demo_corpus, validate

ROOT = Path(__file__).resolve().parents[2]


def read(kind, text):
    """What argparse makes of `--n=TEXT`."""
    parser = argparse.ArgumentParser(prog="x")
    parser.add_argument("--n", type=kind)
    return parser.parse_args([f"--n={text}"]).n


@given(st.integers(-5, 10**17), st.integers(0, 9), st.integers(0, 40))
def test_whole_numbers_between_both_ends_are_read_and_no_others(value, least, more):
    kind = whole_number(least, least + more)
    if least <= value <= least + more:
        assert kind(str(value)) == value
    else:
        with pytest.raises(argparse.ArgumentTypeError):
            kind(str(value))


@pytest.mark.parametrize(
    "kind, text, message",
    [
        (positive, "0", "argument --n: expected a whole number of at least 1, got '0'"),
        (number, "-1", "argument --n: expected a whole number of at least 0, got '-1'"),
        (number, "", "expected a whole number of at least 0, got ''"),
        (number, "1.0", "got '1.0'"),
        (number, "1_0", "got '1_0'"),
        (number, "٣", "got '٣'"),  # int() would read it
        (number, "²", "got '²'"),  # str.isdigit() would take it, and int() raise
        (number, "9" * 5000, "expected a whole number"),  # int() refuses so many digits
        (whole_number(1, 9), "10", "expected a whole number of at least 1 and at most 9, got '10'"),
        (real_number(0.2, 60), "0.1", "expected a number from 0.2 to 60, got '0.1'"),
        (real_number(0.2, 60), "nan", "got 'nan'"),
        (real_number(0.2, 60), "inf", "got 'inf'"),
        (real_number(0.2, 60), "soon", "got 'soon'"),
    ],
)
def test_what_is_no_such_number_is_one_sentence(kind, text, message, capsys):
    with pytest.raises(SystemExit) as caught:
        read(kind, text)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_numbers_are_read():
    assert (read(number, "0"), read(positive, "1"), read(positive, "007")) == (0, 1, 7)
    assert read(number, "9" * 18) == 10**18 - 1
    assert [read(real_number(0.2, 60), text) for text in ("0.2", "60", "1e1")] == [0.2, 60, 10]


@pytest.mark.parametrize(
    "main, options",
    [
        (validate.main, ["--jobs", "0"]),
        (validate.main, ["--repetitions", "-3"]),
        (demo_corpus.main, ["--speakers", "61"]),
        (demo_corpus.main, ["--jobs", "0"]),
        (demo_corpus.main, ["--seed", "x"]),
    ],
)
def test_commands_refuse_numbers_that_make_no_sense(main, options, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path / "corpus"), *options])
    assert caught.value.code == 2 and not (tmp_path / "corpus").exists()
    assert f"argument {options[0]}: expected a whole number of at least " in capsys.readouterr().err


def test_no_command_has_a_number_type_of_its_own():
    """Functions for argparse that turn text into a number stand in one module."""
    found = []
    for path in sorted((ROOT / "audiomnist").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            returns = ast.unparse(function.returns or ast.Constant("")) if isinstance(function, ast.FunctionDef) else ""
            if returns in ("int", "float") and "ArgumentTypeError" in ast.unparse(function):
                found.append(path.name)
    assert set(found) == {"arguments.py"}
