"""What a training run leaves beside its snapshots: learning curves as CSV and picture, and a line on the terminal."""

from __future__ import annotations

import csv
import io
import os
import sys
from typing import TextIO

import numpy as np

from caffe import glog
from caffe.context import Settings
from caffe.solver import Solver
from caffe_proto import caffe_pb2, write_file

COLUMNS = ("iteration", "kind", "name", "value")


class LearningCurve:
    """Collects training loss, learning rate (every `display` iterations) and all test scores of a solver.

    A solver.Listener of the solver with SolverParameter `param`.

    write() makes `<snapshot_prefix>_curve.csv` (columns iteration, kind, name, value) and `..._curve.png`.
    A resumed run keeps the rows up to its first iteration.
    """

    def __init__(self, param: caffe_pb2.SolverParameter):
        self.stem = f"{param.snapshot_prefix}_curve"
        self.every = param.display or 1
        self.rows = None  # until the training starts

    def started(self, solver: Solver) -> None:
        """Take over the rows of before the iteration that a resumed run begins with."""
        self.rows = self._earlier(solver.iter)
        glog.info(f"Writing the learning curve to {self.stem}.csv and {self.stem}.png")

    def _earlier(self, iteration):
        if not iteration or not os.path.exists(f"{self.stem}.csv"):
            return []
        try:
            with open(f"{self.stem}.csv", newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))[1:]
            return [(int(i), kind, name, float(value)) for i, kind, name, value in rows if int(i) < iteration]
        except (OSError, ValueError, csv.Error) as error:
            glog.warning(f"{self.stem}.csv: cannot be continued ({error}); the curve starts at iteration {iteration}")
            return []

    def trained(self, solver: Solver, loss: float, rate: float) -> None:
        """Take loss and learning rate of the iteration just done, if it is one of those that are shown."""
        iteration = solver.iter - 1
        if iteration % self.every == 0:
            self._add(iteration, "train", "loss", loss)
            self._add(iteration, "train", "lr", rate)

    def tested(self, solver: Solver, index: int, means: list[tuple[str, float, np.ndarray]]) -> None:
        """Take the mean outputs [(name, loss weight, values)] of test net number `index`."""
        for name, _, values in means:
            for k, value in enumerate(values):
                label = name if len(values) == 1 else f"{name}[{k}]"
                self._add(solver.iter, f"test{index}", label, value)

    def _add(self, iteration, kind, name, value):
        # as the CSV has it: a resumed run, which reads that, draws the same picture
        self.rows.append((iteration, kind, name, float(f"{value:.6g}")))

    def snapshotted(self, solver: Solver) -> None:
        """Write the CSV file."""
        self._attempt(self._write_csv)  # what a killed run goes on from has its curve as well

    def write(self) -> None:
        """Write CSV and picture, each atomically; where that fails the log says so, and the run is none the worse.

        Nothing where the training has not started.
        """
        if self.rows is None:
            return
        self._attempt(self._write_csv)
        self._attempt(self._write_picture)

    def _attempt(self, write):
        try:
            write()
        except OSError as error:
            glog.warning(f"{self.stem}: the curve cannot be written ({error.strerror or error})")

    def _write_csv(self):
        table = io.StringIO()
        writer = csv.writer(table)
        writer.writerow(COLUMNS)
        writer.writerows((*row, f"{value:.6g}") for *row, value in self.rows)
        write_file(f"{self.stem}.csv", table.getvalue())

    def _write_picture(self):
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            glog.warning(f"{self.stem}.png not drawn: matplotlib is not installed")
            return
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        left = figure.subplots()
        left.set_xlabel("iteration")
        left.set_ylabel("loss")
        right = left.twinx()
        right.set_ylabel("test score")
        right.set_ylim(0, 1)
        series = {}
        for iteration, kind, name, value in self.rows:
            series.setdefault((kind, name), []).append((iteration, value))
        for number, ((kind, name), points) in enumerate(series.items()):
            if name == "lr":
                continue
            axis = left if "loss" in name else right
            axis.plot(
                *zip(*points, strict=True),
                color=f"C{number}",
                marker="." if len(points) < 40 else None,
                linestyle="-" if axis is left else "--",
                label=f"{kind} {name}".replace("$", r"\$"),  # no formula
            )
        lines = left.get_lines() + right.get_lines()
        if lines:
            left.legend(
                lines,
                [line.get_label() for line in lines],
                loc="upper center",
                ncols=len(lines),
                bbox_to_anchor=(0.5, 1.12),
                frameon=False,
            )
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=120)
        write_file(f"{self.stem}.png", picture.getvalue())


def progress_stream(settings: Settings) -> TextIO | None:
    """Where progress is drawn: the file of the settings (a terminal), else stderr if it is one, else None."""
    path = settings.progress
    if not path:
        return sys.stderr if sys.stderr.isatty() else None
    try:
        return open(path, "w", encoding="utf-8")  # noqa: SIM115 (open as long as the run)
    except OSError as error:
        glog.warning(f"CAFFE_PROGRESS: {path} cannot be written ({error.strerror}); no progress line")
        return None


class ProgressLine:
    """A line on the terminal `stream` with iteration, loss, speed and time left; a solver.Listener."""

    def __init__(self, stream: TextIO):
        self.stream, self.bar = stream, None

    def started(self, solver: Solver) -> None:
        """Draw the line."""
        from tqdm import tqdm

        self.bar = tqdm(
            total=solver.param.max_iter,
            initial=solver.iter,
            unit="it",
            file=self.stream,
            leave=False,
            dynamic_ncols=True,
        )
        glog.set_line_hook(self.bar.clear)

    def trained(self, solver: Solver, loss: float, rate: float) -> None:
        """Count the iteration just done and show its loss."""
        self.bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
        self.bar.update(1)

    def tested(self, solver: Solver, index: int, means: list[tuple[str, float, np.ndarray]]) -> None:
        """Draw the line again, below the lines of the test."""
        self.bar.refresh()

    def snapshotted(self, solver: Solver) -> None:
        """Nothing: the line does not show snapshots."""
        pass

    def close(self) -> None:
        """Take the line off the terminal."""
        glog.set_line_hook(None)
        if self.bar is not None:
            self.bar.close()
