"""The paper's tables and figures, made again: one experiment a file, each importable and each a command.

    audiomnist table1 --runs RUNS --output RESULTS

A file in this folder that defines EXPERIMENT is one: it measures (pandas tables), draws (matplotlib figures) and says
what it found; nothing here trains. `audiomnist.study` has what they share.
"""
