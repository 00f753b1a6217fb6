"""Trained runs and their test recordings, as the experiments see them."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from audiomnist.corpus.metadata import GENDERS
from audiomnist.corpus.splits import OFFICIAL_COLUMNS, PARTS, SPLITS_NAME, Splits, Task, load_splits
from audiomnist.explain.results import file_hash
from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.run_folder import RECORD, RunName, list_name, origin, progress, read_list, run_record
from audiomnist.study.setting import ExperimentError, Setting
from caffe_proto import UserError, read_solver
from caffe_proto.hdf5 import open_hdf5
from lrp import Network

BATCH = 50  # recordings in memory at once: 50 spectrograms are 10 MB
PERMUTED = "_permuted"  # ends the name of the folder with the runs of permuted labels
DIGIT_COLUMN, GENDER_COLUMN = (OFFICIAL_COLUMNS.index(name) for name in ("digit", "gender"))


@cache
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    """The hash of a file; size and time tell another content under the same name apart."""
    return file_hash(path)


@dataclass(frozen=True)
class Recordings:
    """Test recordings: data (N, C, H, W) float32, labels (N, L) int, names: their paths in the preprocessed folder."""

    data: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    def describe(self, index: int) -> dict[str, object]:
        """What the name and labels say about one recording: recording, speaker, gender, digit."""
        name = self.names[index]
        gender = int(self.labels[index, GENDER_COLUMN])
        return {
            "recording": Path(name).stem.partition("_")[2],
            "speaker": name.partition("/")[0],
            "gender": GENDERS[gender] if gender >= 0 else "unknown",
            "digit": int(self.labels[index, DIGIT_COLUMN]),
        }


class TrainedRun:
    """One trained run: which it is, the weights that get tested, and what made them."""

    def __init__(self, folder: Path, run: RunName, setting: Setting, splits: Splits, weights: Path):
        self.folder, self.run, self.setting, self.splits, self.weights = folder, run, setting, splits, weights
        solver = read_solver(folder / "solver.prototxt")
        self.iterations, self.seed = int(solver.max_iter), int(solver.random_seed)
        self.deploy = folder / "deploy.prototxt"
        record = run_record(folder)
        self.trained_in = Path(record["folder"])  # which its prototxts name; it may have been moved since
        self.engine, self.recordings = record["origin"]["engine"], record["origin"]["recordings"]

    def check_recordings(self) -> None:
        """Refuse to look at other recordings than the run's: it may have trained on those that now are its test."""
        preprocessed = self.setting.preprocessed
        try:
            now = origin(self.run, preprocessed, self.engine)["recordings"]
        except UserError as error:
            raise ExperimentError.at("", error) from None
        changed = [part for part in PARTS if self.recordings.get(part) != now[part]]
        if changed:
            expected = f"the recordings that {self.folder} was made from"
            raise ExperimentError(preprocessed, expected, f"others ({', '.join(changed)})")

    @property
    def task(self) -> Task:
        return self.splits.tasks[self.run.task]

    @property
    def label_column(self) -> int:
        """The column of the labels that holds the task's classes."""
        return self.splits.column(self.run.task)

    @property
    def weights_sha256(self) -> str:
        stat = self.weights.stat()
        return _sha256(self.weights, stat.st_size, stat.st_mtime_ns)

    @cached_property
    def network(self) -> Network:
        """The run's network in numpy, for relevance."""
        network = Network(self.deploy, self.weights)
        self.check_classes(network.classes((1, *NETWORKS[self.run.network].input_shape)))
        return network

    def check_classes(self, count: int) -> None:
        """ExperimentError unless a network of so many scores has one for each of the task's classes."""
        if count != len(self.task.classes):
            raise ExperimentError(self.deploy, f"scores of {len(self.task.classes)} classes", count)

    @property
    def provenance(self) -> dict[str, object]:
        """What made this run's results, as columns of a table."""
        return {
            "network": self.run.network,
            "task": self.run.task,
            "split": self.run.split,
            "iterations": self.iterations,
            "training_engine": self.engine,
            "training_seed": self.seed,
            "weights_sha256": self.weights_sha256,
        }

    def listed(self, limit: int | None = None) -> list[str]:
        """The run's test recordings, paths in the preprocessed folder, in the list's order.

        With `limit` that many of them at most, drawn with the setting's seed and the run's task and split: networks
        are compared on the same recordings.
        """
        names = read_list(self.setting.preprocessed / list_name(self.run, "test"))
        if limit is None or limit >= len(names):
            return names
        rng = np.random.default_rng([self.setting.seed, *f"{self.run.task}_{self.run.split}".encode()])
        return [names[k] for k in sorted(rng.choice(len(names), limit, replace=False))]

    def read(self, names: list[str]) -> Recordings:
        """The recordings of that name (paths in the preprocessed folder), one item each."""
        data, labels = [], []
        classes = [len(task.classes) for task in self.splits.column_tasks]
        shape = (1, *NETWORKS[self.run.network].input_shape)
        for name in names:
            path = self.setting.preprocessed / name
            with ExperimentError.of_files(), open_hdf5(path, "a preprocessed recording") as content:
                one, label = content.floats("data"), content.numbers("label")
            if one.shape != shape or label.shape != (1, len(classes)):
                expected = f"data of shape {shape}, and labels of shape {(1, len(classes))}"
                raise ExperimentError(path, expected, f"{one.shape} and {label.shape}")
            if not np.isfinite(one).all() or any(k not in range(-1, n) for k, n in zip(label[0], classes, strict=True)):
                raise ExperimentError(path, f"finite data, and labels below {classes}", f"labels {label[0].tolist()}")
            data.append(one)
            labels.append(label.astype(np.int64))
        return Recordings(np.concatenate(data), np.concatenate(labels), tuple(names))

    def batches(self, limit: int | None = None, size: int = BATCH) -> Iterator[Recordings]:
        """The test recordings (see `listed`), some at a time."""
        names = self.listed(limit)
        for start in range(0, len(names), size):
            yield self.read(names[start : start + size])

    def answers(self, limit: int | None = None) -> pd.DataFrame:
        """What the network says of its test recordings (see `listed`), a row for each.

        Columns split, speaker, recording, gender, digit; label and predicted, numbers of classes; right, bool.
        """
        return self.answers_to({"": lambda recordings: recordings.data}, limit)[""]

    def answers_to(
        self, conditions: Mapping[Hashable, Callable[[Recordings], np.ndarray]], limit: int | None = None
    ) -> dict[Hashable, pd.DataFrame]:
        """{condition: `answers` when the network is given conditions[condition](recordings), data (N, C, H, W)}.

        Recordings are read once for all conditions.
        """
        scores, rows = self.scores(), {condition: [] for condition in conditions}
        with tqdm(total=len(self.listed(limit)), unit="rec", desc=str(self.run), disable=None) as bar:
            for recordings in self.batches(limit):
                labels = recordings.labels[:, self.label_column]
                for condition, change in conditions.items():
                    predicted = scores(change(recordings)).argmax(axis=1)
                    rows[condition] += [
                        {
                            "split": self.run.split,
                            **recordings.describe(index),
                            "label": int(label),
                            "predicted": int(said),
                            "right": bool(said == label),
                        }
                        for index, (label, said) in enumerate(zip(labels, predicted, strict=True))
                    ]
                bar.update(len(labels))
        return {condition: pd.DataFrame(own) for condition, own in rows.items()}

    @property
    def measured_from(self) -> dict[str, object]:
        """`provenance`, and what computed and chose here, as columns of a table."""
        return {**self.provenance, "engine": self.setting.engine, "selection_seed": self.setting.seed}

    def examples(self, digits: tuple[int, ...] = (0,)) -> Recordings:
        """A test recording of every digit in `digits` by a female and by a male speaker, female first.

        It is the first one in the list, not one that looks well: the list is in the order of the split's speakers.
        """
        chosen: dict[tuple[int, int], str] = {}
        for name in self.listed():
            digit = int(Path(name).stem.split("_")[1])
            gender = self._gender_of(name)
            if digit in digits and gender in (0, 1):
                chosen.setdefault((digit, gender), name)
        keys = [(digit, gender) for digit in digits for gender in (1, 0) if (digit, gender) in chosen]
        if not keys:
            raise ExperimentError(self.run, f"a test recording of digit {digits[0]}", "none")
        return self.read([chosen[key] for key in keys])

    @cached_property
    def _genders(self) -> dict[str, int]:
        return {}

    def _gender_of(self, name: str) -> int:
        """The gender label of a recording's speaker; one file of every speaker is read."""
        speaker = name.partition("/")[0]
        if speaker not in self._genders:
            self._genders[speaker] = int(self.read([name]).labels[0, GENDER_COLUMN])
        return self._genders[speaker]

    def scores(self) -> Callable[[np.ndarray], np.ndarray]:
        """A function from data (N, C, H, W) float32 to class scores before softmax (N, classes), by the engine."""
        if self.setting.engine not in ENGINES:
            raise ExperimentError("engine", f"one of {', '.join(ENGINES)}", self.setting.engine)
        return ENGINES[self.setting.engine](self)


def import_quietly():
    """pycaffe, whose logs of building nets are no news here; what this process starts later logs as it should."""
    before = os.environ.get("GLOG_minloglevel")  # noqa: SIM112 (glog spells it so)
    os.environ.setdefault("GLOG_minloglevel", "2")
    try:
        import caffe
    finally:
        if before is None:
            del os.environ["GLOG_minloglevel"]  # noqa: SIM112
    return caffe


def caffe_scores(run: TrainedRun) -> Callable[[np.ndarray], np.ndarray]:
    """Scores by pycaffe: the project's runtime, or the original where that is what `import caffe` finds."""
    caffe = import_quietly()
    if run.setting.gpu is None:
        caffe.set_mode_cpu()
    else:
        caffe.set_mode_gpu()
        caffe.set_device(run.setting.gpu)
    for path in (run.deploy, run.weights):
        if not os.access(path, os.R_OK):  # engines have words of their own for that
            raise ExperimentError(path, "a file that can be read", "none")
    net = caffe.Net(str(run.deploy), caffe.TEST, weights=str(run.weights))
    score = NETWORKS[run.run.network].score
    if not net.inputs or score not in net.blobs:
        raise ExperimentError(
            run.deploy, f"a network with an input and the scores {score}", ", ".join(net.blobs) or "none"
        )
    blob = net.blobs[net.inputs[0]]

    def scores(data: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(data), BATCH):
            part = data[start : start + BATCH]
            blob.reshape(*part.shape)
            blob.data[...] = part
            net.forward()
            parts.append(np.array(net.blobs[score].data).reshape(len(part), -1))
            run.check_classes(parts[-1].shape[1])
        return np.concatenate(parts)

    return scores


def numpy_scores(run: TrainedRun) -> Callable[[np.ndarray], np.ndarray]:
    """Scores by the relevance package's own forward pass."""
    return run.network.forward


ENGINES = {"caffe": caffe_scores, "numpy": numpy_scores}


def _runs(setting: Setting, folder: Path, network: str | None = None, task: str | None = None) -> list[TrainedRun]:
    """The trained runs in a folder, of one network and task or of all, in registry order, then by task and split."""
    splits_path = setting.preprocessed / SPLITS_NAME
    if not splits_path.exists():
        raise ExperimentError(setting.preprocessed, "a preprocessed folder", f"one without {SPLITS_NAME}")
    splits = load_splits(splits_path)
    names = [RunName.parse(path.name) for path in folder.glob("*") if (path / RECORD).exists()]
    names = [name for name in names if name and name.network in NETWORKS and name.task in splits.tasks]
    order = list(NETWORKS)
    found = []
    for name in sorted(names, key=lambda name: (order.index(name.network), name.task, name.split)):
        if (network is None or name.network == network) and (task is None or name.task == task):
            own = folder / str(name)
            state, weights = progress(own, name.network, read_solver(own / "solver.prototxt").max_iter)
            if state in ("trained", "tested"):
                found.append(TrainedRun(own, name, setting, splits, weights))
    return found


def trained_runs(setting: Setting, network: str | None = None, task: str | None = None) -> list[TrainedRun]:
    """All trained runs in the setting's folder, in the order of the registry, then by task and split.

    Raises ExperimentError when there is none of that network and task, or one was made from other recordings.
    """
    found = _runs(setting, setting.runs, network, task)
    for run in found:
        run.check_recordings()
    if not found:
        which = "".join(f" {word}" for word in (network, task) if word)
        raise ExperimentError(setting.runs, f"a trained{which} run at least", "none")
    return found


def permuted_runs(setting: Setting) -> list[TrainedRun]:
    """The trained runs in the folder `<runs>_permuted` beside the setting's (`audiomnist permute-labels`), maybe none.

    Their weights are looked at, and no recording of theirs: the preprocessed folder is that of the true labels.
    """
    return _runs(setting, setting.runs.with_name(setting.runs.name + PERMUTED))


def first_runs(setting: Setting, network: str) -> list[TrainedRun]:
    """The first trained split of every task of a network: what pictures of single recordings are made of."""
    firsts: dict[str, TrainedRun] = {}
    for run in trained_runs(setting, network):
        firsts.setdefault(run.run.task, run)
    return list(firsts.values())
