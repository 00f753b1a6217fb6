"""What every command says of itself: examples that it understands, the same words for the same things, no empty words.

The help texts are read as a user sees them; the examples are given to the commands' own parsers.
"""

import contextlib
import importlib
import io
import re
import shlex
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

import caffe.actions
import caffe.cli
from audiomnist import arguments, cli
from audiomnist.runs import train_test
from audiomnist.study import catalogue, command

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = {catalogue.command_name(name): name for name in catalogue.names()}
DOORS = {"preprocessing_data.py": "preprocess"} | {
    f"recording_scripts/{name}.py": name for name in ("record", "cut", "recognise")
}
MAKING = ("demo-corpus", "preprocess", "render", "study", "train-test")
CHEAP = {"corpus", "table1", "training-curves"}
NAMES = [*cli.COMMANDS, *EXPERIMENTS]
CAFFE = ["caffe", *(f"caffe {name}" for name in caffe.cli.COMMANDS)]
OTHERWISE = {  # options that are other things in other commands: what each takes
    "--engine": {"COMMAND", None},
    "--gpu": {"ID", "ID[,ID]"},
    "--list": {"FILE", None},
    "--output": {"DIR", "FILE"},
    "--speakers": {"N", "FILE"},
    "--target": {"K", None},
}


def parser_of(name):
    if name in EXPERIMENTS:
        return command.parser(catalogue.find(EXPERIMENTS[name]))
    return importlib.import_module(f"audiomnist.{cli.COMMANDS[name][0]}").parser()


def help_of(name):
    """The text that `audiomnist NAME --help` or `caffe [NAME] --help` prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        if name.startswith("caffe"):
            caffe.cli.main([*name.split()[1:], "--help"])
        else:
            cli.main([name, "--help"])
    return said.getvalue()


def examples(text):
    """The command lines below `examples:`, as lists of words."""
    (block,) = re.findall(r"^examples:\n((?:  .*\n?)+)", text, re.MULTILINE | re.IGNORECASE)
    return [shlex.split(line) for line in block.replace("\\\n", " ").strip().splitlines()]


def understood(words):
    """Raises where the command that the words name does not understand the rest."""
    program, *rest = words
    if program == "python":
        program, rest = "audiomnist", [DOORS[rest[0]], *rest[1:]]
    if program == "./train_test.sh" and rest[0] == "--paper":
        program, rest = "audiomnist", ["study", *rest[1:]]
    if program == "./train_test.sh":
        assert train_test.parse(rest)
    elif program == "caffe":
        assert caffe.cli.make_parser().parse_args(rest).command[0] in caffe.actions.ACTIONS
    elif program == "lrp":
        parser_of("explain").parse_args(rest)
    else:
        assert program == "audiomnist"
        parser_of(rest[0]).parse_args(rest[1:])


@pytest.mark.parametrize("name", [*NAMES, *CAFFE])
def test_every_help_ends_with_examples_that_the_command_understands(name):
    text = help_of(name)
    found = examples(text)
    assert len(found) >= 2
    for words in found:
        understood(words)
        for word in words:
            if word.startswith(("notebooks/", "recording_scripts/", "preprocessing_data")):
                assert (ROOT / word).exists(), word
    own = {"explain": "lrp", "train-test": "./train_test.sh", **{v: k for k, v in DOORS.items()}}.get(name, name)
    assert all(own in " ".join(words) or f"audiomnist {name} " in " ".join(words) for words in found)


def test_the_examples_of_the_list_of_commands_are_understood_too():
    found = examples(cli.usage())
    assert len(found) >= 2
    for words in found:
        if words[-1] == "--help":
            assert words[1] in NAMES
        else:
            understood(words)


@pytest.mark.parametrize("name", [*NAMES, *CAFFE])
def test_no_help_has_empty_words_or_places_of_this_machine(name):
    text = " ".join(help_of(name).split())
    assert not re.search(r"\(default: (None|False|True|\[.*)?\)", text), text
    assert str(ROOT) not in text


@pytest.mark.parametrize("name", [name for name in NAMES if name != "train-test"])
def test_every_option_says_what_it_is_and_what_it_takes(name):
    for action in parser_of(name)._actions:
        assert action.help and len(action.help) > 4, action.dest
        assert not action.help.startswith("default"), action.help
        if (
            action.nargs != 0
            and action.option_strings
            and not action.choices
            and action.option_strings[0] != "--pattern"
        ):
            assert action.metavar, action.option_strings
        if action.default not in (None, False, "") and action.nargs != 0 and action.option_strings:
            assert "default" in action.help, (action.option_strings, action.help)


def test_the_same_option_takes_the_same_everywhere():
    """One metavar for each option, but for those of OTHERWISE, which are other things in other commands."""
    found = defaultdict(lambda: defaultdict(list))
    for name in NAMES:
        if name != "train-test":
            for action in parser_of(name)._actions:
                for option in action.option_strings:
                    found[option][action.metavar].append(name)
    assert {option: set(by) for option, by in found.items() if len(by) > 1} == OTHERWISE
    assert set(found["--jobs"]) == {"N"} and len(found["--jobs"]["N"]) >= 4


def test_all_commands_stand_under_one_purpose_and_in_the_list():
    groups = [list(commands) for commands in cli.PURPOSES.values()]
    assert sorted(name for group in groups for name in group) == sorted(cli.COMMANDS)
    text = cli.usage()
    for purpose, commands in cli.PURPOSES.items():
        block = re.search(rf"^{purpose}:\n((?:  .*\n)+)", text, re.MULTILINE)[1]
        assert re.findall(r"^  ([\w-]+)  ", block, re.MULTILINE) == list(commands)
    block = text.split("a command too:\n")[1].split("\n\n")[0]
    assert block.split() == list(EXPERIMENTS)
    assert max(map(len, text.splitlines())) <= 80


def test_what_completes_commands_knows_all_of_them_and_their_files():
    (action,) = cli.parser()._subparsers._group_actions
    assert list(action.choices) == NAMES
    for name, one in action.choices.items():
        own = [action.option_strings for action in parser_of(name)._actions]
        assert [action.option_strings for action in one._actions] == own
        arguments_ = [action for action in one._actions if not action.option_strings]
        assert not any(isinstance(action.choices, dict) for action in arguments_)  # shtab: a dict is sub-commands
    files = {one.dest for one in action.choices["explain"]._actions if hasattr(one, "complete")}
    assert files == {"model", "weights", "input", "list", "save", "output", "audible", "report"}
    files = {one.dest for one in action.choices["recognise"]._actions if hasattr(one, "complete")}
    assert files == {"runs", "network", "splits", "wav", "output"}


def test_train_tests_options_for_completion_are_those_of_its_usage():
    listed = set(re.findall(r"(?:^  |\| )(--[a-z0-9-]+)", train_test.USAGE, re.MULTILINE)) - {"--paper"}
    assert {action.option_strings[-1] for action in train_test.parser()._actions if action.option_strings} == listed


def test_long_examples_are_continued_and_short_ones_are_not():
    text = arguments.command_parser("x", "What it does. " * 20, "x " + "--word 1 " * 20, "x --short").format_help()
    assert examples(text) == [["x", *["--word", "1"] * 20], ["x", "--short"]]
    assert max(map(len, text.splitlines())) <= 102 and text.count("\\\n") == 1


def test_the_first_examples_of_lrp_run(tmp_path, monkeypatch):
    """They need nothing but the repository."""
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    monkeypatch.chdir(tmp_path)
    for words in examples(help_of("explain"))[:2]:
        assert cli.main(["explain", *words[1:]]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"notebooks", "seven.png", "one.wav"}


@pytest.mark.slow
def test_examples_on_the_demo_run(small_study, tmp_path, monkeypatch):
    """Where the demo's folders are those of a study in miniature. Left out is what makes inputs or trains, explains
    (all experiments have the same options, and table1 is one), or names weights of the demo's own iterations."""
    (tmp_path / "demo").mkdir()
    for name in ("data", "preprocessed", "runs"):
        shutil.copytree(small_study / name, tmp_path / "demo" / name)
    monkeypatch.chdir(tmp_path)
    ran = []
    for name in NAMES:
        for words in examples(help_of(name)):
            left_out = name in (*MAKING, "recognise") or name in set(EXPERIMENTS) - CHEAP
            if not left_out and any(word.startswith("demo/") for word in words) and "caffemodel" not in str(words):
                assert cli.main(words[1:]) == 0, words
                ran.append(name)
    assert set(ran) == {"validate", "corpus-table", "permute-labels", "summary"} | CHEAP
