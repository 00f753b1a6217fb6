"""Fill a network's templates in for one run, and say how far that run is.

    audiomnist render AlexNet digit 0 --preprocessed DIR --run DIR [--max-iter N] [--seed N] [--demo] ...

writes {train,test,deploy,solver}.prototxt into the run folder and prints how far the run is, which file the next step
starts from, and the number of iterations that a test takes. All arithmetic about tasks is here: classes, labels, and
batches that cover every recording of a list exactly once.
"""

from __future__ import annotations

import argparse
import re
import string
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from audiomnist.arguments import command_parser, number, positive
from audiomnist.corpus.splits import PARTS, SPLITS_NAME, Splits, load_splits
from audiomnist.door import door
from audiomnist.preprocessing.store import hdf5_bytes
from audiomnist.runs.engine import OWN
from audiomnist.runs.networks import NETWORKS, ROLES
from audiomnist.runs.run_folder import (
    RunError,
    RunName,
    check_origin,
    list_name,
    origin,
    padded_list,
    padding_name,
    progress,
    read_list,
    select,
    write_run,
)
from audiomnist.signal import inputs as signal_inputs
from caffe_proto import sentence, write_file

LARGEST_BATCH = 100  # the paper's batch size for validation and test
LEAST_BATCH = 25  # where no batch of this size or a larger one divides a list, it is padded
DEFAULT_SEED = 0
EVALUATED = ("validate", "test")  # of corpus.splits.PARTS
IGNORED_LABEL = -1
IGNORED = {
    "accuracy": f"\n  accuracy_param {{ ignore_label: {IGNORED_LABEL} }}",
    "loss": f"\n  loss_param {{ ignore_label: {IGNORED_LABEL} }}",
}


@dataclass(frozen=True)
class Batches:
    """Batches that cover a list once: `size` * `iterations` rows, the last `padding` of which are no recordings."""

    size: int
    iterations: int
    padding: int = 0


def cover(count: int, largest: int = LARGEST_BATCH, least: int = LEAST_BATCH) -> Batches:
    """The batches for a list of `count` recordings: the largest size up to `largest` that divides it, or, where that
    is below `least`, as few batches as can be, of one size, the last one padded.

    Caffe's test averages over whole batches and wraps around at the end of a list: an exact cover alone counts every
    recording once. Padding has labels that loss and accuracy ignore, so that it does not count at all.
    """
    if count < 1:
        raise ValueError(sentence("count", "at least one recording", count))
    size = next(b for b in range(min(largest, count), 0, -1) if count % b == 0)
    if size >= min(least, count):
        return Batches(size, count // size)
    iterations = -(-count // largest)
    size = -(-count // iterations)
    return Batches(size, iterations, size * iterations - count)


def label_fields(splits: Splits, task: str) -> dict[str, str]:
    """The placeholders about labels: the label row has one column for each of `splits.columns`."""
    blobs = [f"label_{column}" for column in splits.columns]
    label = blobs[splits.column(task)]
    return {
        "classes": str(len(splits.tasks[task].classes)),
        "label": label,
        "label_tops": "\n  ".join(f'top: "{blob}"' for blob in blobs),
        "slice_points": "\n    ".join(f"slice_point: {k}" for k in range(1, len(blobs))),
        "silent_bottoms": "\n  ".join(f'bottom: "{blob}"' for blob in blobs if blob != label),
    }


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def override(text: str, key: str, value: int) -> str:
    """A solver prototxt with another value for the top-level field `key`, which it must have once."""
    text, count = re.subn(rf"(?m)^{key}: .*$", f"{key}: {value}", text)
    if count != 1:
        raise RunError("solver template", f"field {key} once", f"{count} times")
    return text


def solver_value(text: str, key: str) -> int:
    """The integer value of a top-level field of a solver prototxt."""
    match = re.search(rf"(?m)^{key}: (\d+)$", text)
    if match is None:
        raise RunError("solver template", f"field {key} with a whole number", "none")
    return int(match[1])


@dataclass(frozen=True)
class Training:
    """What a call may change about the training of its runs; None leaves the template's value.

    `demo` takes the demo's templates, `max_iter` and `snapshot` count iterations, `seed` is of weights and shuffling.
    """

    demo: bool = False
    max_iter: int | None = None
    snapshot: int | None = None
    seed: int = DEFAULT_SEED


@dataclass(frozen=True)
class State:
    """How far a run is (see `progress`): its step, the file that the next step starts from, iterations of its test."""

    step: str
    file: Path | None
    test_iterations: int


def render(
    run: RunName,
    splits: Splits,
    counts: dict[str, int],
    folder: Path,
    *,
    demo: bool = False,
    max_iter: int | None = None,
    snapshot: int | None = None,
    seed: int = DEFAULT_SEED,
) -> dict[str, str]:
    """The prototxts of a run: {"train.prototxt": text, "test.prototxt": ...}, one for each of ROLES.

    `counts` gives the number of recordings in the run's "validate" and "test" lists; `folder` is the absolute run
    folder, which the solver names. `max_iter` and `snapshot` override the template's.
    """
    network = NETWORKS[run.network]
    batches = {part: cover(counts[part]) for part in EVALUATED}
    fields = {
        **label_fields(splits, run.task),
        **{f"{part}_list": list_name(run, part) for part in PARTS},
        **{f"{part}_list": _quote(str(folder / padded_list(part))) for part in EVALUATED if batches[part].padding},
        **{f"{part}_batch": str(batches[part].size) for part in EVALUATED},
        "validate_iter": str(batches["validate"].iterations),
        "net": _quote(str(folder / "train.prototxt")),
        "snapshot_prefix": _quote(str(folder / "snapshots" / network.name)),
        "random_seed": str(seed),
    }
    texts = {}
    for role in ROLES:
        template = string.Template(network.template(role, demo).read_text(encoding="utf-8"))
        padded = batches["test" if role == "test" else "validate"].padding
        ignored = {f"ignored_by_{layer}": text if padded else "" for layer, text in IGNORED.items()}
        texts[f"{role}.prototxt"] = template.substitute(fields | ignored)
    for key, value in (("max_iter", max_iter), ("snapshot", snapshot)):
        if value is not None:
            texts["solver.prototxt"] = override(texts["solver.prototxt"], key, value)
    return texts


def write_padding(run: RunName, preprocessed: Path, columns: int) -> None:
    """Write the file that fills padded lists, a row of silence that is no recording, beside them where it is missing:
    lists name files by words without spaces, as the path of a run's folder may have."""
    path = preprocessed / padding_name(run)
    if not path.exists():
        kind = NETWORKS[run.network].inputs
        silence = np.zeros(signal_inputs.NETWORKS[kind].shape, np.float32)
        write_file(path, hdf5_bytes(kind, silence, [IGNORED_LABEL] * columns))


def open_run(run: RunName, preprocessed: Path, folder: Path, engine: str, training: Training) -> State:
    """Make the folder of a run, or check that it already holds this very run; returns how far it is.

    `engine` is its name in the record. Raises RunError, CorpusError, CaffeFileError or OSError.
    """
    splits = load_splits(preprocessed / SPLITS_NAME)
    folder = folder.resolve()
    listed = {part: read_list(preprocessed / list_name(run, part)) for part in PARTS}
    texts = render(run, splits, {part: len(names) for part, names in listed.items()}, folder, **asdict(training))
    batches = {part: cover(len(listed[part])) for part in EVALUATED}
    padded = [part for part in EVALUATED if batches[part].padding]
    for part in padded:
        texts[padded_list(part)] = "\n".join(listed[part] + [padding_name(run)] * batches[part].padding) + "\n"
    made = origin(run, preprocessed, engine)
    if not check_origin(folder, texts, made):
        if padded:
            write_padding(run, preprocessed, len(splits.columns))
        write_run(folder, texts, made)
    step, file = progress(folder, run.network, solver_value(texts["solver.prototxt"], "max_iter"))
    return State(step, file, batches["test"].iterations)


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        "audiomnist render",
        __doc__.split("\n", 1)[0],
        "audiomnist render AlexNet digit 0 --preprocessed demo/preprocessed --run demo/runs/AlexNet_digit_0 --demo",
        "audiomnist render AudioNet gender 3 --preprocessed preprocessed_data --run runs/AudioNet_gender_3 --seed 1",
    )
    add = p.add_argument
    add("network", choices=list(NETWORKS), help="whose templates")
    add("task", metavar="TASK", help="digit, gender, or another of the recordings' splits.json")
    add("split", metavar="SPLIT", help="number of the split")
    add("--preprocessed", type=Path, required=True, metavar="DIR", help="the networks' inputs")
    add("--run", type=Path, required=True, metavar="DIR", help="run folder to write")
    add("--max-iter", type=positive, metavar="N", help="training iterations (default: the solver's)")
    add("--snapshot", type=positive, metavar="N", help="iterations between snapshots (default: the solver's)")
    seed = "of initial weights, dropout and shuffling (default: %(default)s)"
    add("--seed", type=number, default=DEFAULT_SEED, metavar="N", help=seed)
    add("--demo", action="store_true", help="the demo's solver and fillers")
    add("--engine", default=OWN, metavar="COMMAND", help="recorded: engines never mix (default: %(default)s)")
    return p


@door("render")
def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    splits = load_splits(options.preprocessed / SPLITS_NAME)
    (run,) = select(splits, options.network, options.task, options.split)
    training = Training(options.demo, options.max_iter, options.snapshot, options.seed)
    state = open_run(run, options.preprocessed, options.run, options.engine, training)
    step = f"{state.step} ({state.file})" if state.file else state.step
    print(f"{options.run}: {step}; a test takes {state.test_iterations} iterations")
    return 0
