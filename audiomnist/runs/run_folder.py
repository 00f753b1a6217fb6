"""Run folders: which runs there are, how far each is, and what made it.

A run lives in `<runs>/<network>_<task>_<split>/`: the rendered prototxts, `run.json` (what made it), `snapshots/`,
`train.log` and, once it is tested, `test.log`. Who changes it holds `.lock`.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audiomnist.corpus.splits import PARTS, SPLITS_NAME, Splits, find_splits
from audiomnist.preprocessing.journal import JOURNAL, MANIFEST, Journal
from audiomnist.provenance import made_by
from audiomnist.runs.networks import NETWORKS
from caffe_proto import CaffeFileError, UserError, read_solver_state, write_file
from caffe_proto.atomic import make_folder
from caffe_proto.texts import read_record, read_text

RECORD = "run.json"
TRAIN_LOG, TEST_LOG = "train.log", "test.log"
LOCK = ".lock"
ALL = "all"
# where a solver says that it is done, the original's and ours; the command says it too, when all is written
_SOLVER_LOGS = (b" solver.cpp:", b" training_log.py:")


class RunError(UserError, RuntimeError):
    """A run that cannot be made or continued, or that does not exist."""


class SelectionError(RunError):
    """A network, task or split that does not exist was asked for."""

    exit_status = 2  # misused


@dataclass(frozen=True, order=True)
class RunName:
    """The name of a run: network, task and split; its text is the run folder's name."""

    network: str
    task: str
    split: int

    def __str__(self) -> str:
        return f"{self.network}_{self.task}_{self.split}"

    @classmethod
    def parse(cls, folder_name: str) -> RunName | None:
        """The run that a folder belongs to, or None for any other folder."""
        match = re.fullmatch(r"(.+)_([^_]+)_(\d+)", folder_name)
        return cls(match[1], match[2], int(match[3])) if match else None


def splits_of(data: Path, preprocessed: Path) -> Splits:
    """The splits of the preprocessed folder where there is one, else those of the recordings. Raises CorpusError."""
    return find_splits(preprocessed if (preprocessed / SPLITS_NAME).exists() else data)


def select(splits: Splits, network: str = ALL, task: str = ALL, split: str = ALL) -> list[RunName]:
    """The runs that a selection names, in order: networks, then tasks, then splits.

    Raises SelectionError for names that `splits` or the registry of networks does not have.
    """

    def choose(kind, asked, known):
        if asked == ALL:
            return list(known)
        if asked not in known:
            raise SelectionError(kind, f"{', '.join(known)} or {ALL}", asked)
        return [asked]

    runs = []
    for network_name in choose("network", network, list(NETWORKS)):
        for task_name in choose("task", task, list(splits.folds)):
            numbers = [str(k) for k in range(len(splits.folds[task_name]))]
            if (
                split not in (ALL, *numbers)
                and task == ALL
                and any(split in map(str, range(len(folds))) for folds in splits.folds.values())
            ):
                continue  # with all tasks chosen, those that have this split
            for number in choose(f"split of task {task_name}", split, numbers):
                runs.append(RunName(network_name, task_name, int(number)))
    return runs


def list_name(run: RunName, part: str) -> str:
    """File name of the run's list of recordings, one of corpus.splits.PARTS, in the preprocessed folder."""
    return f"{NETWORKS[run.network].inputs}_{run.task}_{run.split}_{part}.txt"


def padded_list(part: str) -> str:
    """File name, in the run's folder, of such a list with rows behind it that fill the last batch, where it needs
    some."""
    return f"{part}.txt"


def padding_name(run: RunName) -> str:
    """File name of those rows, in the preprocessed folder."""
    return f"{NETWORKS[run.network].inputs}_padding.hdf5"


def snapshots(folder: Path, network: str) -> list[tuple[int, Path, Path]]:
    """(iteration, caffemodel, solverstate) of every snapshot that has both files, oldest first."""
    found = []
    for state in (folder / "snapshots").glob(f"{network}_iter_*.solverstate*"):
        match = re.fullmatch(rf"{re.escape(network)}_iter_(\d+)\.solverstate(\.h5)?", state.name)
        model = state.with_name(state.name.replace(".solverstate", ".caffemodel"))
        if match and model.exists():
            found.append((int(match[1]), model, state))
    return sorted(found)


def _is_whole(model: Path, state: Path) -> bool:
    # the original engine writes snapshots in place: a killed run can leave a cut one behind
    try:
        if state.suffix != ".h5":
            read_solver_state(state)
        return model.stat().st_size > 0
    except CaffeFileError:
        return False


def progress(folder: Path, network: str, max_iter: int) -> tuple[str, Path | None]:
    """How far a run is, and the file that its next step starts from.

    ("tested", caffemodel), ("trained", caffemodel) with a snapshot at `max_iter`, ("started", solverstate) with an
    earlier one, ("new", None).
    """
    for iteration, model, state in reversed(snapshots(folder, network)):
        if iteration > max_iter or not _is_whole(model, state):
            continue
        if iteration < max_iter:
            return "started", state
        return ("tested" if (folder / TEST_LOG).exists() else "trained"), model
    return "new", None


def state_to_end(folder: Path, model: Path) -> Path | None:
    """The solverstate from which a training is to be brought to its end, though `model`, its last snapshot, is there.

    None where the log says that it has ended since it last began, or where there is none. A training that was killed
    between its last snapshot and its end has not done its last test.
    """
    log = folder / TRAIN_LOG
    said = log.read_bytes().rpartition(b"Starting Optimization")[2] if log.exists() else b"Optimization Done."
    lines = [line for line in said.splitlines() if line.endswith(b"Optimization Done.")]
    if not all(any(place in line for place in _SOLVER_LOGS) for line in lines):
        return None
    return model.with_name(model.name.replace(".caffemodel", ".solverstate"))


def read_list(path: Path) -> list[str]:
    """The files that a list of recordings names (Caffe separates them by white space), one at least.

    Raises CaffeFileError.
    """
    what = "a list of recordings"
    names = read_text(path, what).split()
    if not names:
        raise CaffeFileError(path, f"{what} with at least one", "none")
    return names


def run_record(folder: Path) -> dict:
    """What is recorded of how a run was made: its folder then, its `origin`, `made_by`. Raises RunError."""
    path, what = folder / RECORD, "the record of how a run was made"
    with RunError.of_files():
        record = read_record(path, what, folder=str, origin=dict)
    own = record["origin"]
    if not isinstance(own.get("engine"), str) or not isinstance(own.get("recordings"), dict):
        raise RunError(path, what, "an origin without engine and recordings")
    return record


def origin(run: RunName, preprocessed: Path, engine: str) -> dict:
    """What makes a run, beside its prototxts: the engine and the recordings.

    The recordings of each part count as a digest over its list and, where the preprocessing's journal and manifest are
    there, over the contents of the recordings and the seed of the preprocessing; not over where anything lies.
    """
    manifest = preprocessed / MANIFEST
    seed = read_record(manifest, "the manifest of a preprocessing").get("seed") if manifest.exists() else None
    fingerprints = Journal(preprocessed / JOURNAL).fingerprints
    digests = {}
    for part in PARTS:
        digest = hashlib.sha256(f"seed {seed}\n".encode())
        for name in read_list(preprocessed / list_name(run, part)):
            speaker, _, file = name.rpartition("/")
            recording = f"{speaker}/{file.partition('_')[2].removesuffix('.hdf5')}.wav"
            digest.update(f"{name} {fingerprints.get(recording, '')}\n".encode())
        digests[part] = digest.hexdigest()
    return {"engine": engine, "recordings": digests}


def _first_difference(old: str, new: str) -> tuple[str, str]:
    """The first line of `new` that `old` has not, and the first of `old` that `new` has not."""
    changed = [line for line in difflib.ndiff(new.splitlines(), old.splitlines()) if line[:1] in "+-"]
    return tuple(next((line[2:].strip() for line in changed if line[0] == sign), "nothing") for sign in "-+")


def check_origin(folder: Path, texts: dict[str, str], made: dict) -> bool:
    """True if `folder` already holds the run with these prototxts and this `origin` (`made`), False if it holds none.

    Raises RunError, naming the first difference, when it holds a run that something else made: results of different
    settings are never mixed.
    """
    record = folder / RECORD
    advice = "move the folder away or choose another one with --runs"
    if not record.exists():
        if any((folder / "snapshots").glob("*")):
            raise RunError(folder, f"a {RECORD} that says what made the snapshots", f"none ({advice})")
        return False
    try:
        recorded = run_record(folder)
        old_texts = {name: read_text(folder / name, "a prototxt of the run") for name in texts}
    except UserError as error:
        raise RunError(error.place, error.expected, f"{error.got} ({advice})") from None
    old_folder, old_origin = recorded["folder"], recorded["origin"]
    for name, text in texts.items():
        old = old_texts[name].replace(old_folder, str(folder))  # a moved run is still the same
        if old != text:
            ours, theirs = _first_difference(old, text)
            raise RunError(folder, f"a run whose {name} has `{ours}`", f"another run with `{theirs}` ({advice})")
    for key, value in made.items():
        theirs = old_origin.get(key)
        if theirs != value:
            if isinstance(value, dict):
                changed = ", ".join(part for part in value if (theirs or {}).get(part) != value[part])
                raise RunError(folder, "a run of these recordings", f"one of others ({changed}; {advice})")
            raise RunError(folder, f"a run whose {key} is `{value}`", f"another run with `{theirs}` ({advice})")
    return True


def write_run(folder: Path, texts: dict[str, str], made: dict) -> None:
    """Write the prototxts and, last, the record of what made the run into `folder`."""
    (folder / "snapshots").mkdir(parents=True, exist_ok=True)
    record = json.dumps({"folder": str(folder), "origin": made, "made_by": made_by()}, indent=1) + "\n"
    for name, text in {**texts, RECORD: record}.items():
        write_file(folder / name, text)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Context manager: the run's folder, made where missing, is this process's alone; gives the lock's descriptor.

    Raises RunError where another process has it, and OSError.
    """
    make_folder(folder)
    with open(folder / LOCK, "a") as file:  # appending: a link's target is not emptied
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(folder, "a run that nobody else works on", "one that another process has") from None
        yield file.fileno()


def are_listed(run: RunName, preprocessed: Path) -> bool:
    """Are the lists of the run's recordings there?"""
    return all((preprocessed / list_name(run, part)).exists() for part in PARTS)
