"""Damaged files for every reader and every command: a result or one sentence, and never anything else.

    python -m benchmarks.fuzzing measure [--minutes 60] [--seed 0] [--command NAME ...]
    python -m benchmarks.fuzzing show                       the findings
    python -m benchmarks.fuzzing again                      the findings' cases once more
    python -m benchmarks.fuzzing case NAME SEED NUMBER      one case, its files kept
    python -m benchmarks.fuzzing write                      its section of docs/reliability.md

A case is one call of a command on files of which one or two are damaged (`damage`), in a forked child with limits
(`children`); what is called stands in `targets`, the files before they are damaged in `whole`. Every case follows from
its command, seed and number, but for what HDF5 leaves in the gaps of a file.

A finding is a traceback, a signal, an exit status that nobody promised, a refusal without a word, more time of the
processor than `--seconds` (or five times as much by the clock), or a file of the user's that is not what it was.
Linux, as it forks and limits memory.

Guided by coverage, a reader at a time: `pip install atheris`, then `python -m benchmarks.fuzzing.guided KIND`.
"""
