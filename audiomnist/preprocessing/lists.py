"""Lists of recordings for Caffe, one for each network, task, split and part, and the list of what was rejected."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path

from audiomnist.corpus.layout import Defect, Recording
from audiomnist.corpus.splits import PARTS, SPLITS_NAME, Splits, members
from audiomnist.signal.inputs import NETWORKS
from caffe_proto.atomic import write_file

REJECTED = "rejected.csv"


def list_name(network: str, task: str, split: int, part: str) -> str:
    return f"{network}_{task}_{split}_{part}.txt"


def write_lists(
    destination: Path, splits: Splits, usable: list[tuple[Recording, tuple[int, ...]]], without: set
) -> int:
    """Write the split lists (paths relative to the destination) and splits.json; returns the number of lists.

    Lists of earlier runs that are not written again are removed. `without` are the (task, split) pairs
    that get no lists.
    """
    write_file(destination / SPLITS_NAME, splits.to_json().encode())
    written = set()
    for task, folds in splits.folds.items():
        for k in range(len(folds)):
            for part in PARTS if (task, k) not in without else ():
                names = [r for r, _ in members(splits, task, k, part, usable)]
                for network in NETWORKS:
                    lines = "".join(f"{r.speaker}/{network}_{r.stem}.hdf5\n" for r in names)
                    write_file(destination / list_name(network, task, k, part), lines.encode())
                    written.add(list_name(network, task, k, part))
    remove_lists(destination, keep=written)
    return len(written)


def remove_lists(destination: Path, keep: Iterable[str] = ()) -> None:
    pattern = re.compile(rf"({'|'.join(NETWORKS)})_[A-Za-z0-9-]+_\d+_({'|'.join(PARTS)})\.txt")
    for path in destination.iterdir():
        if pattern.fullmatch(path.name) and path.name not in keep:
            path.unlink()


def write_rejected(path: Path, defects: list[Defect]) -> None:
    """A CSV of what was left out: a row for each recording, or for what is wrong with a split."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "expected", "got"])
    for defect in defects:
        writer.writerows([name, defect.expected, defect.got] for name in defect.recordings or (defect.where,))
    write_file(path, text.getvalue().encode())
