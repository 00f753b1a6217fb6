"""The options of every command, which people and scripts rely on: names, values that are read, and defaults."""

import argparse

import pytest

from audiomnist import cli
from audiomnist.places import HOME
from audiomnist.workers import available_cores

CORES = available_cores()
TRIED = ("-1", "0", "1", "1.5", "word")
# what an option takes, by what it makes of TRIED (None: refused)
KINDS = {
    "integer": (-1, 0, 1, None, None), "from 0": (None, 0, 1, None, None), "from 1": (None, None, 1, None, None),
    "text": TRIED, "seconds": (None, None, 1.0, 1.5, None), "else": (None, None, None, None, None),
}  # fmt: skip

# of the study and of every experiment
SETTING = """
        --data path =HOME/data
        --preprocessed path =HOME/preprocessed_data
        --runs path =HOME/runs
        --output path =HOME/results
        --limit from 0
        --seed from 0 =0
        --composite epsilon_plus|...|toolbox_104 x+ =epsilon_plus,2 others,epsilon_alpha2_beta1_flat
        --engine caffe|numpy =caffe
        --keep-relevance
        --quiet"""

# of each command; =default, alone=value where an option is given without one
OPTIONS = {
    "demo-corpus": """
        destination path
        --repetitions from 1 =6
        --speakers else =60
        --seed from 0 =0
        --jobs from 1 =CORES
        --quiet
    """,
    "import-corpus": """
        source path
        destination path
        --pattern text ={digit}_{speaker}_{repetition}.wav
        --speakers path
        --trim
        --make-splits from 0
        --seed from 0 =0
        --quiet
    """,
    "validate": """
        corpus path
        --meta -m path
        --corrections path x? alone=HOME/data/corrections.json
        --splits path
        --repetitions from 1
        --jobs from 1 =CORES
        --json
        --verbose
        --quiet
    """,
    "corpus-table": """
        corpus path
        --meta -m path
        --corrections path x? alone=HOME/data/corrections.json
        --figure path
        --csv path
    """,
    "make-splits": """
        corpus path
        --meta -m path
        --force
        --make-splits from 0 needed
        --seed from 0 =0
    """,
    "permute-labels": """
        source path
        destination path
        --seed from 0 =0
    """,
    "preprocess": """
        --source -src path =HOME/data
        --destination -dst path =HOME/preprocessed_data
        --meta -m path
        --splits path
        --jobs from 1 =CORES
        --seed from 0 =0
        --skip-invalid
        --corrections path x? alone=HOME/data/corrections.json
        --verbose
        --quiet
    """,
    "render": """
        network AlexNet|AudioNet
        task text
        split text
        --preprocessed path needed
        --run path needed
        --max-iter from 1
        --snapshot from 1
        --seed from 0 =0
        --demo
        --engine text =python -m caffe
    """,
    "summary": """
        runs path
    """,
    "study": SETTING
    + """
        --demo
        --quick
        --split text =all
        --max-iter from 1
        --snapshot from 1
        --skip-invalid
        --jobs from 1
        --gpu [None, ('0',), ('1',), None, None] =()
        --cpu alone=('cpu',)
        --tf32
        --steps prepare|train|experiments x+ =prepare,train,experiments
        --run-number from 0
        --list
        one of --gpu --cpu
    """,
    "explain": """
        --model text needed
        --weights text needed
        --input text
        --list text
        --limit from 1
        --target from 0 =predicted
        --label-column integer
        --composite else x+ =epsilon_plus_flat
        --absorbed
        --seed integer =0
        --dtype float32|float64 =float32
        --save text
        --output text
        --audible text
        --formula relu(R)*x|relu(x)*R|R*x||R|*x =relu(R)*x
        --report text
        --quiet
        one of --input --list needed
    """,
    "deletion": """
        --model text needed
        --weights text needed
        --list text needed
        --limit from 0
        --target predicted|label =predicted
        --label-column integer
        --units values|blocks =blocks
        --replacement silence|interpolation =interpolation
        --seed from 0 =0
        --batch from 1 =50
        --composite else x+ =epsilon_plus_flat
        --output text
        --save text
    """,
    "record": """
        --recordings path =HOME/recordings
        --corpus path
        --continue text x? alone=
        --new
        --repetitions from 1
        --seed from 0
        --seconds seconds =1.0
        --pause seconds =1.0
        --device text
        --list-devices
        --no-mic
        --no-test
        --terminal
        --window tk|matplotlib
        --full-screen
        --markers path
        one of --terminal --window
    """,
    "cut": """
        sessions path x+
        --corpus path
        --auto
        --review
        --ask-again
        --quiet
        one of --auto --review
    """,
    "recognise": """
        --runs path =HOME/runs
        --task text =digit
        --split from 0 =0
        --network path x2
        --splits path =HOME/data/splits.json
        --wav path x+
        --page
        --port from 0 =0
        --device text
        --composite epsilon_plus|...|toolbox_104 =epsilon_plus_flat
        --output path =HOME/recognised
        --no-show
        --no-play
        one of --wav --page
    """,
    "table1": SETTING
    + """
        --gpu from 0
    """,
}


class Parsed(BaseException):
    """In place of a run of the command: its parser."""

    def __init__(self, parser):
        self.parser = parser


def kind_of(action):
    """What the option reads: a name of KINDS, "path", its choices, or "" for a flag."""
    if action.nargs == 0:
        return ""
    if action.choices:
        names = list(map(str, action.choices))
        return "|".join(names if len(names) < 5 else [names[0], "...", names[-1]])
    made = []
    for text in TRIED:
        try:
            made.append(action.type(text) if action.type else text)
        except (argparse.ArgumentTypeError, ValueError):
            made.append(None)
    if all(hasattr(value, "is_dir") for value in made):
        return "path"
    return next((name for name, wanted in KINDS.items() if tuple(made) == wanted), f"{made}")


def described(action):
    """One line: names, kind, whether there are several, what it is by default and without a value, and "needed"."""

    def shown(value):
        if isinstance(value, list):
            return ",".join(value if len(value) < 4 else [value[0], f"{len(value) - 2} others", value[-1]])
        if value == CORES and action.dest == "jobs":
            return "CORES"
        return str(value).replace(str(HOME), "HOME")

    words = [*(action.option_strings or [action.dest]), kind_of(action)]
    words += [f"x{action.nargs}"] if action.nargs not in (None, 0) else []
    words += [f"={shown(action.default)}"] if action.default is not None and action.default is not False else []
    words += [f"alone={shown(action.const)}"] if action.const is not None and action.const is not True else []
    words += ["needed"] if action.required and action.option_strings else []
    return " ".join(filter(None, words))


def parser_of(name, monkeypatch):
    def caught(parser, arguments=None, namespace=None):
        raise Parsed(parser)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", caught)
    with pytest.raises(Parsed) as found:
        cli.main([name])
    return found.value.parser


@pytest.mark.parametrize("command", OPTIONS)
def test_the_options_of_a_command(command, monkeypatch):
    parser = parser_of(command, monkeypatch)
    assert parser.description and parser.description.strip(), "what the command does"
    lines = [described(action) for action in parser._actions if action.dest != "help"]
    for group in parser._mutually_exclusive_groups:
        names = [action.option_strings[0] for action in group._group_actions]
        lines.append(" ".join(["one of", *names, *(["needed"] if group.required else [])]))
    assert lines == [line.strip() for line in OPTIONS[command].strip().splitlines()]


def test_every_command_has_its_options_here():
    """But for `train-test`, whose usage is a text (tests/audiomnist/runs); all experiments have the same."""
    assert set(OPTIONS) == set(cli.COMMANDS) - {"train-test"} | {"table1"}
