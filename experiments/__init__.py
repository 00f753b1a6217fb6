"""The paper's tables and figures, made again: one experiment a file, each importable and each a command.

    python -m experiments.table1 --runs RUNS --output RESULTS

An experiment measures (pandas tables), draws (matplotlib figures) and says what it found; nothing here trains. What
they share: `setting` (what is looked at), `trained` (a trained run and its test recordings), `outcome` (what an
experiment leaves behind) and `command` (the command line). `catalogue` lists them, `study` makes them all.
"""
