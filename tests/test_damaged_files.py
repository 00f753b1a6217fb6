"""What fuzzing and hostile files once brought down, each by its recipe: a sentence now, and what is whole as before.

`python -m benchmarks.fuzzing` finds such files; here they stand by name.
"""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest

import caffe
from audiomnist import cli
from audiomnist.corpus.corrections import load_corrections
from audiomnist.corpus.layout import CorpusError, scan
from audiomnist.corpus.splits import Task, load_splits
from audiomnist.door import door
from audiomnist.experiments.training_curves import read_curves
from audiomnist.explain import cli as lrp_cli
from audiomnist.explain import drawing
from audiomnist.explain.command import labels
from audiomnist.explain.inputs import read
from audiomnist.recording.session import Session, SessionError
from audiomnist.runs.run_folder import RunError
from audiomnist.runs.summary import read_test_log
from audiomnist.signal.wav import LARGEST, RecordingError, read_wav
from audiomnist.study import results_page, trained
from audiomnist.study.conclusion import Conclusion
from audiomnist.study.setting import ExperimentError
from audiomnist.study.statistics import Estimate
from caffe import cli as caffe_cli
from caffe import glog
from caffe_proto import CaffeFileError, array_to_blobproto, blobproto_to_array, caffe_pb2, read_weights, write_message
from caffe_proto import memory as memory_of
from caffe_proto.files import is_hdf5
from caffe_proto.hdf5 import MOST_EMPTY_CHUNKS, open_hdf5
from caffe_proto.texts import read_json
from lrp import LRPError, Network
from tests.chromium import look
from tests.small_corpus import make_corpus, speech, wav_file

ROOT = Path(__file__).resolve().parents[1]
WORD = wav_file(speech(0).tobytes())


def refused(kind, words, function, *arguments):
    """The call ends with an error of that kind: one sentence with these words."""
    with pytest.raises(kind) as caught:
        function(*arguments)
    message = str(caught.value)
    assert words in message and "\n" not in message, message


def said(capsys, status, words, main, *arguments):
    """The command ends with that status, and its last line has these words."""
    assert main([str(one) for one in arguments]) == status
    lines = capsys.readouterr().err.strip().splitlines()
    assert words in lines[-1], lines[-3:]


# --- files of Caffe's ------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_opened_is_no_hdf5_file_and_said(tmp_path):
    refused(CaffeFileError, f"{tmp_path}: expected a file that can be read, got Is a directory", is_hdf5, tmp_path)


@pytest.mark.parametrize("net", [{"name": "no"}, {"input": ["no"]}, {"layer": [{"top": ["no"]}]}])
def test_a_text_that_is_no_utf8_is_said(net, tmp_path):
    """What protobuf reads of an old file without a word, and then refuses to give."""
    path = tmp_path / "x.caffemodel"
    path.write_bytes(caffe_pb2.NetParameter(**net).SerializeToString().replace(b"no", b"\x9do"))
    refused(CaffeFileError, "expected a binary NetParameter, got a text in it that is no UTF-8", read_weights, path)


@pytest.mark.parametrize("shape", [(5, 2**31 - 1, 2**31 - 1, 0), (0, 2**62), (2**31, 0)])
def test_a_blob_without_numbers_is_no_larger_than_others(shape):
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(shape)
    refused(CaffeFileError, "expected a blob of at most 2147483647 numbers", blobproto_to_array, blob)
    assert blobproto_to_array(array_to_blobproto(np.ones((3, 0, 7)))).shape == (3, 0, 7)


def test_chunks_that_are_not_there_are_not_looked_for_one_by_one(tmp_path):
    path = tmp_path / "x.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("bomb", (MOST_EMPTY_CHUNKS + 1, 8), "<f4", chunks=(1, 8))
        file.create_dataset("few", (4, 2), "<f4", chunks=(1, 2), fillvalue=7)[1] = 5
    with open_hdf5(path, "rows") as content:
        assert content.numbers("few").tolist() == [[7, 7], [5, 5], [7, 7], [7, 7]]
        refused(CaffeFileError, "bomb of 100,001 chunks, of which the file has 0", content.numbers, "bomb")


def test_half_a_character_is_refused_in_json_and_a_whole_one_is_read(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(r'{"a": "\ud83d\ude00 \\ud800"}')
    assert read_json(path, "a thing") == {"a": "😀 \\ud800"}
    path.write_text(r'{"a": ["\ud83d"]}')
    refused(CaffeFileError, f"{path}: expected a thing, got half of a character", read_json, path, "a thing")


DATA = 'layer { name: "data" type: "DummyData" top: "x" dummy_data_param { shape { dim: 10 dim: 10 } %s } }\n'
INPUT = 'layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 1 dim: 100 } } }\n'
LAYER = 'layer { name: "l%d" type: "%s" bottom: "%s" top: "%s" }\n'


def chain(kind, count):
    """So many layers of a kind after each other, from blob x on."""
    return "".join(LAYER % (k, kind, f"y{k - 1}" if k else "x", f"y{k}") for k in range(count))


def test_all_blobs_of_a_net_are_weighed_before_any_is_made(tmp_path, monkeypatch):
    """400 bytes a blob: ten of them fit, eleven do not; what is the same memory in another shape weighs nothing."""
    monkeypatch.setattr(memory_of, "memory", lambda: 4000)
    path = tmp_path / "net.prototxt"
    path.write_text(DATA % "" + chain("AbsVal", 9) + LAYER % (99, "Flatten", "y8", "z"))
    assert len(caffe.Net(str(path), caffe.TEST).blobs) == 11
    path.write_text(DATA % "" + chain("AbsVal", 10))
    words = "layer '%s' (%s): expected all blobs so far that fits into 4,000 bytes of memory, got 4,400 bytes"
    refused(CaffeFileError, words % ("l9", "AbsVal"), caffe.Net, str(path), caffe.TEST)
    learned = LAYER[:-3] + " inner_product_param { num_output: %d bias_term: false } }\n"
    net = DATA % "" + learned % (0, "InnerProduct", "x", "y", 40) + learned % (1, "InnerProduct", "y", "z", 4)
    path.write_text(net)  # 100, 400 and 400 numbers, 160 and 40
    words = "layer '%s' (%s): expected all blobs so far that fits into 4,000 bytes of memory, got 4,240 bytes"
    refused(CaffeFileError, words % ("l1", "InnerProduct"), caffe.Net, str(path), caffe.TEST)
    path.write_text(net.replace("num_output: 4 ", "num_output: 1 "))
    assert len(caffe.Net(str(path), caffe.TEST).params) == 2
    path.write_text((DATA % "").replace('top: "x"', " ".join(f'top: "{k}"' for k in range(11))))
    refused(CaffeFileError, words.replace("4,240", "4,400") % ("data", "DummyData"), caffe.Net, str(path), caffe.TEST)


def test_all_blobs_of_a_network_that_is_explained_are_weighed_too(tmp_path, monkeypatch):
    score = 'layer { name: "ip" type: "InnerProduct" bottom: "y2" top: "ip" inner_product_param { num_output: 2 } }'
    (tmp_path / "net.prototxt").write_text(INPUT + chain("ReLU", 3) + score)
    net = caffe_pb2.NetParameter()
    net.layer.add(name="ip").blobs.extend(array_to_blobproto(np.ones(shape)) for shape in ((2, 100), (2,)))
    write_message(tmp_path / "w.caffemodel", net)
    network, x = Network(tmp_path / "net.prototxt", tmp_path / "w.caffemodel"), np.ones((1, 100), np.float32)
    monkeypatch.setattr(memory_of, "memory", lambda: 4 * 402)
    assert network.forward(x).tolist() == [[101, 101]]
    monkeypatch.setattr(memory_of, "memory", lambda: 4 * 401)
    refused(
        LRPError, "expected an item's blobs that fits into 1,604 bytes of memory, got 1,608 bytes", network.forward, x
    )


@pytest.mark.parametrize("least, most", [(1, 0), (-3e38, 3e38)])
def test_uniform_numbers_have_ends_in_order(least, most, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(DATA % f'data_filler {{ type: "uniform" min: {least} max: {most} }}')
    refused(caffe.CaffeError, "expected a min that is not above max", caffe.Net, str(path), caffe.TEST)


SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1 snapshot: 1 '


@pytest.mark.parametrize(
    "solver, words",
    [
        (
            'type: "Adam" momentum: 1 snapshot_prefix: "x"',
            "Adam: expected momentum of at least 0 and less than 1, got 1",
        ),
        (
            'type: "Adam" momentum2: 1.5 snapshot_prefix: "x"',
            "Adam: expected momentum2 of at least 0 and less than 1, got",
        ),
        (r'snapshot_prefix: "x\000y"', r"snapshot_prefix: expected a name that a file can have, got 'x\x00y'"),
    ],
)
def test_a_solver_that_cannot_work_is_refused(solver, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ip = 'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1 } }'
    (tmp_path / "net.prototxt").write_text(DATA % "" + ip)
    (tmp_path / "solver.prototxt").write_text(SOLVER + solver)
    said(capsys, 134, words, caffe_cli.main, "train", "-solver=solver.prototxt")


def test_what_a_prototxt_has_written_elsewhere_is_said_before(tmp_path, monkeypatch):
    """Snapshots, the learning curve and HDF5Output may lie anywhere; the log names each before it is there."""
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir(), here.mkdir()
    monkeypatch.chdir(here)
    log = []  # every line, and what was there when it was written
    monkeypatch.setattr(glog, "_write", lambda _, line, above: log.append((line, set(os.listdir(there)))))
    ip = 'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1 } }'
    loss = 'layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "y" top: "loss" loss_weight: 1 }'
    out = f'hdf5_output_param {{ file_name: "{there}/o.h5" }}'
    out = f'layer {{ name: "o" type: "HDF5Output" bottom: "x" bottom: "y" {out} }}'
    (here / "net.prototxt").write_text(DATA % "" + ip + loss + out)
    (here / "solver.prototxt").write_text(SOLVER + f'snapshot_prefix: "{there}/s"')
    assert caffe_cli.main(["train", "-solver=solver.prototxt"]) == 0, log[-1]
    made = set(os.listdir(there))
    assert {"o.h5", "s_curve.csv", "s_iter_1.caffemodel", "s_iter_1.solverstate", "s_iter_1.resume"} <= made
    words = ("Saving", "Snapshotting", "Writing")
    for name in made:
        stem = f"{there / name}".rpartition(".")[0]
        said = [before for line, before in log if line.startswith(words) and stem in line]
        assert said and name not in said[0], (name, log)


@pytest.mark.parametrize(
    "flag, words",
    [
        ("-level=99999999999", "-level: expected a number of 32 bits, got 99999999999"),
        ("-stage=J\udcfc", r"-stage: expected names in UTF-8, got 'J\udcfc'"),
    ],
)
def test_flags_that_no_net_can_hold_are_said(flag, words, tmp_path, capsys):
    (tmp_path / "net.prototxt").write_text(DATA % "")
    said(capsys, 134, words, caffe_cli.main, "time", f"-model={tmp_path / 'net.prototxt'}", "-iterations=1", flag)


# --- what a terminal is given ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("main, words", [(cli.main, ["validate"]), (caffe_cli.main, ["time", "-model"])])
def test_no_name_reaches_the_terminal_but_as_text(main, words, tmp_path, capsys):
    name = f"{tmp_path}/a\x1b[31m\x07\u202eü"
    main([*words[:-1], f"{words[-1]}={name}"] if words[-1].startswith("-") else [*words, name])
    said = capsys.readouterr().err
    assert r"/a\x1b[31m\x07\u202eü" in said and not set("\x1b\x07\u202e") & set(said)


def test_an_encoding_without_a_sign_is_no_reason_to_end(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    assert door("it")(lambda _: print("0.5 ± 0.1 J\udcfc"))() == 0
    assert raw.getvalue() == b"0.5 \\xb1 0.1 J\\udcfc\n"


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="takes another folder by itself")
def test_a_folder_for_temporary_files_whose_name_is_too_long_is_said(tmp_path):
    folder = tmp_path / ("t" * 130)
    folder.mkdir()
    words = ["validate", str(make_corpus(tmp_path / "corpus")), "--jobs", "2"]
    done = subprocess.run([sys.executable, "-m", "audiomnist", *words], capture_output=True, text=True, cwd=ROOT,
                          env=os.environ | {"TMPDIR": str(folder)})  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("a socket can be made (TMPDIR), got AF_UNIX path too long")


# --- recordings and corpora ------------------------------------------------------------------------------------------


def test_what_is_no_file_is_not_waited_for_and_a_huge_one_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "endless.wav").symlink_to("/dev/zero")
    with open(tmp_path / "sparse.wav", "wb") as file:
        file.truncate(LARGEST + 1)
    for name in ("pipe.wav", "endless.wav"):
        refused(RecordingError, "expected a file, got a pipe or a device", read_wav, tmp_path / name)
    refused(RecordingError, "expected a recording of at most 67,108,864 bytes, got 67,108,865", read_wav,
            tmp_path / "sparse.wav")  # fmt: skip


def test_one_such_file_does_not_keep_a_corpus_from_being_used(tmp_path, capsys):
    corpus = make_corpus(tmp_path / "corpus")
    os.mkfifo(corpus / "01/7_01_0.wav")
    (corpus / "01/8_01_1234567890.wav").write_bytes(WORD)
    os.mkdir(corpus / "a\x1b[31m")
    (corpus / "a\x1b[31m/0_a\x1b[31m_0.wav").write_bytes(WORD)
    os.rename(corpus / "02", os.fsencode(corpus) + b"/J\xfcrgen")
    (corpus / "02").mkdir()
    (corpus / "02/7_02_0.wav").write_bytes(WORD)
    defects = [str(one) for one in scan(corpus)[1]]
    assert (
        "J\\xfcrgen/0_02_0.wav: expected a name in UTF-8, got bytes that are none, or signs for a terminal" in defects
    )
    assert any(one.startswith(r"a\x1b[31m/0_a\x1b[31m_0.wav: expected a name in UTF-8") for one in defects)
    assert any(one.startswith("01/8_01_1234567890.wav: expected <speaker>/") for one in defects) and len(defects) == 5
    words = ["preprocess", "-src", corpus, "-dst", tmp_path / "inputs", "--jobs", "1", "--skip-invalid"]
    assert cli.main([str(one) for one in words]) == 0
    assert "01/7_01_0.wav: expected a file, got a pipe or a device" in capsys.readouterr().err
    assert (tmp_path / "inputs/rejected.csv").read_text().count("J\\xfcrgen") == 3
    assert cli.main(["validate", str(corpus), "--jobs", "1"]) == 1
    said(capsys, 1, "01/7_01_0.wav: expected a file, got a pipe or a device", cli.main, "import-corpus", corpus,
         tmp_path / "new", "--pattern", "{speaker}/{digit}_{speaker}_{repetition}.wav")  # fmt: skip


def test_names_are_no_formulas_in_pictures(tmp_path):
    corpus = make_corpus(
        tmp_path / "corpus", speakers={r"$\foo$": "male", "02": "female"} | dict.fromkeys("3456", "male")
    )
    words = ["corpus-table", corpus, "--figure", tmp_path / "a.png", "--csv", tmp_path / "a.csv"]
    assert cli.main([str(one) for one in words]) == 0
    figure = drawing.draw(np.zeros((1, 2, 3)), np.ones((1, 2, 3)), r"cost$5$ of $\foo$", r"a$\foo$.hdf5")
    drawing.write(figure, tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "content, words",
    [
        ({"speakers": {}, "recordings": {"a.wav": {"digit": float("inf")}}}, "(Infinity, which is no number)"),
        ({"speakers": {}, "recordings": {"a.wav": {"digit": 12}}}, "a.wav with digit 12"),
        ({"speakers": {}, "recordings": {}, "only where": [1]}, "'only where' that is [1]"),
        (
            {"speakers": {}, "recordings": {}, "only where": {"speaker": ["01"]}},
            "'only where' that is {'speaker': ['01']}",
        ),
        ({"speakers": {}}, "KeyError"),
    ],
)
def test_corrections_that_are_none_are_said(content, words, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(content))
    refused(CorpusError, words, load_corrections, tmp_path / "c.json")


def test_numbers_beyond_those_of_floats_are_in_no_class(tmp_path):
    ages = Task("age", "age", ("young", "old"), bins=(0, 30, 100))
    assert [ages.class_of(0, {"age": age}) for age in (10**400, -(10**400), "x", 29, 30)] == [None, None, None, 0, 1]
    fold = {"train": ["1"], "validate": ["2"], "test": ["3"]}
    task = {"label": "age", "classes": ["a", "b"], "bins": [0, 1, 10**400]}
    (tmp_path / "splits.json").write_text(json.dumps({"tasks": {"age": task}, "age": [fold]}))
    refused(CorpusError, "expected 3 rising numbers, the edges of 2 classes", load_splits, tmp_path / "splits.json")


def test_permuting_says_what_it_cannot_permute(tmp_path, capsys):
    corpus = make_corpus(tmp_path / "corpus")
    (corpus / "01/0_01_0.wav").unlink()
    (corpus / "01/0_01_0.wav").symlink_to("0_01_0.wav")
    assert cli.main(["permute-labels", str(corpus), str(tmp_path / "new")]) == 0  # a link to it, as to the others
    meta = corpus / "audioMNIST_meta.txt"
    meta.write_text(meta.read_text().replace('"female"', '["female"]'))
    said(capsys, 1, "expected genders that are texts, got ['female'] of speaker 02", cli.main, "permute-labels", corpus,
         tmp_path / "other")  # fmt: skip


def test_a_session_s_log_with_half_a_character_or_a_circle_of_links(tmp_path):
    session = Session.create(tmp_path, 1, seed=1)
    session.add_take(np.zeros(48000, np.int16), session.missing[:1], [0.1])
    session.release()
    take, log = session.folder / "takes/0001.wav", session.folder / "session.jsonl"
    take.unlink()
    take.symlink_to("0001.wav")
    assert Session.load(session.folder).takes[0].path == take  # reading it is what fails
    log.write_text(log.read_text() + '{"event": "consent", "text": "\\udc00"}\n')
    refused(SessionError, "line 3: expected an event", Session.load, session.folder)


# --- runs and results ------------------------------------------------------------------------------------------------


def test_a_log_whose_numbers_are_none_is_said(tmp_path):
    log = tmp_path / "test.log"
    log.write_text("] accuracy = true\n] loss = 0.5 (* 1 = 0.5 loss)\n")
    refused(RunError, "expected a number as accuracy, got 'true'", read_test_log, log)
    log.write_text("] Iteration 1 (2 iter/s, 3s/4 iters), loss = 1e\n")
    refused(ExperimentError, "expected numbers in Caffe's lines of progress, got '] Iteration 1", read_curves, log)


def test_recordings_of_a_list_whose_labels_differ_are_not_saved_together(tmp_path, capsys):
    ip = 'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 2 } }'
    (tmp_path / "net.prototxt").write_text(INPUT + ip)
    net = caffe_pb2.NetParameter()
    net.layer.add(name="ip").blobs.extend(array_to_blobproto(np.ones(shape)) for shape in ((2, 100), (2,)))
    write_message(tmp_path / "w.caffemodel", net)
    for number, columns in enumerate((1, 4)):
        with h5py.File(tmp_path / f"{number}.hdf5", "w") as file:
            file["data"], file["label"] = np.ones((1, 100), np.float32), np.zeros((1, columns))
    (tmp_path / "list.txt").write_text("0.hdf5\n1.hdf5\n")
    words = [x for name in ("model", "weights", "list", "save") for x in (f"--{name}", tmp_path / PLACES[name])]
    expected = "1.hdf5: expected label of shape ('N', 1), as of the recordings before, got (1, 4)"
    said(capsys, 1, expected, lrp_cli.main, *words)
    assert not (tmp_path / "e.hdf5").exists()


PLACES = {"model": "net.prototxt", "weights": "w.caffemodel", "list": "list.txt", "save": "e.hdf5"}


def test_a_recording_whose_name_is_no_text_is_refused_before_the_work():
    refused(LRPError, r"'J\udcfc.hdf5': expected a name in UTF-8, got bytes that are none", read, "J\udcfc.hdf5")


@pytest.mark.parametrize("shape", [(), (0,), (0, 1, 1, 100)])
def test_a_file_of_no_recordings_is_said(shape, tmp_path):
    path = str(tmp_path / "x.hdf5")
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = np.zeros(shape), np.zeros((0, 1))
    refused(LRPError, "expected a row of data and of label for each of its recordings, one at least, got", read, path)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("label", [np.nan, np.inf, 1e300, 0.5, -(2**40)])
def test_numbers_beyond_those_asked_for_are_said_without_a_warning(label, tmp_path):
    path = str(tmp_path / "x.hdf5")
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = np.full((2, 1, 1, 100), 1e300), [[0, 1], [label, 1]]
    recording = read(path)
    assert np.isinf(recording.data).all()
    refused(LRPError, f"{path}: expected labels that are numbers of classes, got ", labels, recording, 10, None)
    assert labels(recording, 10, 1).tolist() == [1, 1]


def test_a_run_without_a_network_is_said(tmp_path):
    setting = SimpleNamespace(gpu=None)
    run = SimpleNamespace(setting=setting, deploy=tmp_path / "deploy.prototxt", weights=tmp_path / "w.caffemodel",
                          run=SimpleNamespace(network="AudioNet"))  # fmt: skip
    refused(ExperimentError, "deploy.prototxt: expected a file that can be read, got none", trained.caffe_scores, run)
    net = caffe_pb2.NetParameter()
    net.layer.add(name="l")
    write_message(run.weights, net)
    run.deploy.write_text("")
    refused(ExperimentError, "expected a network with an input and the scores", trained.caffe_scores, run)


ESTIMATE = Estimate(mean=1.0, low=0.5, high=1.5, splits=1, speakers=2, recordings=3, p=0.01)


def record(**others):
    """The record of an outcome that has a conclusion and no files."""
    own = {name: [] for name in ("findings", "unverified", "tables", "arrays", "files")}
    own |= {"title": "A title", "figures": {}, "sounds": {}, "made_from": {"version": "1", "code": "abc", "seed": 0}}
    return own | {"conclusions": [Conclusion("so it is", ESTIMATE, (0.0, 2.0)).record()]} | others


@pytest.mark.parametrize(
    "others, words",
    [
        ({"tables": {"a": 1}}, "expected tables that are texts"),
        ({"findings": ["a", 1]}, "expected findings that are texts, got ['a', 1]"),
        ({"figures": {"a.png": None}}, "expected figures that are texts"),
        ({"figures": {"../a.png": ""}}, "expected names of files in its folder, got '../a.png'"),
        ({"title": 3}, "expected a title, and the version and code that made it"),
        ({"made_from": []}, "expected a title, and the version and code that made it"),
        ({"conclusions": [{}]}, "expected conclusions as experiments record them, got others (KeyError"),
        ({"conclusions": [record()["conclusions"][0] | {"unit": 1}]}, "got others (ValueError: texts that are none)"),
        ({"conclusions": [record()["conclusions"][0] | {"region": ["a", 1]}]}, "(ValueError: numbers that are none)"),
    ],
)
def test_a_record_of_results_that_is_none_is_said(others, words, tmp_path):
    folder = tmp_path / "table1"
    folder.mkdir()

    def judged():
        return results_page.judged(results_page.sections(tmp_path))

    (folder / "outcome.json").write_text(json.dumps(record()))
    assert [one.statement for one, _, _ in judged()["table1"]] == ["so it is"]
    (folder / "outcome.json").write_text(json.dumps(record(**others)))
    refused(ExperimentError, words, judged)


def test_a_record_from_somebody_else_is_text_on_the_page(tmp_path, monkeypatch):
    """Every text of it stands on the page as it is, and nothing of it is a tag."""
    evil = "<img src=x onerror=alert(1)>"
    folder = tmp_path / "table1"
    folder.mkdir()
    picture, sound = f'x">{evil}.png', f"{evil}.wav"
    (folder / picture).write_bytes(b"")
    (folder / sound).write_bytes(WORD)
    conclusion = Conclusion(evil, ESTIMATE, (0.0, 2.0), evil, evil).record()
    own = {
        "title": evil,
        "findings": [evil],
        "unverified": [evil],
        "tables": [f"{evil}.csv"],
        "arrays": [f"{evil}.hdf5"],
    }
    own |= {"figures": {picture: evil}, "sounds": {sound: evil}, "conclusions": [conclusion]}
    made_from = {"version": evil, "code": "<b>" * 4, "seed": evil}
    (folder / "outcome.json").write_text(json.dumps(record(**own, made_from=made_from)))
    pd.DataFrame([[evil] * 11], columns=results_page.SHOWN_TABLES["table1"][1]).to_csv(folder / "table1.csv")
    monkeypatch.setattr(results_page, "differences", lambda setting: [evil])
    text = results_page.page(tmp_path, SimpleNamespace())
    assert "<img src=x" not in text and "<b>" not in text and text.count("&lt;img src=x") > 20


@pytest.mark.parametrize("content", [b"", b"a,c\n1,2\n", b"a,b\n\xff,1\n", b'a,b\n"1,2\n'])
def test_a_table_that_is_none_is_said(content, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    refused(ExperimentError, f"{path}: expected a table with a, b", results_page.read_table, path, ["a", "b"])
    path.write_text("b,a\n1,2\n")
    assert results_page.read_table(path, ["a", "b"]).values.tolist() == [[2, 1]]


RUNS = "<img src=x onerror=ran=1>"  # a name that a browser would run; the next one from within a script as well
ENDS = f"</script><script>ran=1</script>{RUNS}"


@pytest.mark.slow
def test_a_browser_runs_no_name(tmp_path, monkeypatch):
    """The pages of relevance and of results, made from files, speakers, composites and records with such names."""
    monkeypatch.setattr(results_page, "differences", lambda setting: [ENDS])
    folder = tmp_path / "results/table1"
    folder.mkdir(parents=True)
    (folder / f'x">{RUNS}.wav').write_bytes(WORD)
    names = {name: [ENDS] for name in ("findings", "unverified")} | {"title": ENDS, "sounds": {f'x">{RUNS}.wav': ENDS}}
    names["made_from"] = {"version": ENDS, "code": ENDS, "seed": ENDS}
    (folder / "outcome.json").write_text(json.dumps(record(**names)))
    pd.DataFrame([[ENDS] * 11], columns=results_page.SHOWN_TABLES["table1"][1]).to_csv(folder / "table1.csv")
    results_page.write(tmp_path / "results", SimpleNamespace())
    spoken = tmp_path / f"<{RUNS}<" / "script><script>ran=1<" / f"script>{RUNS}.wav"
    spoken.parent.mkdir(parents=True)
    spoken.write_bytes((ROOT / "notebooks/one_recording/seven.wav").read_bytes())
    (tmp_path / "list.txt").write_text(f"{spoken}\n")
    (tmp_path / "evil.toml").write_text(f"name = '{ENDS}'\nnote = '{ENDS}'\ndefault = {{rule = 'Epsilon'}}\n")
    network = [ROOT / "notebooks/one_recording" / name for name in ("deploy.prototxt", "small.caffemodel")]
    words = ["--model", network[0], "--weights", network[1], "--list", tmp_path / "list.txt", "--composite",
             tmp_path / "evil.toml", "--report", tmp_path / "report"]  # fmt: skip
    assert lrp_cli.main(list(map(str, words))) == 0
    for page in (tmp_path / "results/index.html", tmp_path / "report/index.html"):
        steps = "return [await page.evaluate(() => typeof ran), await page.locator('body').innerText()];"
        ran, text = look(page.as_uri(), steps)
        assert ran == "undefined" and RUNS in text
