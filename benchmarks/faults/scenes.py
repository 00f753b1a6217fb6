"""The commands that are disturbed, on inputs so small that each is done in a second or so.

Everything is imported before the first fork, and the engine that `train_test.sh` starts is a fork as well: Python's own
start would take longer than the commands.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import random
import re
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import h5py
import matplotlib.figure
import numpy as np
import scipy.signal  # noqa: F401
import torch  # noqa: F401

import audiomnist.explain
import audiomnist.signal
import caffe.cli
import caffe.curves
import lrp
from audiomnist.corpus import import_corpus
from audiomnist.corpus.metadata import META_NAME
from audiomnist.door import door
from audiomnist.explain import cli as explain
from audiomnist.preprocessing import command as preprocessing
from audiomnist.provenance import code_digest, made_by
from audiomnist.recording import cut, session
from audiomnist.recording.questions import taken_aliases
from audiomnist.runs import engine, networks, train_test
from audiomnist.study import catalogue, outcome, study
from benchmarks.faults.harness import Scene
from caffe import glog
from tests.small_corpus import make_corpus, speech, wav_file
from tests.small_study import make_study
from tests.solver_cases import write_corpus

GLOG = rb"(?m)^[IWEF]\d{4} [\d:.]+ +\d+ \S+\] "

# -- corpora ----------------------------------------------------------------------------------------------------------


def strangers(folder: Path) -> None:
    """Recordings that are named as others name them."""
    (folder / "recordings").mkdir()
    for number, (speaker, digit) in enumerate(itertools.product(("theo", "anna", "bob"), range(4))):
        content = wav_file(speech(number).tobytes())
        (folder / "recordings" / f"{digit}_{speaker}_0.wav").write_bytes(content)


def bring_in(folder: Path) -> int:
    """`audiomnist import-corpus`, which refuses what is done."""
    if (folder / "corpus" / META_NAME).exists():
        return 0
    return import_corpus.main([f"{folder}/recordings", f"{folder}/corpus"])


# -- preprocessing ----------------------------------------------------------------------------------------------------


def corpus(folder: Path) -> None:
    """Six speakers, two digits."""
    make_corpus(folder / "data", digits=range(2))


def preprocess(jobs: int, folder: Path) -> int:
    return preprocessing.main(["-src", f"{folder}/data", "-dst", f"{folder}/out", "--jobs", f"{jobs}"])


def journal(content: bytes) -> frozenset:
    """The whole lines of a preprocessing's journal that say that a recording is done."""
    return frozenset(line for line in content.split(b"\n") if line.endswith(b"\t."))


# -- training ---------------------------------------------------------------------------------------------------------

NET = """name: "dropout"
layer { name: "data" type: "HDF5Data" top: "data" top: "label" include { phase: TRAIN }
  hdf5_data_param { source: "train.txt" batch_size: 4 shuffle: true } }
layer { name: "data" type: "HDF5Data" top: "data" top: "label" include { phase: TEST }
  hdf5_data_param { source: "test.txt" batch_size: 5 } }
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  inner_product_param { num_output: 20 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""
SOLVER = """net: "net.prototxt" max_iter: 20 display: 5 snapshot: 5 snapshot_prefix: "{folder}/s" base_lr: 0.1
lr_policy: "fixed" momentum: 0.9 random_seed: 4 test_iter: 2 test_interval: 5 snapshot_format: {form}
"""


def solver(form: str, folder: Path) -> None:
    """Rows for a small network with dropout, which are shuffled, and a solver that takes four snapshots."""
    write_corpus(folder)
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(SOLVER.format(folder=folder, form=form))


def train(folder: Path) -> int:
    """`caffe train`, from the last snapshot where there is one."""
    os.chdir(folder)
    states = sorted(folder.glob("s_iter_*.solverstate*"), key=lambda path: int(re.findall(r"\d+", path.name)[0]))
    last = [f"-snapshot={states[-1]}"] if states else []
    return caffe.cli.main(["train", "-solver=solver.prototxt", *last])


def is_curve(content: bytes) -> bool:
    return content.startswith(b"iteration,kind,name,value\r\n") and content.endswith(b"\r\n")


def is_png(content: bytes) -> bool:
    return content.startswith(b"\x89PNG\r\n") and content.endswith(b"IEND\xaeB`\x82")


# -- runs -------------------------------------------------------------------------------------------------------------


def narrow_networks(place: Path) -> None:
    """From now on the networks of `models/` have a thirty-second of their outputs, and batches of four."""

    def narrowed(match: re.Match) -> str:
        return f"num_output: {-(-int(match[1]) // 32)}"

    for network in list(networks.NETWORKS.values()):
        (place / network.name).mkdir(parents=True)
        for path in network.folder.iterdir():
            text = re.sub(r"num_output: (\d+)", narrowed, path.read_text())
            (place / network.name / path.name).write_text(re.sub(r"batch_size: \d+", "batch_size: 4", text))
    networks.NETWORKS.update(networks.find_networks(place))


def inputs(folder: Path) -> None:
    """A preprocessed corpus."""
    corpus(folder)
    preprocessing.main(["-src", f"{folder}/data", "-dst", f"{folder}/inputs", "--jobs", "1"])


def fork_engine(popen: Callable) -> Callable:
    """A subprocess.Popen for engines: what it starts is a fork of this process that runs our engine's command."""

    def start(command: list[str], **options: object):
        def run() -> None:
            kept = {0, 1, 2, *options["pass_fds"]}
            for number in map(int, os.listdir("/proc/self/fd")):
                with contextlib.suppress(OSError):  # the list's own
                    if number not in kept:
                        os.close(number)
            os.environ.update(options["env"])
            sys.stderr = os.fdopen(2, "w", buffering=1)
            status = 70
            try:
                status = caffe.cli.main(command[command.index("caffe") + 1 :])
            finally:
                os._exit(status)

        return popen(command, preexec_fn=run, **options)

    return start


def train_and_test(folder: Path) -> int:
    """`train_test.sh` for one run of six iterations."""
    engine.subprocess.Popen = fork_engine(engine.subprocess.Popen)
    places = [f"--data={folder}/data", f"--preprocessed={folder}/inputs", f"--runs={folder}/runs"]
    return train_test.main([*places, "--cpu", "--max-iter=6", "--snapshot=2", "AudioNet", "digit", "0"])


def losses(content: bytes) -> frozenset:
    """The losses in a log of training, which has other lines where it was stopped."""
    return frozenset(re.findall(rb"Iteration \d+\b.*?(loss = \S+)\n", content))


def without_times(content: bytes) -> bytes:
    """A log without the times and process ids of its lines."""
    return re.sub(GLOG, b"", content)


# -- relevance --------------------------------------------------------------------------------------------------------

LONG, AT_ONCE = 3, 1
LINEAR = """name: "linear"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 1 dim: 8000 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2
  weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


def recordings(folder: Path) -> None:
    """A list of preprocessed recordings, and a network of one layer for waveforms."""
    inputs(folder)
    names = sorted(path.relative_to(folder) for path in folder.glob("inputs/*/AudioNet_*.hdf5"))[:LONG]
    (folder / "list.txt").write_text("".join(f"{name}\n" for name in names))
    (folder / "deploy.prototxt").write_text(LINEAR)
    caffe.set_random_seed(1)
    caffe.Net(f"{folder}/deploy.prototxt", caffe.TEST).save(f"{folder}/w.caffemodel")


def relevance(folder: Path) -> int:
    """`lrp --list`, in parts of one recording each."""
    explain.AT_ONCE = AT_ONCE
    network = ["--model", f"{folder}/deploy.prototxt", "--weights", f"{folder}/w.caffemodel"]
    made = {"save": "r.hdf5", "output": "pictures", "audible": "sounds", "report": "report"}
    options = [word for name, file in made.items() for word in (f"--{name}", f"{folder}/{file}")]
    return explain.main([*network, "--list", f"{folder}/list.txt", *options])


# -- experiments ------------------------------------------------------------------------------------------------------

EXPERIMENTS = ("corpus", "table1", "faithfulness")


def tested_runs(folder: Path) -> None:
    """A study in miniature, without what its results do not need."""
    make_study(folder)


def experiments(folder: Path) -> int:
    """`audiomnist study --steps experiments`, of three experiments, and the page of results."""
    found = {name: one for name, one in catalogue.catalogue().items() if name in EXPERIMENTS}
    study.catalogue = lambda: found
    places = [word for name in ("data", "preprocessed", "runs") for word in (f"--{name}", f"{folder}/{name}")]
    few = ["--limit", "1", "--composite", "epsilon_plus"]
    return study.main(["--steps", "experiments", *places, "--output", f"{folder}/results", *few, "--cpu"])


# -- recording --------------------------------------------------------------------------------------------------------

ANSWERS = {"alias": "zoe", "gender": "female", "age": 33, "accent": "German", "native speaker": "no",
           "origin": "Europe, Germany, Berlin", "recordingroom": "Kino"}  # fmt: skip
SERIES = 2  # repetitions, and so takes


class Clock(datetime):
    """Goes on by a second whenever it is asked, or jumps."""

    at = datetime(2026, 1, 31, 12)
    jumps: random.Random | None = None

    @classmethod
    def now(cls, _: object = None) -> datetime:
        cls.at += timedelta(seconds=cls.jumps.uniform(-1e6, 1e6) if cls.jumps else 1)
        return cls.at


def jump(draw: random.Random) -> None:
    """From now on every look at the clock finds it some days earlier or later than the last one."""
    Clock.jumps = draw
    time.time = lambda: Clock.now().timestamp()
    glog.datetime.datetime = Clock


def take(series: list) -> tuple[np.ndarray, list[float]]:
    """Samples, int16 at 48 kHz, in which each digit of the series is a tone of its own, and when each is shown (s)."""
    at = np.arange(round(0.4 * session.SAMPLE_RATE)) / session.SAMPLE_RATE
    rng = np.random.default_rng([digit for digit, _ in series])
    noise = rng.normal(0, 20, (len(series) + 1) * session.SAMPLE_RATE)
    for number, (digit, _) in enumerate(series):
        start = round((number + 0.8) * session.SAMPLE_RATE)
        tones = sum(np.sin(2 * np.pi * (150 + 25 * digit) * k * at) / k for k in range(1, 12))
        noise[start : start + len(at)] += 6000 * np.hanning(len(at)) ** 0.5 * tones
    return np.rint(noise).astype(np.int16), [number + 0.5 for number in range(len(series))]


def record(folder: Path) -> int:
    """What `record.py`, or `record.py --continue`, does with a session, without a microphone; then `cut.py`."""

    said = []

    @door("record.py")
    def speak(_: object) -> None:
        said.append(say_all(folder))

    return speak(None) or cut.main([f"{said[0]}"])


def say_all(folder: Path) -> Path:
    """Begin a session, or go on with the last one, until all is said and asked; returns its folder."""
    session.datetime = Clock
    found = session.all_sessions(folder)
    one = found[-1] if found else session.Session.create(folder, SERIES, seed=1)
    one.acquire()
    one.consent or one.add("consent", text="yes")
    while one.missing:
        series = one.missing[:10]
        one.add_take(*(take(series)[0], series, take(series)[1]))
    if one.speaker is None:
        assert not taken_aliases(folder / session.CORPUS, [])
        one.add("speaker", metadata=ANSWERS)
    one.release()
    return one.folder


def whole_events(content: bytes) -> frozenset:
    """The events of a session's log, without when they were and without the numbers of takes."""
    found = set()
    for line in content.split(b"\n"):
        try:
            event = json.loads(line)
        except ValueError:  # torn where the process was killed
            continue
        free = ("time", "date", "path", "take", "file")
        found.add(json.dumps({key: value for key, value in event.items() if key not in free}))
    return frozenset(found)


def is_wav(content: bytes) -> bool:
    return content[:4] == b"RIFF" and int.from_bytes(content[4:8], "little") == len(content) - 8


def corpus_and_takes(folder: Path) -> dict[str, object]:
    """The corpus file by file, and the takes by their digits: numbers and names of what a kill has cost stay free."""
    found = {}
    for path in (folder / session.CORPUS).rglob("*"):
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    for one in session.all_sessions(folder):
        found["answers"] = one.speaker, one.finished
        found |= {str(take_.series): (take_.path.read_bytes(), take_.onsets) for take_ in one.takes}
    return found


# -- all --------------------------------------------------------------------------------------------------------------

RUN_LOGS = {"*/train.log": losses}
TIMES = {"*/test.log*": without_times}
CURVE = {"*_curve.png": is_png, "*_curve.csv": is_curve}  # of as far as a training went that could not go on
PAGES = {  # of the experiments that could be made
    "results/index.html": lambda content: content.endswith(b"</html>\n"),
    "results/RESULTS.md": lambda content: content.startswith(b"# ") and content.endswith(b"\n"),
}
PARTIAL = ("*.partial/", "*.partial/.lock")
JOURNAL = {"*preprocessing.journal": journal}
SCENES = {
    scene.name: scene
    for scene in (
        Scene("importing", strangers, bring_in, refused="expected a new or empty folder"),
        Scene("preprocessing", corpus, partial(preprocess, 1), JOURNAL, refused="one that is in use"),
        Scene("preprocessing, two processes", corpus, partial(preprocess, 2), JOURNAL,
              refused="one that is in use", several=True),
        Scene("training", partial(solver, "BINARYPROTO"), train, whole=CURVE),
        Scene("training, HDF5 snapshots", partial(solver, "HDF5"), train, whole=CURVE),
        Scene("train_test", inputs, train_and_test, JOURNAL | RUN_LOGS, TIMES, several=True, whole=CURVE,
              temporary=("*/test.log.partial",), refused="one that another process has"),
        Scene("relevance of a list", recordings, relevance, JOURNAL, temporary=PARTIAL,
              refused="another run works on"),
        Scene("experiments and results", tested_runs, experiments, JOURNAL | RUN_LOGS, TIMES, whole=PAGES,
              temporary=PARTIAL, refused="another run works on"),
        Scene("recording and cutting", lambda _: None, record, {"*/session.jsonl": whole_events},
              result=corpus_and_takes, refused="one that is in use", whole={"*/takes/*.wav": is_wav}),
    )
}  # fmt: skip


def warm_up(place: Path) -> None:
    """Do once what every fork would do again."""
    torch.set_num_threads(1)
    narrow_networks(place / "models")
    made_by()
    code_digest(*outcome.CODE)
    code_digest(lrp, audiomnist.signal, audiomnist.explain)  # as the command `lrp` asks for it
    catalogue.catalogue()
    h5py.File("warm", "w", driver="core", backing_store=False).close()
    figure = matplotlib.figure.Figure(layout="constrained")
    figure.subplots().set_xlabel("fonts are found and read")
    for kind in ("png", "svg"):
        figure.savefig(io.BytesIO(), format=kind)
