"""What is given damaged files: the readers of each kind, and every command that reads files of a user's."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from unittest import mock

import caffe
import caffe.cli
import caffe.draw
from audiomnist import cli
from audiomnist.corpus.corrections import load_corrections
from audiomnist.corpus.metadata import META_NAME, read_metadata
from audiomnist.corpus.splits import SPLITS_NAME, load_splits
from audiomnist.door import door
from audiomnist.explain import cli as lrp_cli
from audiomnist.explain.inputs import read_list, read_recording
from audiomnist.recording import record
from audiomnist.recording.recognise_page import answers
from audiomnist.recording.session import Session
from audiomnist.runs.summary import read_test_log
from audiomnist.signal.wav import wav_bytes
from audiomnist.study import results_page
from audiomnist.study.catalogue import command_name, names
from audiomnist.study.command import read_setting
from audiomnist.study.study import parser as study_parser
from benchmarks.fuzzing import whole
from benchmarks.fuzzing.children import Target
from caffe_proto import CaffeFileError, read_net, read_solver, read_solver_state, read_weights
from caffe_proto.hdf5 import open_hdf5
from caffe_proto.texts import read_json
from lrp import Network
from lrp.composites import find_composite
from tests.small_corpus import speech

SLOW = {"sanity"}  # an experiment that takes minutes on whole files, and reads what the others do
ENGINE_STATUSES = (0, 1, 134)


# ---------------------------------------------------------------------------------------------------------------------
# readers


def look(path: str) -> None:
    """Everything in an HDF5 file, as every reader of ours could ask for it."""
    with open_hdf5(path, "an HDF5 file") as content:
        content.attributes  # noqa: B018 (reads them)
        for name in content.names():
            for ask in (content.numbers, content.array, content.text, content.names):
                with contextlib.suppress(CaffeFileError):
                    ask(name)


# kind: (its file's name, how that is damaged, what reads it)
READERS: dict[str, tuple[str, str, list[Callable[[str], object]]]] = {
    "net": ("net.prototxt", "net", [read_net]),
    "solver": ("solver.prototxt", "solver", [read_solver]),
    "caffemodel": ("x.caffemodel", "caffemodel", [read_weights]),
    "weights": ("x.caffemodel.h5", "hdf5", [read_weights]),
    "solverstate": ("x.solverstate", "solverstate", [read_solver_state]),
    "hdf5": ("rows.hdf5", "hdf5", [look, read_recording]),
    "list": ("list.txt", "text", [read_list]),
    "wav": ("a.wav", "wav", [lambda path: read_recording(path, (1, 227, 227))]),
    "composite": ("mine.toml", "text", [find_composite]),
    "test log": ("test.log", "text", [lambda path: read_test_log(Path(path))]),
    "session": ("session.jsonl", "json lines", [lambda _: Session.load(Path())]),
    "metadata": ("meta.json", "json", [lambda path: read_metadata(Path(path)), lambda path: read_json(path, "JSON")]),
    "splits": ("splits.json", "json", [lambda path: load_splits(Path(path))]),
    "corrections": ("corrections.json", "json", [lambda path: load_corrections(Path(path))]),
}
IN_NET = {  # where whole.make_net leaves files of these kinds
    "net": "train.prototxt",
    "solver": "solver.prototxt",
    "caffemodel": "made/x_iter_2.caffemodel",
    "solverstate": "made/x_iter_2.solverstate",
    "hdf5": "rows0.h5",
    "list": "rows.txt",
}
IN_CORPUS = {"metadata": f"corpus/{META_NAME}", "splits": f"corpus/{SPLITS_NAME}", "corrections": "corrections.json"}
TEXTS = {"composite": whole.COMPOSITE, "test log": whole.TEST_LOG}


def make_reader(folder: Path, kind: str) -> None:
    """One whole file of the kind."""
    path = folder / READERS[kind][0]
    if kind == "wav":
        path.write_bytes(wav_bytes(speech(0), 8000))
        return
    if kind in TEXTS:
        path.write_text(TEXTS[kind])
        return
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        if kind == "session":
            whole.make_session(made)
            shutil.copy(made / "sessions/s/session.jsonl", path)
        elif kind in IN_CORPUS:
            whole.make_whole_corpus(made)
            shutil.copy(made / IN_CORPUS[kind], path)
        else:
            whole.make_net(made)
            if kind == "weights":
                caffe.Net(str(made / "deploy.prototxt"), caffe.TEST).save_hdf5(str(path))
            else:
                shutil.copy(made / IN_NET[kind], path)


def read(kind: str, name: str, _: list[str]) -> int:
    """Every reader of a kind, behind the door of the commands."""

    @door(f"read {kind}")
    def opened(_: list[str] | None) -> None:
        for reader in READERS[kind][2]:
            reader(name)

    return opened(None)


def readers() -> list[Target]:
    """They take a share of the time that still is thousands of cases."""
    return [
        Target(f"read {kind}", partial(make_reader, kind=kind), {name: how}, partial(read, kind, name), share=0.3)
        for kind, (name, how, _) in READERS.items()
    ]


# ---------------------------------------------------------------------------------------------------------------------
# the engine


WEIGHTS = "made/x_iter_3.caffemodel"
STATE = "made/x_iter_2.solverstate"


def engine(
    name: str, words: str, files: dict[str, str], make: Callable[[Path], None] = whole.make_net, net: bool = False
) -> Target:
    """A call of `caffe`; net: the net and its rows are damaged too."""
    more = {"train.prototxt": "net", "rows.txt": "text", "rows*.h5": "hdf5"} if net else {}
    return Target(
        f"caffe {name}", make, files | more, caffe.cli.main, tuple(words.split()), ("made/*",), ENGINE_STATUSES
    )


def of_engine() -> list[Target]:
    in_hdf5 = partial(whole.make_net, form="HDF5")
    train, test = "train -solver=solver.prototxt", "test -model=train.prototxt -iterations=2"
    resumed = {STATE: "solverstate", "made/x_iter_2.resume": "json", "made/x_iter_2.caffemodel": "caffemodel"}
    resumed["made/x_curve.csv"] = "text"
    resumed_hdf5 = {f"{STATE}.h5": "hdf5", "made/x_iter_2.caffemodel.h5": "hdf5"}
    drawn = ("zoo.prototxt", "made/zoo.dot")
    shown = {"a.png": "bytes", "b.jpg": "bytes", "c.bmp": "bytes", "d.tif": "bytes", "mean.binaryproto": "mean"}
    images = {
        "images": shown | {"list.txt": "text"},
        "windows": {"windows.txt": "text", "b.jpg": "bytes", "mean.binaryproto": "mean"},
        "database": {"base/data.mdb": "bytes"},
    }
    return [
        engine("train", train, {"solver.prototxt": "solver"}, net=True),
        engine("train, resumed", f"{train} -snapshot={STATE}", resumed, net=True),
        engine("train, resumed from HDF5", f"{train} -snapshot={STATE}.h5", resumed_hdf5, in_hdf5),
        engine("train, from weights", f"{train} -weights={WEIGHTS}", {WEIGHTS: "caffemodel"}),
        engine("test", f"{test} -weights={WEIGHTS}", {WEIGHTS: "caffemodel"}, net=True),
        engine("test, weights in HDF5", f"{test} -weights={WEIGHTS}.h5", {f"{WEIGHTS}.h5": "hdf5"}, in_hdf5),
        engine("export", f"export -model=exported.prototxt -weights={WEIGHTS} -output=made/zoo.py",
               {"exported.prototxt": "net", WEIGHTS: "caffemodel"}),
        engine("time", "time -model=zoo.prototxt -iterations=1", {"zoo.prototxt": "net"}),
        *(
            engine(name, f"time -model={name}.prototxt -iterations=1", files | {f"{name}.prototxt": "net"},
                   whole.make_images)
            for name, files in images.items()
        ),
        Target("caffe.draw", whole.make_net, {"zoo.prototxt": "net"}, caffe.draw.main, drawn, ("made/*",)),
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# relevance


SMALL = {"deploy.prototxt": "net", "small.caffemodel": "caffemodel", "seven.wav": "wav"}
TINY = {"net/deploy.prototxt": "net", f"net/{WEIGHTS}": "caffemodel", "list.txt": "text", "rows*.h5": "hdf5"}


def lrp(name: str, words: str, files: dict[str, str], tiny: bool = False) -> Target:
    """A call of `lrp`, with the notebook's small network or a tiny one of more layer types."""
    model = f"net/deploy.prototxt --weights net/{WEIGHTS}" if tiny else "deploy.prototxt --weights small.caffemodel"
    return Target(f"lrp{name}", whole.make_lrp, files, lrp_cli.main, ("--model", *f"{model} {words}".split()))


def of_relevance() -> list[Target]:
    listed = "--list list.txt --save e.hdf5"
    spoken = {"spoken.txt": "text", "seven.wav": "wav", "small.caffemodel": "caffemodel"}
    deletion = f"deletion --model net/deploy.prototxt --weights net/{WEIGHTS} --list list.txt --save e.csv"
    return [
        lrp("", "--input seven.wav --save e.hdf5 --absorbed", SMALL),
        lrp(", a picture and a sound", "--input seven.wav --output e.png --audible e.wav", {"seven.wav": "wav"}),
        lrp(" --list", listed, TINY, tiny=True),
        lrp(" --target label", f"{listed} --target label --composite gradient", TINY, tiny=True),
        lrp(" --report", "--list spoken.txt --report report", spoken),
        lrp(" --composite", "--input rows0.h5 --save e.hdf5 --composite mine.toml", {"mine.toml": "text"}, tiny=True),
        Target("deletion", whole.make_lrp, TINY, cli.main, tuple(deletion.split())),
    ]


# ---------------------------------------------------------------------------------------------------------------------
# the study


def runs(_: list[str]) -> int:
    """`train-test` with the stand-in for the engine."""
    with whole.engine_of(Path()):
        return cli.main(["train-test", *whole.words_of_runs(Path()), "--max-iter", "4", "all", "digit", "0"])


def rendered(_: list[str]) -> int:
    """`render` of a run of the stand-in."""
    words = ["--preprocessed", "inputs", "--run", "runs/AlexNet_digit_0", "--max-iter", "4"]
    with whole.engine_of(Path()):
        return cli.main(["render", "AlexNet", "digit", "0", *words, "--engine", os.environ["CAFFE"]])


@door("results")
def results(_: list[str]) -> None:
    """The page of results as `audiomnist study --steps experiments` makes it, without the experiments."""
    options = study_parser().parse_args(whole.words_of_study(Path()))
    results_page.write(options.output.resolve(), read_setting(options, None))


@cache
def _small() -> dict[str, Network]:
    return {"small": Network(str(whole.ONE / "deploy.prototxt"), str(whole.ONE / "small.caffemodel"))}


@door("page")
def heard(_: list[str]) -> None:
    """What the page that listens makes of what it is sent."""
    answers(Path("seven.wav").read_bytes(), _small(), tuple("0123456789"), "epsilon_plus")


def resumed(_: list[str]) -> int:
    """`record --continue`, without a microphone and in a terminal that has no keys."""
    with mock.patch.object(record, "Microphone", lambda _: record.NoMicrophone()):
        return record.main(["--recordings", ".", "--continue", "s", "--terminal", "--no-test"])


def of_corpora() -> list[Target]:
    corpus = {"corpus/*/1_0*.wav": "wav", f"corpus/{META_NAME}": "json", f"corpus/{SPLITS_NAME}": "json"}
    corrected = corpus | {"corrections.json": "json"}
    speakers = {"corpus/*/1_0*.wav": "wav", "speakers.json": "json"}
    inputs = corrected | {"inputs/*.json": "json", "inputs/.*": "text"}

    def target(words: str, files: dict[str, str], *own: str, make: Callable = whole.make_whole_corpus) -> Target:
        name = words.split()[0] + (" --json" if "--json" in words else "")
        return Target(name, make, files, cli.main, tuple(words.split()), own)

    return [
        target("validate corpus --corrections corrections.json --jobs 1", corrected),
        target("validate corpus --json --jobs 1", corpus),
        target("corpus-table corpus --csv table.csv", corpus),
        target(
            "import-corpus corpus new --pattern {speaker}/{digit}_{speaker}_{repetition}.wav --speakers speakers.json "
            "--trim --make-splits 3",
            speakers,
        ),
        target("make-splits corpus --make-splits 3 --force", corpus, f"corpus/{SPLITS_NAME}"),
        target("permute-labels corpus new", corpus),
        target(
            "preprocess -src corpus -dst inputs --jobs 1 --corrections corrections.json",
            inputs, "inputs/*", "inputs/*/*", make=whole.make_inputs_of,
        ),
    ]  # fmt: skip


def of_runs() -> list[Target]:
    own = {"runs/*/run.json": "json", "runs/*/solver.prototxt": "solver", "runs/*/t*.prototxt": "net",
           "runs/*/*.log": "text"}  # fmt: skip
    one = {"runs/AlexNet_digit_0/*.json": "json", "runs/AlexNet_digit_0/*.prototxt": "text",
           "inputs/AlexNet_digit_0_*.txt": "text", "inputs/*.json": "json"}  # fmt: skip
    several = own | {"inputs/*_digit_0_*.txt": "text", "inputs/*.json": "json", "runs/*/snapshots/*": "solverstate"}
    tested = {"runs/AlexNet_digit_0/test.log": "text", "runs/AlexNet_digit_0/solver.prototxt": "solver"}
    shown = own | {"results/*/outcome.json": "json", "results/*/*.csv": "text", "results/*/*.png": "bytes"}
    study = own | {
        "runs/*/deploy.prototxt": "net", "runs/*/snapshots/*.caffemodel": "caffemodel",
        "runs/*/snapshots/*.solverstate": "solverstate", "preprocessed/*.txt": "text", "preprocessed/*.json": "json",
        "preprocessed/*/*_0_05_0.hdf5": "hdf5", "preprocessed/*/*_1_06_0.hdf5": "hdf5", "data/*/1_05_0.wav": "wav",
        "data/*.txt": "json", "data/*.json": "json",
    }  # fmt: skip
    written = ("runs/*", "runs/*/*", "runs/*/*/*", "calls", "inputs/*")
    return [
        Target("render", whole.make_runs, one, rendered),
        Target("train-test", whole.make_runs, several, runs, (), written),
        Target("summary", whole.make_runs, tested, cli.main, ("summary", "runs"), ("runs/summary.csv",)),
        Target("page of results", whole.make_results, shown, results, (), ("results/*",)),
        *(
            Target(name, whole.copy_study, study, cli.main, (name, *whole.words_of_study(Path())), ("results/*",))
            for name in map(command_name, names())
            if name not in SLOW
        ),
    ]


def of_recordings() -> list[Target]:
    log, meta = "sessions/s/session.jsonl", f"corpus/{META_NAME}"
    session = {log: "json lines", meta: "json"}
    takes = session | {"sessions/s/takes/*.wav": "wav"}
    said = "recognise --network deploy.prototxt small.caffemodel --wav seven.wav --no-show --no-play --output said"
    return [
        Target("cut", whole.make_session, takes, cli.main, ("cut", "sessions/s", "--auto"), (log, meta)),
        Target("record --continue", whole.make_session, session, resumed, (), (log,)),
        Target("recognise", whole.make_lrp, SMALL, cli.main, tuple(said.split())),
        Target("recognise, the page", whole.make_lrp, {"seven.wav": "wav"}, heard),
    ]


def targets() -> list[Target]:
    """All of them."""
    return [*readers(), *of_engine(), *of_relevance(), *of_corpora(), *of_runs(), *of_recordings()]
