"""Tasks and their splits: who trains, validates and tests, and which label a recording has."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from audiomnist.corpus.layout import DIGITS, CorpusError, Defect, Recording, plain, read_json
from audiomnist.places import TABLES

PARTS = ("train", "validate", "test")
SPLITS_NAME = "splits.json"
OFFICIAL_SPLITS = TABLES / SPLITS_NAME
OFFICIAL_COLUMNS = ("digit", "gender")  # Caffe's two label columns, always first
_TASK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")


@dataclass(frozen=True)
class Task:
    """What a network learns to tell: the digit, or any attribute of the speaker in the metadata.

    `classes` are the class names, their position is the label. A speaker's class is the one whose name equals the
    metadata value of key `label` (case and white space aside); with `groups` the one whose list holds the value, "*"
    standing for any value that no other list holds; with `bins` class i is bins[i] <= value < bins[i + 1].
    """

    name: str
    label: str
    classes: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...] | None = None  # one tuple of metadata values for each class
    bins: tuple[float, ...] | None = None  # edges, one more than classes

    @property
    def definition(self) -> tuple:
        """What decides the labels: tasks with equal definitions share a label column."""
        return self.label, self.classes, self.groups, self.bins

    def class_of(self, digit: int, entry: Mapping) -> int | None:
        """The label of a recording of `digit` by the speaker whose metadata is `entry`; None when no class holds it."""
        if self.label == "digit":
            return self.classes.index(str(digit)) if str(digit) in self.classes else None
        value = entry.get(self.label)
        if value is None:
            return None
        if self.bins is not None:
            try:
                number = float(value)
            except (TypeError, ValueError, OverflowError):
                return None
            return next((k for k in range(len(self.classes)) if self.bins[k] <= number < self.bins[k + 1]), None)
        groups = self.groups or tuple((name,) for name in self.classes)
        rest = None
        for k, values in enumerate(groups):
            if plain(value) in map(plain, values):
                return k
            rest = k if "*" in values else rest
        return rest

    def to_json(self) -> dict:
        out: dict = {"label": self.label, "classes": list(self.classes)}
        if self.groups is not None:
            out["groups"] = dict(zip(self.classes, map(list, self.groups), strict=True))
        if self.bins is not None:
            out["bins"] = list(self.bins)
        return out


@dataclass(frozen=True)
class Splits:
    """The speakers of every split of every task: `folds[task][split][part]` is a tuple of speakers."""

    path: Path
    folds: dict[str, tuple[dict[str, tuple[str, ...]], ...]]
    tasks: dict[str, Task]  # a task for each name in folds

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the label's columns: digit and gender, then one for each further definition of a task."""
        return tuple(task.name for task in self.column_tasks)

    @property
    def column_tasks(self) -> tuple[Task, ...]:
        """The task that defines each label column."""
        official = _official_tasks()
        found = {official[name].definition: official[name] for name in OFFICIAL_COLUMNS}
        for task in self.tasks.values():
            found.setdefault(task.definition, task)
        return tuple(found.values())

    def column(self, task: str) -> int:
        """The label column that holds the classes of `task`."""
        return [t.definition for t in self.column_tasks].index(self.tasks[task].definition)

    def labels(self, digit: int, entry: Mapping) -> list[int]:
        """The label row of a recording; -1 where a task has no class for it (such a recording is in no list)."""
        row = [task.class_of(digit, entry) for task in self.column_tasks]
        return [-1 if label is None else label for label in row]

    def to_json(self) -> str:
        """The file's text, complete with the definitions of its tasks."""
        tasks = {name: task.to_json() for name, task in self.tasks.items()}
        folds = {n: [{p: list(f[p]) for p in PARTS} for f in folds] for n, folds in self.folds.items()}
        return json.dumps({"tasks": tasks, **folds}, indent=1, ensure_ascii=False) + "\n"


def _read_task(name: str, entry: object, where: Path) -> Task:
    def fail(expected: str, got: str) -> CorpusError:
        return CorpusError(f"{where}: task {name!r}", expected, got)

    if not isinstance(entry, dict):
        raise fail('an object with "label" and "classes"', repr(entry))
    if unknown := set(entry) - {"label", "classes", "groups", "bins"}:
        raise fail("label, classes, groups or bins", f"the unknown key {sorted(unknown)[0]!r}")
    label, classes = entry.get("label"), entry.get("classes")
    if not isinstance(label, str):
        raise fail('label "digit" or a key of the metadata', f"label {label!r}")
    names = isinstance(classes, list) and all(isinstance(c, str) for c in classes)
    if not names or len(set(classes)) != len(classes):
        raise fail("a list of different names", f"classes {classes!r}")
    if len(classes) < 2:
        raise fail("two classes or more", f"{len(classes)} class")
    groups, bins = entry.get("groups"), entry.get("bins")
    if groups is not None:
        texts = isinstance(groups, dict) and all(
            isinstance(v, list) and all(isinstance(x, str) for x in v) for v in groups.values()
        )
        if not texts or set(groups) != set(classes):
            raise fail("a list of metadata values for each class", f"groups {groups!r}")
        groups = tuple(tuple(groups[c]) for c in classes)
    if bins is not None:
        numbers = isinstance(bins, list) and all(isinstance(b, (int, float)) and abs(b) < 1e300 for b in bins)
        if not numbers or len(bins) != len(classes) + 1 or sorted(set(bins)) != bins:
            raise fail(f"{len(classes) + 1} rising numbers, the edges of {len(classes)} classes", f"bins {bins!r}")
        bins = tuple(bins)
    if groups is not None and bins is not None:
        raise fail("one of the two", "groups and bins")
    if label == "digit" and (groups is not None or bins is not None or not set(classes) <= set(DIGITS)):
        raise fail("the digits themselves as classes, without groups and bins", f"classes {classes!r}")
    return Task(name, label, tuple(classes), groups, bins)


@cache  # needed for the labels of every recording
def _official_tasks() -> dict[str, Task]:
    data = read_json(OFFICIAL_SPLITS, "AudioMNIST's splits")
    return {name: _read_task(name, entry, OFFICIAL_SPLITS) for name, entry in data["tasks"].items()}


def load_splits(path: Path) -> Splits:
    """Read a splits file: for each task a list of {"train", "validate", "test"} lists of speakers, and "tasks".

    A task that "tasks" does not define has AudioMNIST's definition (data/splits.json). Raises CorpusError when the file
    cannot be used; `check_splits` finds out whether its speakers exist.
    """
    path = Path(path)
    what = "splits in JSON, for each task a list of {train, validate, test} lists of speakers"
    data = read_json(path, what)
    if not isinstance(data, dict):
        raise CorpusError(path, what, f"a JSON {type(data).__name__}")
    defined = data.pop("tasks", {})
    if not isinstance(defined, dict):
        raise CorpusError(f"{path}: tasks", "an object of task definitions", repr(defined))
    if not data:
        raise CorpusError(path, what, "no task with splits")
    official, folds, tasks = _official_tasks(), {}, {}
    for name, splits in data.items():
        if not _TASK_NAME.fullmatch(name):
            raise CorpusError(path, "tasks named with letters, digits and hyphens", repr(name))
        if name not in defined and name not in official:
            expected = f"an entry under tasks (only {', '.join(official)} need none)"
            raise CorpusError(f"{path}: task {name!r}", expected, "none")
        task = _read_task(name, defined[name], path) if name in defined else official[name]
        if name in official and task.definition != official[name].definition:
            raise CorpusError(f"{path}: task {name!r}", "the paper's, or another name", "another definition")
        if not isinstance(splits, list) or not splits:
            raise CorpusError(f"{path}: {name}", "a list of splits", f"{splits!r:.60}")
        for k, split in enumerate(splits):
            if not isinstance(split, dict) or set(split) != set(PARTS):
                keys = sorted(split) if isinstance(split, dict) else repr(split)
                raise CorpusError(f"{path}: {name} split {k}", f"exactly {', '.join(PARTS)}", f"{keys!s:.60}")
            for part, speakers in split.items():
                if not isinstance(speakers, list) or not all(isinstance(s, str) for s in speakers):
                    place = f"{path}: {name} split {k} {part}"
                    raise CorpusError(place, "a list of speakers as text", f"{speakers!r:.60}")
        folds[name] = tuple({part: tuple(split[part]) for part in PARTS} for split in splits)
        tasks[name] = task
    return Splits(path, folds, tasks)


def find_splits(source: Path) -> Splits:
    """The splits of a corpus: its own splits.json, else AudioMNIST's."""
    own = Path(source) / SPLITS_NAME
    return load_splits(own if own.exists() else OFFICIAL_SPLITS)


def members(
    splits: Splits, task: str, split: int, part: str, recordings: Iterable[tuple[Recording, Sequence[int]]]
) -> list[tuple[Recording, int]]:
    """The recordings of one part of a split, in the order of its speakers, each with its class in the task.

    `recordings` are pairs of a recording and its label row (see `Splits.labels`). Recordings without a class in the
    task (a digit that the task leaves out) are left out.
    """
    column = splits.column(task)
    by_speaker: dict[str, list[tuple[Recording, int]]] = {}
    for recording, labels in recordings:
        if labels[column] >= 0:
            by_speaker.setdefault(recording.speaker, []).append((recording, labels[column]))
    speakers = dict.fromkeys(splits.folds[task][split][part])
    return [pair for speaker in speakers for pair in sorted(by_speaker.get(speaker, []))]


def check_splits(
    splits: Splits, recordings: Sequence[tuple[Recording, Sequence[int]]], meta: Mapping[str, Mapping]
) -> tuple[list[Defect], set[tuple[str, int]]]:
    """What is wrong with the splits for these recordings, and the (task, split) pairs that cannot be used at all.

    A split is unusable when it trains and tests on the same speaker, has a part without recordings, or would train on
    one class only. Absent speakers and parts with only one class are defects too, but the split stays usable.
    """
    present = {recording.speaker for recording, _ in recordings}
    defects, unusable = [], set()
    for name, folds in splits.folds.items():
        task = splits.tasks[name]
        for k, fold in enumerate(folds):
            where = f"{splits.path.name} {name} split {k}"

            def report(expected: str, got: str, where: str = where) -> None:
                defects.append(Defect(where, expected, got))

            for speaker, count in Counter(s for part in PARTS for s in fold[part]).items():
                if count > 1:
                    parts = ", ".join(part for part in PARTS if speaker in fold[part])
                    report("each speaker once", f"speaker {speaker} {count} times ({parts})")
                    unusable.add((name, k))
            for part in PARTS:
                if absent := [s for s in fold[part] if s not in present]:
                    got = f"{_speakers(absent)} of {part} without any usable recording"
                    report("speakers of this corpus", got)
                for speaker in fold[part]:
                    entry = meta.get(speaker, {})
                    if speaker in present and task.label != "digit" and task.class_of(0, entry) is None:
                        got = f"speaker {speaker} of {part}, whose {task.label} is {entry.get(task.label)!r}"
                        report(f"speakers of the task's classes ({', '.join(task.classes)})", got)
                classes = {label for _, label in members(splits, name, k, part, recordings)}
                if not classes:
                    report("recordings in every part", f"no recording in {part}")
                    unusable.add((name, k))
                elif len(classes) == 1:
                    report("two classes or more", f"the class {task.classes[classes.pop()]!r} alone in {part}")
                    if part == "train":
                        unusable.add((name, k))
    return defects, unusable


def _speakers(names: Sequence[str]) -> str:
    return f"speaker{'' if len(names) == 1 else 's'} {', '.join(names)}"
