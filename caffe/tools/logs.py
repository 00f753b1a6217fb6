"""parse_log: what a log of training says, as two tables."""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
from datetime import datetime, timedelta

from caffe import glog
from caffe.errors import CaffeError, check
from caffe_proto import write_file
from caffe_proto.texts import read_text

STAMP = re.compile(r"^[IWEF](\d\d)(\d\d) (\d\d):(\d\d):(\d\d)(\.\d+)? ")
ITERATION = re.compile(r"Iteration (\d+)")
OUTPUT = re.compile(r"(Train|Test) net output #\d+: (\S+) = (\S+)")
RATE = re.compile(r"Iteration (\d+), lr = (\S+)")
LEAP = 2000  # a year with a 29 February: glog's dates have none
Rows = list[dict[str, float]]


def parse_log(flags: argparse.Namespace, log: str, folder: str) -> None:
    """Write <folder>/<log>.train and .test: NumIters, Seconds, LearningRate and the outputs of the nets, a row each."""
    with CaffeError.of_files():
        text = read_text(log, "a log of training")
    delimiter = flags.delimiter.replace("\\t", "\t")
    check(len(delimiter) == 1, "-delimiter", "one character", repr(flags.delimiter))
    for kind, rows in zip(("train", "test"), read_log(text, log), strict=True):
        stream = io.StringIO()
        columns = list(dict.fromkeys(column for row in rows for column in row))
        writer = csv.DictWriter(stream, columns, delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        target = os.path.join(folder, f"{os.path.basename(log)}.{kind}")
        write_file(target, stream.getvalue())
        if flags.verbose:
            glog.info(f"Wrote {target}")


def read_log(text: str, where: str) -> tuple[Rows, Rows]:
    """The rows of training and of testing in the text of a log, as they come; of several test nets the last one's.

    Seconds count from the line that says Solving. Before the first rate that is known, rows have the first one.
    """
    started, iteration, rate = None, -1, float("nan")
    rows: dict[str, Rows] = {"Train": [], "Test": []}
    for number, line in enumerate(text.splitlines(), 1):
        if started is None:
            started = _time(line) if "Solving" in line else None
            continue
        try:
            if found := RATE.search(line):
                rate = float(found[2])
            if found := ITERATION.search(line):
                iteration = int(found[1])
            if iteration < 0 or not (found := OUTPUT.search(line)) or (now := _time(line)) is None:
                continue
            own = rows[found[1]]
            if not own or own[-1]["NumIters"] != iteration or found[2] in own[-1]:
                seconds = (now - started) % timedelta(days=366)  # a year may have ended
                own.append({"NumIters": iteration, "Seconds": seconds.total_seconds(), "LearningRate": rate})
            own[-1][found[2]] = float(found[3])
        except ValueError:
            raise CaffeError(f"{where}, line {number}", "numbers", f"{line!r:.100}") from None
    check(started is not None, where, "a log of training, with a line that says Solving", "none")
    for own in rows.values():
        known = next((row["LearningRate"] for row in own if row["LearningRate"] == row["LearningRate"]), rate)
        for row in own:
            if row["LearningRate"] != row["LearningRate"]:
                row["LearningRate"] = known
    return rows["Train"], rows["Test"]


def _time(line: str) -> datetime | None:
    found = STAMP.match(line)
    if found is None:
        return None
    month, day, hour, minute, second = map(int, found.groups()[:5])
    try:
        return datetime(LEAP, month, day, hour, minute, second, int(float(found[6] or 0) * 1e6))
    except ValueError:
        return None
