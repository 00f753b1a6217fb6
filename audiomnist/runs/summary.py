"""Collect the test accuracies of all runs: a table beside the paper's figures, and summary.csv.

    audiomnist summary RUNS

reads `<run>/test.log`, written by any engine with Caffe's log lines, and writes `RUNS/summary.csv`.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import re
import statistics
import sys
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from audiomnist.arguments import command_parser
from audiomnist.door import door
from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.run_folder import TEST_LOG, RunError, RunName, padded_list, read_list
from caffe_proto import read_solver, write_file

SUMMARY = "summary.csv"
# the last lines of `caffe test`: a mean for each output; the lines of single batches begin with "Batch"
_BATCH = re.compile(r"\] Batch \d+, (accuracy|loss) = (\S+)\s*$")
_SCORE = re.compile(r"\] (accuracy|loss) = (\S+)(?: \(\* \S+ = \S+ loss\))?\s*$")


@dataclass(frozen=True)
class Result:
    """The test of one run: accuracy is a share (0 to 1), loss the mean cross-entropy in nats."""

    network: str
    task: str
    split: int
    iterations: int
    accuracy: float
    loss: float
    run: str


def read_test_log(path: Path) -> dict[str, float]:
    """{"accuracy": share, "loss": nats} of a whole test: the means that `caffe test` logs last, or, where the last
    batch is padded (see `render.cover`), the mean over recordings of those of its batches. Raises RunError."""
    scores, batches = {}, {"accuracy": [], "loss": []}
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if match := _SCORE.search(line):
                scores[match[1]] = _score(path, match)
            elif match := _BATCH.search(line):
                batches[match[1]].append(_score(path, match))
    if missing := {"accuracy", "loss"} - scores.keys():
        raise RunError(path, "the log of a whole test", f"one without a mean {' and '.join(sorted(missing))}")
    padded = path.with_name(padded_list("test"))
    if not padded.exists():
        return scores
    rows = read_list(padded)
    padding = rows.count(rows[-1])
    counts = {len(found) for found in batches.values()}
    if len(counts) != 1 or len(rows) % max(counts):
        raise RunError(path, f"lines of all batches of {padded.name}", f"{max(counts)} of them for {len(rows)} rows")
    weights = np.full(max(counts), len(rows) // max(counts))
    weights[-1] -= padding
    return {name: float(np.average(found, weights=weights)) for name, found in batches.items()}


def _score(path: Path, match: re.Match) -> float:
    try:
        return float(match[2])
    except ValueError:
        raise RunError(path, f"a number as {match[1]}", f"{match[2]!r:.60}") from None


def collect(runs: Path) -> list[Result]:
    """The results of every tested run in `runs`, in the order of the registry, then by task and split."""
    results = []
    for log in runs.glob(f"*/{TEST_LOG}"):
        run = RunName.parse(log.parent.name)
        if run is None or run.network not in NETWORKS:
            continue
        iterations = read_solver(log.parent / "solver.prototxt").max_iter
        scores = read_test_log(log)
        name = log.parent.name
        results.append(Result(run.network, run.task, run.split, iterations, scores["accuracy"], scores["loss"], name))
    order = list(NETWORKS)
    return sorted(results, key=lambda result: (order.index(result.network), result.task, result.split))


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """Mean and population standard deviation (that of the splits themselves, numpy's default; nan for one value)."""
    return statistics.fmean(values), statistics.pstdev(values) if len(values) > 1 else math.nan


def percent(mean: float, deviation: float) -> str:
    """A mean and its deviation, both in percent, as the paper prints them; a deviation of nan is left out."""
    return f"{mean:.2f}" if math.isnan(deviation) else f"{mean:.2f} ± {deviation:.2f}"


def _columns(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def table(results: list[Result]) -> str:
    """Two tables as text: every run, and the mean over the splits beside the paper's figure."""
    runs = [["network", "task", "split", "iterations", "accuracy %", "loss"]]
    groups: dict[tuple[str, str], list[Result]] = {}
    for r in results:
        runs.append([r.network, r.task, str(r.split), str(r.iterations), f"{100 * r.accuracy:.2f}", f"{r.loss:.4f}"])
        groups.setdefault((r.network, r.task), []).append(r)
    means = [["network", "task", "splits", "accuracy %", "paper (AudioMNIST, all splits)"]]
    for (network, task), members in groups.items():
        ours = percent(*mean_and_deviation([100 * member.accuracy for member in members]))
        published = NETWORKS[network].published.get(task)
        means.append([network, task, str(len(members)), ours, percent(*published) if published else "-"])
    return f"{_columns(runs)}\n\n{_columns(means)}\n(± is the population standard deviation over the splits)"


def write_summary(results: list[Result], path: Path) -> None:
    """Write the results as CSV, one row a run, numbers as the engine logged them."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow([field.name for field in fields(Result)])
    writer.writerows(astuple(result) for result in results)
    write_file(path, table.getvalue())


def parser() -> argparse.ArgumentParser:
    """The options."""
    examples = ("audiomnist summary runs", "audiomnist summary demo/runs")
    p = command_parser("audiomnist summary", __doc__.split("\n", 1)[0], *examples)
    p.add_argument("runs", type=Path, metavar="RUNS", help="folder of the runs")
    return p


@door("summary")
def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    results = collect(options.runs)
    if not results:
        raise RunError(options.runs, "at least one tested run", "none")
    write_summary(results, options.runs / SUMMARY)
    print(table(results))
    broken = [result.run for result in results if not math.isfinite(result.loss)]
    if broken:
        print(f"{options.runs}: the loss of {', '.join(broken)} is no number: the training diverged", file=sys.stderr)
    return 1 if broken else 0
