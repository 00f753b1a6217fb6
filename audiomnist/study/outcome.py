"""What an experiment leaves behind: tables as CSV, pictures, sounds, findings, and a record of what made them.

    <output>/<experiment>/*.csv *.png *.svg *.wav *.hdf5 and outcome.json

`outcome.json` holds the fingerprint of everything that the experiment was made from: an experiment whose fingerprint is
unchanged and whose files are there is not made again. It says which files of its folder are the experiment's, and only
those are ever removed. While they are written it has no fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pandas as pd

import audiomnist
from audiomnist.corpus.demo_corpus import MANIFEST as DEMO_MANIFEST
from audiomnist.corpus.layout import scan
from audiomnist.corpus.metadata import META_NAME
from audiomnist.explain import drawing, results
from audiomnist.provenance import code_digest, made_by
from audiomnist.signal.wav import wav_file
from audiomnist.study.conclusion import Conclusion, judge
from audiomnist.study.setting import ExperimentError, Setting
from audiomnist.study.trained import TrainedRun, permuted_runs, trained_runs
from caffe_proto import remove_leftovers, write_file
from caffe_proto.texts import read_record

RECORD = "outcome.json"
CODE = ("audiomnist", "caffe", "caffe_proto", "lrp")  # packages that decide numbers
# of a run, beside its weights
RUN_FILES = ("run.json", "solver.prototxt", "train.prototxt", "deploy.prototxt", "train.log", "test.log")
FIGURE_KINDS = (".png", ".svg")  # to look at, and to print
KINDS = (".csv", ".png", ".svg", ".wav", ".hdf5")  # of an outcome's files


@dataclass
class Outcome:
    """The results of an experiment.

    tables: {file stem: DataFrame}; figures: {file stem: (matplotlib Figure, caption)}; sounds: {file stem: (WAV bytes,
    caption)}; arrays: {file stem: (columns, attributes) of `explain.results`}; findings: sentences, each a paragraph;
    conclusions: the paper's, checked; unverified: sentences about what is to be checked in the paper itself.
    """

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, tuple] = field(default_factory=dict)
    sounds: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    arrays: dict[str, tuple[dict, dict]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    conclusions: list[Conclusion] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Experiment:
    """One experiment: `make` measures and draws, `reads` names what it is made from ("data", "runs" or "both").

    `permuted`: it looks at the runs of permuted labels too. `networks` are the networks whose runs it looks at, by
    name, and `task` is the task; None: all. Results pages show experiments by ascending `position`.
    """

    name: str
    title: str
    make: Callable[[Setting], Outcome]
    reads: str = "runs"
    permuted: bool = False
    networks: tuple[str, ...] | None = None
    task: str | None = None
    position: int = 1000


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _of_run(run: TrainedRun) -> str:
    """Digest of a run's record, prototxts and logs, wherever it lies."""
    paths = [run.folder / name for name in RUN_FILES]
    contents = [path.read_bytes() if path.exists() else b"" for path in paths]
    for place in (str(run.trained_in), json.dumps(str(run.trained_in))[1:-1]):  # as prototxts and as JSON write it
        contents = [content.replace(place.encode(), b"") for content in contents]
    return _digest(contents)


def fingerprint(experiment: Experiment, setting: Setting) -> dict[str, object]:
    """Everything that an outcome depends on, by content and not by place."""
    made_from: dict[str, object] = {
        "experiment": experiment.name,
        "version": audiomnist.__version__,
        "code": code_digest(*CODE),
        "limit": setting.limit,
        "seed": setting.seed,
        "composites": list(setting.composites),
        "engine": setting.engine,
        "keep_relevance": setting.keep_relevance,
    }
    marks = (setting.data / name for name in (META_NAME, DEMO_MANIFEST))  # whose recordings they are
    made_from["corpus"] = _digest(path.read_bytes() if path.exists() else b"" for path in marks)
    if experiment.reads in ("data", "both"):
        contents = (part for one in scan(setting.data)[0] for part in (one.relative.encode(), wav_file(one.path)))
        made_from["recordings"] = _digest(contents)
    if experiment.reads in ("runs", "both"):
        runs = {}
        for run in trained_runs(setting):
            if experiment.networks is None or run.run.network in experiment.networks:
                # the lists and recordings that it was made from, which are those of the preprocessed folder
                runs[str(run.run)] = [run.weights_sha256, _of_run(run), *run.recordings.values()]
        made_from["runs"] = runs
    if experiment.permuted:
        made_from["permuted"] = {str(run.run): [run.weights_sha256, _of_run(run)] for run in permuted_runs(setting)}
    return made_from


def read_outcome(folder: Path) -> dict:
    """The record of an experiment's outcome, which may be unfinished. Raises ExperimentError."""
    path, what = folder / RECORD, "the record of an experiment's outcome"
    with ExperimentError.of_files():
        record = read_record(path, what, files=list)
    if not all(isinstance(name, str) for name in record["files"]):
        raise ExperimentError(path, what, f"'files' that are {record['files']!r:.60}")
    return record


def is_made(folder: Path, made_from: dict[str, object]) -> bool:
    """True if the folder holds the outcome of exactly these inputs, whole."""
    try:
        record = read_outcome(folder)
    except ExperimentError:
        return False
    return record.get("made_from") == made_from and all((folder / name).exists() for name in record["files"])


def earlier_files(folder: Path) -> list[str]:
    """The names of the files that an earlier outcome has left in the folder, by its record.

    What a killed process was writing is removed. Raises ExperimentError for a folder that holds files and no record:
    they are somebody else's.
    """
    remove_leftovers(folder)
    if not (folder / RECORD).exists():
        other = min((path.name for path in folder.iterdir()), default=None) if folder.is_dir() else None
        if other is not None:
            expected = "an empty folder, or one with an earlier outcome"
            raise ExperimentError(folder, expected, f"{other} and no {RECORD}")
        return []
    listed = read_outcome(folder)["files"]
    own = [name for name in listed if Path(name).name == name and Path(name).suffix in KINDS]
    return [name for name in own if (folder / name).is_file() or (folder / name).is_symlink()]


def write(
    outcome: Outcome, experiment: Experiment, made_from: dict[str, object], setting: Setting, folder: Path
) -> Path:
    """Write an outcome's files, each whole or not at all, in place of the earlier ones; returns the record's path.

    Raises ExperimentError for a folder that holds somebody else's files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    earlier = earlier_files(folder)
    names = [
        *(f"{stem}.csv" for stem in outcome.tables),
        *(f"{stem}{kind}" for stem in outcome.figures for kind in FIGURE_KINDS),
        *(f"{stem}.wav" for stem in outcome.sounds),
        *(f"{stem}.hdf5" for stem in outcome.arrays),
    ]
    # what a killed process leaves is known as this experiment's
    _write_record(folder, {"files": sorted({*earlier, *names})})
    for name in earlier:
        (folder / name).unlink(missing_ok=True)
    for stem, table in outcome.tables.items():
        write_file(folder / f"{stem}.csv", table.to_csv(index=False, float_format="%.8g"))
    for stem, (figure, _) in outcome.figures.items():
        for kind in FIGURE_KINDS:
            drawing.write(figure, os.fspath(folder / f"{stem}{kind}"))
    for stem, (sound, _) in outcome.sounds.items():
        write_file(folder / f"{stem}.wav", sound)
    for stem, (columns, attributes) in outcome.arrays.items():
        with results.writing(folder / f"{stem}.hdf5", attributes) as file:
            file.append(columns)
    judged = judge({experiment.name: outcome.conclusions})[experiment.name]
    record = {
        "title": experiment.title,
        "made_from": made_from,
        "made_by": made_by(),
        "setting": {key: str(value) if isinstance(value, Path) else value for key, value in asdict(setting).items()},
        "files": names,
        "tables": [f"{stem}.csv" for stem in outcome.tables],
        "figures": {f"{stem}.png": caption for stem, (_, caption) in outcome.figures.items()},
        "sounds": {f"{stem}.wav": caption for stem, (_, caption) in outcome.sounds.items()},
        "arrays": [f"{stem}.hdf5" for stem in outcome.arrays],
        "findings": outcome.findings,
        "conclusions": [
            one.record() | {"verdict": said} for one, (said, _) in zip(outcome.conclusions, judged, strict=True)
        ],
        "unverified": outcome.unverified,
    }
    _write_record(folder, record)
    return folder / RECORD


def _write_record(folder: Path, record: dict[str, object]) -> None:
    write_file(folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def carry_out(experiment: Experiment, setting: Setting, output: Path) -> tuple[Path, bool]:
    """Make an experiment unless it is there already; returns (its folder, whether it was made now).

    Raises ExperimentError when what it needs is missing, or its folder holds somebody else's files.
    """
    if experiment.reads in ("data", "both") and not setting.data.is_dir():
        raise ExperimentError(setting.data, "a folder with recordings", "none")
    folder = output / experiment.name
    made_from = fingerprint(experiment, setting)
    if is_made(folder, made_from):
        return folder, False
    earlier_files(folder)  # refused before the work, not after it
    write(experiment.make(replace(setting, kept=folder)), experiment, made_from, setting, folder)
    return folder, True
