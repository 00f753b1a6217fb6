"""The fuzzer finds what is wrong with a reader that is made wrong on purpose, and nothing in ours for a minute."""

import contextlib
import faulthandler
import io
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import h5py
import numpy as np
import pytest
from google.protobuf import text_format

from benchmarks.fuzzing import command, damage
from benchmarks.fuzzing.children import ROOT, Target, Workshop, harm, rng_of, snapshot
from caffe_proto import CaffeFileError, UserError, array_to_blobproto, caffe_pb2
from caffe_proto.texts import read_json
from tests.small_corpus import speech, wav_file


@pytest.fixture(autouse=True)
def no_watchdog():
    """pytest's thread that ends tests which do not end is not there in a forked child, which would wait for it."""
    faulthandler.cancel_dump_traceback_later()


NET = b"""name: "n"
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" inner_product_param { num_output: 3 } }
"""


def whole(kind, folder):
    """A small file of a kind of damage."""
    net = text_format.Parse(NET, caffe_pb2.NetParameter())
    if kind == "hdf5":
        with h5py.File(folder / "x", "w") as file:
            file["data/a"], file["label"] = [[1.0, 2.0]], [3]
        return (folder / "x").read_bytes()
    return {
        "net": NET, "solver": b'net: "n" base_lr: 0.1 max_iter: 3\n', "caffemodel": net.SerializeToString(),
        "solverstate": caffe_pb2.SolverState(iter=3, learned_net="x").SerializeToString(),
        "mean": array_to_blobproto(np.arange(12.0).reshape(3, 2, 2)).SerializeToString(),
        "json": b'{"a": [1, {"b": "c"}]}', "json lines": b'{"a": 1}\n{"b": [2]}\n',
        "text": b"one 1\ntwo 2.5\n", "bytes": bytes(range(64)),
        "wav": wav_file(speech(0).tobytes()),
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", damage.DAMAGES)
def test_damage_follows_from_its_seed_and_is_of_many_kinds(kind, tmp_path):
    content = whole(kind, tmp_path)
    made = [damage.damaged(content, kind, Random(f"{k}")) for k in range(60)]
    again = [damage.damaged(content, kind, Random(f"{k}")) for k in range(60)]
    assert made == again or kind == "hdf5" and list(map(len, made)) == list(map(len, again))  # gaps hold what lay there
    assert len(set(made)) > 40 and sum(one == content for one in made) < 15


def parses(kind, content, folder):
    """Does a parser of another's take it?"""
    path = folder / "made"
    path.write_bytes(content)
    try:
        if kind == "net":
            text_format.Parse(content.decode(), caffe_pb2.NetParameter())
        elif kind == "caffemodel":
            caffe_pb2.NetParameter.FromString(content)
        elif kind == "json":
            json.loads(content)
        else:
            with h5py.File(path) as file:
                list(file)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("kind", ["net", "caffemodel", "json", "hdf5"])
def test_damage_by_grammar_reaches_what_is_behind_the_parser(kind, tmp_path):
    content = whole(kind, tmp_path)
    made = {damage.DAMAGES[kind](content, Random(f"{k}")) for k in range(80)} - {content}
    assert sum(parses(kind, one, tmp_path) for one in made) > 0.8 * len(made) > 30


def target(run, **files):
    """A target of our own: `run` is given the content of the file x, which holds {"a": 1} before."""

    def make(folder):
        (folder / "x").write_text('{"a": 1}')
        for name, text in files.items():
            (folder / name).write_text(text)

    def call(_):
        return run(Path("x"))

    return Target("it", make, {"x": "json"}, call)


def good(path):
    try:
        read_json(path, "a thing")
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def planted(what):
    """A reader that is as good as the other, but for one thing."""

    def read(path):
        status = good(path)
        if status == 0 and json.loads(path.read_text(encoding="utf-8-sig")) == {"a": 1}:
            return 0  # on the whole file
        return what() or status

    return read


def busy():
    while True:
        pass


def silent(path):
    """A reader that refuses what it should, and does not say so."""
    with contextlib.redirect_stderr(io.StringIO()):
        return good(path)


@pytest.mark.parametrize(
    "run, outcome, where",
    [
        (planted(lambda: json.loads("{")), "traceback", "JSONDecodeError at "),
        (planted(os.abort), "signal", "SIGABRT at "),
        (planted(lambda: 7), "status", "exit status 7"),
        (planted(lambda: os._exit(5)), "status", "exit 5"),
        (planted(lambda: sys.exit("words")), "status", "exit status 'words'"),
        (planted(lambda: Path("mine").write_text("yours") and 0), "a file of the user", "mine is not what it was"),
        (planted(lambda: Path("mine").unlink()), "a file of the user", "mine is not what it was"),
        (planted(lambda: time.sleep(60)), "time", "1 s at "),
        (planted(busy), "time", "1 s at "),
        (planted(lambda: print("Traceback (most recent call last):", file=sys.stderr)), "traceback", "printed, at"),
        (silent, "silence", "exit status 1 without a word"),
    ],
    ids=[
        "traceback",
        "signal",
        "status",
        "exit",
        "words",
        "changed",
        "removed",
        "waits",
        "works",
        "printed",
        "silence",
    ],
)
def test_a_reader_that_is_wrong_on_purpose_is_found(run, outcome, where, tmp_path):
    found = [one for one in cases(target(run, mine="mine"), tmp_path, 60) if one.is_finding]
    assert {(one.outcome, where in one.where) for one in found} == {(outcome, True)}, found[:3]
    assert all(one.files for one in found)


def cases(one, place, count):
    """The verdicts of some cases, until the first that took its time."""
    workshop = Workshop(one, place / "shop", 2**30, 1.0)
    assert workshop.check() == ""
    for verdict in workshop.run(3, range(count), time.monotonic() + 120):
        yield verdict
        if verdict.outcome == "time":
            return


def test_a_good_reader_has_no_finding_and_both_other_outcomes(tmp_path):
    found = list(cases(target(good), tmp_path, 300))
    assert [one.case for one in found] == list(range(300))
    assert {one.outcome for one in found} == {"result", "refusal"}
    again = list(Workshop(target(good), tmp_path / "again", 2**30, 1.0).run(3, range(40, 60), time.monotonic() + 60))
    assert again == found[40:60]  # each follows from its number alone


def test_every_case_begins_with_whole_files_but_for_its_own(tmp_path):
    workshop = Workshop(target(good, mine="mine"), tmp_path / "shop", 2**30, 1.0)
    before = {path.name: path.read_bytes() for path in workshop.folder.iterdir()}
    assert len(list(workshop.run(0, range(50), time.monotonic() + 60))) == 50
    assert {path.name: path.read_bytes() for path in workshop.folder.iterdir()} == before
    done = harm(workshop.folder, workshop.target, rng_of("it", 0, 7))
    assert set(done) == {"x"} and "mine" in snapshot(workshop.folder)


def test_what_refuses_whole_files_is_told_before_anything_is_measured(tmp_path):
    def refuse(_):
        raise CaffeFileError("x", "another file", "this one")

    def call(_):
        try:
            refuse(_)
        except UserError as error:
            print(error)
            return 1

    said = Workshop(Target("it", target(good).make, {"x": "json"}, call), tmp_path / "shop", 2**30, 1.0).check()
    assert said.startswith("it: refusal") and "x: expected another file, got this one" in said


RECORD = {
    "date": "2026-11-29", "seed": 3, "minutes": 60, "seconds a case may take": 60,
    "targets": {
        "read net": {"refusal": 1200, "result": 34}, "cut": {"refusal": 5, "result": 4, "time": 1, "signal": 2},
    },
    "findings": [],
}  # fmt: skip


def test_the_section_of_the_page_counts_and_is_replaced():
    text = command.section(RECORD)
    assert "| read net | 1,234 | 1,200 | 34 | 0 |" in text and "| cut | 12 | 5 | 4 | 3 |" in text
    assert "| **all** | 1,246 | 1,205 | 38 | 3 |" in text and "--minutes 60 --seed 3" in text
    page = f"# One\n\na\n\n{command.TITLE}\n\nold\n\n## of it\n\n# Two\n\nb\n"
    assert command.replaced(page, command.TITLE, "new") == "# One\n\na\n\nnew\n\n# Two\n\nb\n"
    assert command.replaced("# One\n\na\n", command.TITLE, "new") == "# One\n\na\n\nnew\n"


@pytest.mark.slow
def test_a_minute_of_it_ends_without_a_finding(tmp_path):
    """Every reader and every command but the experiments, which take seconds each."""
    results = tmp_path / "fuzzing.json"
    named = [
        "read", "caffe", "lrp", "validate", "corpus-table", "import", "make-splits", "permute", "preprocess", "render",
        "train-test", "summary", "cut", "record", "recognise",
    ]  # fmt: skip
    words = ["measure", "--minutes", "1", "--seed", "1", "--results", str(results), "--command", *named]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzzing", *words], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    record = json.loads(results.read_text(encoding="utf-8"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert record["findings"] == [] and len(record["targets"]) > 35
    counts = sum(map(Counter, record["targets"].values()), Counter())
    assert counts.total() > 300 and min(counts["result"], counts["refusal"]) > 50, counts
