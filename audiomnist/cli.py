"""The command `audiomnist`: one sub-command for everything that can be done, each with a `--help` of its own."""

from __future__ import annotations

import importlib
import sys

from audiomnist import __version__
from audiomnist.study import catalogue

# sub-command: (module whose `main(arguments)` does it and returns the exit code, what it does)
COMMANDS = {
    "demo-corpus": ("corpus.demo_corpus", "make a corpus of synthetic speakers"),
    "import-corpus": ("corpus.import_corpus", "bring recordings of other names into this layout"),
    "validate": ("corpus.validate", "list everything that is wrong with a corpus"),
    "corpus-table": ("corpus.table", "a corpus as a table and a picture"),
    "make-splits": ("corpus.make_splits", "make speaker-disjoint splits"),
    "permute-labels": ("corpus.permute_labels", "a corpus whose labels say nothing, for the sanity checks"),
    "preprocess": ("preprocessing.command", "recordings to HDF5 inputs and lists, as preprocessing_data.py"),
    "train-test": ("runs.train_test", "train and test the networks, as train_test.sh"),
    "render": ("runs.render", "make or check the folder of one run"),
    "summary": ("runs.summary", "the table of accuracies of tested runs"),
    "study": ("study.study", "the whole study, as train_test.sh --paper"),
    "explain": ("explain.cli", "relevance of recordings, as the command lrp"),
    "deletion": ("explain.faithfulness", "accuracy while the most relevant values are removed"),
    "record": ("recording.record", "record a new speaker"),
    "cut": ("recording.cut", "cut a recorded session into a corpus"),
    "recognise": ("recording.recognise", "say a digit, see and hear what the networks make of it"),
}


def usage() -> str:
    """The help text: every sub-command and every experiment."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: audiomnist COMMAND [OPTION]...",
            "",
            *lines,
            "",
            "Experiments, each a command too:",
            "  " + "  ".join(map(catalogue.command_name, catalogue.names())),
            "",
            "audiomnist COMMAND --help describes one; audiomnist --version prints the version.",
        ]
    )


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
    experiments = {catalogue.command_name(experiment): experiment for experiment in catalogue.names()}
    if name in experiments:
        from audiomnist.study.command import main as experiment

        return experiment(catalogue.find(experiments[name]), rest)
    print(f"audiomnist: expected a command (audiomnist --help lists them), got {name}", file=sys.stderr)
    return 2
