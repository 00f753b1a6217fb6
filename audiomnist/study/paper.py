"""The paper that is reproduced: which numbers here may be compared with it, and where each of its parts is to be found.

Numbers are comparable where all of this is so (`not_comparable` says what is not):

- the recordings are AudioMNIST: of the speakers whose recording dates `data/recordingdates.json` lists (all but the
  three whom one published version of the metadata lacks), SAME in a hundred or more have that date in the metadata, and
  the folder has no mark of the demo's synthetic speakers;
- the splits of the task are the authors' (`data/splits.json`), and every one of them is trained for every network;
- every test list names all 50 recordings of each digit by each speaker;
- every run's prototxts are what the paper's templates give: no demo, no other number of iterations.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audiomnist.corpus.demo_corpus import MANIFEST as DEMO_MANIFEST
from audiomnist.corpus.layout import CorpusError, read_json
from audiomnist.corpus.metadata import META_NAME, read_metadata
from audiomnist.corpus.splits import OFFICIAL_SPLITS, PARTS, Splits, load_splits
from audiomnist.places import TABLES
from audiomnist.runs.render import render
from audiomnist.runs.run_folder import list_name, read_list
from audiomnist.study.setting import Setting
from audiomnist.study.trained import TrainedRun
from caffe_proto import read_solver

TITLE = (
    "Becker, Vielhaben, Ackermann, Müller, Lapuschkin, Samek, “AudioMNIST: Exploring Explainable Artificial "
    "Intelligence for Audio Analysis on a Simple Benchmark”, Journal of the Franklin Institute 361(1), 2024"
)
RECORDING_DATES = TABLES / "recordingdates.json"
SAME = 90  # in a hundred recording dates must agree; later versions of the metadata may correct some
DIGITS, REPETITIONS = 10, 50  # of each speaker
NETWORKS = ("AlexNet", "AudioNet")  # in the paper's order

# (part of the paper, experiment here or None, what is to be said of it); which figure has which number is unverified
PARTS_OF_THE_PAPER = (
    ("the corpus: recordings, speakers, durations", "corpus", ""),
    ("Table 1: test accuracy by input and task", "table1", ""),
    ("figure: relevance over spectrograms, digits and gender", "spectrogram_relevance", ""),
    ("figure: relevance over waveforms, with a zoom", "waveform_relevance", ""),
    ("experiment: scaled frequency axes (gender)", "gender_hypothesis", ""),
    ("figure: accuracy while samples are set to zero", "faithfulness", ""),
    ("audible heatmaps", "audible_heatmaps", ""),
    (
        "user study: are audible or visual explanations easier to interpret",
        None,
        "not reproduced, because it needs people, and the paper's participants, items and questions are not published",
    ),
)

# The paper's claims that have a test here, one family of tests whatever else is asked (see `statistics`)
CLAIMS = (
    *(f"{task}: spectrograms serve better than waveforms" for task in ("digit", "gender")),
    "gender: accuracy falls on scaled frequency axes",
    "gender: accuracy on scaled frequency axes is below chance",
    *(f"{task}: relevance before {other}" for task in ("digit", "gender") for other in ("amplitude", "random")),
)


def _splits(splits: Splits, task: str) -> tuple | None:
    """The speakers of each part of each split of a task, whatever their order."""
    folds = splits.folds.get(task)
    return folds and tuple(tuple(frozenset(fold[part]) for part in PARTS) for fold in folds)


def is_audiomnist(metadata: dict[str, dict]) -> bool:
    """Whether this is AudioMNIST's metadata, by its speakers' recording dates (see the module)."""
    dates = read_json(RECORDING_DATES, "AudioMNIST's recording dates")
    same = sum(metadata.get(speaker, {}).get("recordingdate") == date for speaker, date in dates.items())
    return 100 * same >= SAME * len(dates)


def is_demo(data: Path) -> bool:
    """Whether the recordings in this folder are the demo's synthetic speech."""
    return (data / DEMO_MANIFEST).exists()


def other_corpus(data: Path) -> str | None:
    """Why the recordings in this folder are not AudioMNIST, or None where they are (see the module)."""
    if is_demo(data):
        return "the recordings are the demo's synthetic speech"
    try:
        known = is_audiomnist(read_metadata(data / META_NAME))
    except CorpusError:
        return "the recordings have no metadata, so that they are not known to be AudioMNIST"
    return None if known else "the recordings are not AudioMNIST"


def other_training(run: TrainedRun) -> str | None:
    """How a run was trained otherwise than the paper's solver and templates say, or None."""
    counts = {part: len(read_list(run.setting.preprocessed / list_name(run.run, part))) for part in PARTS}
    solver = read_solver(run.folder / "solver.prototxt")
    texts = render(
        run.run, run.splits, counts, run.trained_in, snapshot=int(solver.snapshot), seed=int(solver.random_seed)
    )
    for name, text in texts.items():
        if (run.folder / name).read_text(encoding="utf-8") != text:
            return f"the {name} of {run.run} is not the paper's"
    return None


def not_comparable(setting: Setting, runs: Sequence[TrainedRun], task: str, networks: Sequence[str]) -> str | None:
    """Why what these runs of the networks on the task show is no evidence about the paper, or None where it is."""
    if reason := other_corpus(setting.data):
        return reason
    official = load_splits(OFFICIAL_SPLITS)
    wanted = range(len(official.folds.get(task, ())))
    for network in networks:
        own = [run for run in runs if (run.run.network, run.run.task) == (network, task)]
        if any(_splits(run.splits, task) != _splits(official, task) for run in own):
            return f"the splits of {task} are not the authors'"
        if missing := sorted(set(wanted) - {run.run.split for run in own}):
            return f"{network} is not trained on {task} split{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}"
        for run in own:
            speakers = run.splits.folds[task][run.run.split]["test"]
            found, expected = len(run.listed()), DIGITS * REPETITIONS * len(speakers)
            if found != expected:
                return f"{run.run} is tested on {found} of AudioMNIST's {expected} recordings"
            if reason := other_training(run):
                return reason
    return None
