"""The command `audiomnist`: one sub-command for everything that can be done, each with a `--help` of its own."""

from __future__ import annotations

import argparse
import importlib
import sys
import textwrap

from audiomnist import __version__
from audiomnist.study import catalogue

# what for: sub-command: (module whose `main(arguments)` does it and returns the exit code, what it does)
PURPOSES = {
    "corpus": {
        "demo-corpus": ("corpus.demo_corpus", "make a corpus of synthetic speakers"),
        "import-corpus": ("corpus.import_corpus", "bring recordings of other names into this layout"),
        "validate": ("corpus.validate", "list everything that is wrong with a corpus"),
        "corpus-table": ("corpus.table", "a corpus as a table and a picture"),
        "make-splits": ("corpus.make_splits", "make speaker-disjoint splits"),
        "permute-labels": ("corpus.permute_labels", "a corpus whose labels say nothing, for the sanity checks"),
    },
    "inputs": {
        "preprocess": ("preprocessing.command", "recordings to HDF5 inputs and lists, as preprocessing_data.py"),
    },
    "networks": {
        "train-test": ("runs.train_test", "train and test the networks, as train_test.sh"),
        "render": ("runs.render", "make or check the folder of one run"),
        "summary": ("runs.summary", "the table of accuracies of tested runs"),
    },
    "explanations": {
        "explain": ("explain.cli", "relevance of recordings, as the command lrp"),
        "deletion": ("explain.faithfulness", "accuracy while the most relevant values are removed"),
    },
    "study": {
        "study": ("study.study", "the whole study, as train_test.sh --paper"),
    },
    "recording": {
        "record": ("recording.record", "record a new speaker"),
        "cut": ("recording.cut", "cut a recorded session into a corpus"),
        "recognise": ("recording.recognise", "say a digit, see and hear what the networks make of it"),
    },
}
COMMANDS = {name: command for commands in PURPOSES.values() for name, command in commands.items()}
# metavars of what is a file or a folder
FILES = ("FILE", "DIR", "CORPUS", "SOURCE", "DESTINATION", "RUNS", "SESSION", ("DEPLOY", "WEIGHTS"))
EXAMPLES = ("audiomnist validate demo/data", "audiomnist study --demo --cpu", "audiomnist table1 --help")


def experiments() -> dict[str, str]:
    """{sub-command: name of the experiment that it makes}."""
    return {catalogue.command_name(name): name for name in catalogue.names()}


def usage() -> str:
    """The help text: every sub-command, by what it is for, and every experiment."""
    width = max(map(len, COMMANDS))
    lines = ["usage: audiomnist COMMAND [OPTION]...", ""]
    for purpose, commands in PURPOSES.items():
        lines += [f"{purpose}:", *(f"  {name:{width}}  {what}" for name, (_, what) in commands.items()), ""]
    lines += ["experiments, each a command too:"]
    lines += textwrap.wrap("  ".join(experiments()), 78, initial_indent="  ", subsequent_indent="  ")
    lines += ["", "examples:", *(f"  {example}" for example in EXAMPLES)]
    lines += ["", "audiomnist COMMAND --help describes one; --version prints the version."]
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """All sub-commands and their options, for what completes commands in a shell (docs/study.md).

    An option or argument that is a file or a folder, by its metavar, says so in shtab's way.
    """
    from audiomnist.study.command import parser as of_experiment

    made = {}
    for name, (module, _) in COMMANDS.items():
        made[name] = importlib.import_module(f"audiomnist.{module}").parser()
    made |= {name: of_experiment(catalogue.find(experiment)) for name, experiment in experiments().items()}
    whole = argparse.ArgumentParser(prog="audiomnist")
    commands = whole.add_subparsers()
    for name, one in made.items():
        what = COMMANDS[name][1] if name in COMMANDS else one.description
        commands.add_parser(name, help=what, parents=[one], add_help=False)
        for action in one._actions:
            if action.metavar in FILES:
                action.complete = {"bash": "_shtab_compgen_files", "zsh": "_files"}
    return whole


def main(arguments: list[str] | None = None) -> int:
    """Carry out one sub-command; returns its exit code (2: misused)."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name == "--version":
        print(__version__)
        return 0
    if name in COMMANDS:
        return importlib.import_module(f"audiomnist.{COMMANDS[name][0]}").main(rest)
    if found := experiments().get(name):
        from audiomnist.study.command import main as experiment

        return experiment(catalogue.find(found), rest)
    print(f"audiomnist: expected a command (audiomnist --help lists them), got {name}", file=sys.stderr)
    return 2
