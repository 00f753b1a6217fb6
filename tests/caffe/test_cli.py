"""The command line: exit status and words for whatever a user gets wrong, and the original's own answers live."""

import difflib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

import caffe
from caffe import cli
from tests.net_cases import LOG_LINE, log_messages
from tests.solver_cases import FIXED, TESTED, make_solver

ROOT = Path(__file__).resolve().parents[2]
SAME_WORDS = 19  # characters that our refusal and the original's must have in common


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with corpus, solver.prototxt and the snapshot s_iter_24.*"""
    folder, before = tmp_path_factory.mktemp("cli") / "run", os.getcwd()
    folder.mkdir()
    try:
        make_solver(TESTED, str(folder)).solve()
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """The working directory: a copy of `trained`."""
    folder = shutil.copytree(trained, tmp_path / "run")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def handlers():
    """Training sets signal handlers; give the old ones back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(capsys, *arguments):
    """(exit status, messages of the log, stderr as it is) of a command in this process."""
    try:
        status = cli.main(list(arguments))
    except SystemExit as error:
        status = error.code
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return status, [message for _, message in log_messages(text)], text


USES = {  # arguments of the original too: both must end with the same status and the same words
    "no solver": ("train",),
    "no model to score": ("test", "-weights=s_iter_24.caffemodel"),
    "no weights to score": ("test", "-model=net.prototxt"),
    "no model to time": ("time",),
    "snapshot and weights": ("train", "-solver=solver.prototxt", "-snapshot=s_iter_24.solverstate", "-weights=x"),
    "unknown action": ("fly",),
    "unknown phase": ("time", "-model=net.prototxt", "-phase=BOTH"),
    "missing weights": ("test", "-model=net.prototxt", "-weights=none"),
    "missing net": ("test", "-model=none", "-weights=s_iter_24.caffemodel"),
    "net is no net": ("test", "-model=solver.prototxt", "-weights=s_iter_24.caffemodel"),
    "solver is no solver": ("train", "-solver=net.prototxt"),
    "cut weights": ("test", "-model=net.prototxt", "-weights=cut.caffemodel"),
    "flags first": ("-model=net.prototxt", "-weights", "s_iter_24.caffemodel", "--iterations", "2", "test"),
    "two tests": ("test", "--model=net.prototxt", "--weights=s_iter_24.caffemodel", "-iterations=2"),
    "resumed at the end": ("train", "-solver=solver.prototxt", "-snapshot=s_iter_24.solverstate"),
    "finetuned": ("train", "-solver=two.prototxt", "-weights=s_iter_24.caffemodel"),
    "finetuned from two": ("train", "-solver=two.prototxt", "-weights=s_iter_24.caffemodel,s_iter_24.caffemodel"),
    "stage": ("train", "-solver=two.prototxt", "-weights=s_iter_24.caffemodel", "-stage=a,b", "-level=2"),
    "unknown flag": ("train", "-foo=1"),
    "no action": (),
    "two actions": ("train", "test"),
    "version": ("--version",),
    "help": ("--help",),
}
CLEARER = {  # where the original speaks of file handles
    "missing weights": "File not found: none",
    "cut weights": "cut.caffemodel: expected a binary NetParameter, got 469 bytes that are not a complete one",
}


@pytest.fixture
def material(here):
    content = (here / "s_iter_24.caffemodel").read_bytes()
    (here / "cut.caffemodel").write_bytes(content[:-20])
    (here / "two.prototxt").write_text(FIXED.replace("max_iter: 24", "max_iter: 2"))
    return here


@pytest.mark.bvlc
@pytest.mark.parametrize("use", USES)
def test_uses_end_as_with_the_original(use, material, bvlc, capsys):
    theirs = bvlc("caffe", *USES[use], cwd=material, check=False)
    status, messages, _ = run(capsys, *USES[use])
    assert status == (128 - theirs.returncode if theirs.returncode < 0 else theirs.returncode)
    fatal = [text for severity, text in log_messages(theirs.stderr) if severity == "F"]
    if fatal:
        wanted = fatal[0].split("\n")[0]
        if use in CLEARER:
            wanted = CLEARER[use]
        common = difflib.SequenceMatcher(None, messages[-1], wanted, autojunk=False).find_longest_match()
        assert common.size >= min(SAME_WORDS, len(wanted)), f"{messages[-1]} / {wanted}"
    elif "Running for 2 iterations." in messages:
        scores = [text for _, text in log_messages(theirs.stderr)]
        ours, wanted = (m[m.index("Running for 2 iterations.") :] for m in (messages, scores))
        assert ours == wanted
    elif "Starting Optimization" in messages:
        starts = ("Finetuning", "Resuming", "Snapshotting", "Optimization", "Use ")
        found = [
            [text for text in m if text.startswith(starts)]
            for m in (messages, [text for _, text in log_messages(theirs.stderr)])
        ]
        assert found[0] == found[1]


def spoil_resume(text):
    return lambda: Path("s_iter_24.resume").write_text(text)


def hdf5(name, **content):
    def make():
        with h5py.File(name, "w") as file:
            for path, value in content.items():
                file[path] = value

    return make


def edit_net(old, new):
    return lambda: Path("net.prototxt").write_text(Path("net.prototxt").read_text().replace(old, new))


RESUME = ("train", "-solver=solver.prototxt", "-snapshot=s_iter_24.solverstate")
TEST = ("test", "-model=net.prototxt", "-weights=s_iter_24.caffemodel")
TRAIN = ("train", "-solver=solver.prototxt")


@pytest.mark.parametrize(
    "prepare, arguments, words",
    [
        (spoil_resume("[]"), RESUME, "s_iter_24.resume: expected a resume file (without it"),
        (spoil_resume('{"iter": 24}'), RESUME, "start anew), got an object without 'random'"),
        (spoil_resume('{"iter": 24, "random": 3}'), RESUME, "s_iter_24.resume: expected a resume file (without it"),
        (spoil_resume("{"), RESUME, "s_iter_24.resume: expected a resume file (without it"),
        (
            hdf5("w.solverstate.h5", iter=[3]),
            (*TRAIN, "-snapshot=w.solverstate.h5"),
            "w.solverstate.h5: expected a solverstate in HDF5 form, got no group history",
        ),
        (hdf5("w.solverstate.h5", iter=3, history=3), (*TRAIN, "-snapshot=w.solverstate.h5"), "got no group history"),
        (
            hdf5("w.h5", x=3),
            (*TEST[:2], "-weights=w.h5"),
            "w.h5: expected HDF5 weights of a Caffe net, got no group data",
        ),
        (
            hdf5("w.h5", **{"data/ip1/a": 3}),
            (*TEST[:2], "-weights=w.h5"),
            "w.h5: layer ip1: expected blobs numbered from 0 to 999, got 'a'",
        ),
        (edit_net("num_output: 3", "num_output: 2"), TRAIN, "layer 'loss' (SoftmaxWithLoss)"),
        (
            edit_net("num_output: 3", "num_output: 4"),
            TEST,
            "Cannot copy param 0 weights from layer 'ip2'; shape mismatch",
        ),
        (edit_net("ip", "fc"), TEST, "net 'small', of ['fc1', 'fc2'], got ['ip1', 'ip2'] alone"),
        (edit_net("hdf5_data_param", "hdf_param"), TRAIN, 'has no field named "hdf_param"'),
        (edit_net("TanH", "Tanh"), TRAIN, "Unknown layer type: Tanh (known types: AbsVal, Accuracy"),
        (edit_net("train.txt", "missing.txt"), TRAIN, "Failed to open source file: missing.txt"),
        (lambda: Path("train1.hdf5").unlink(), TRAIN, "got 1 that do not exist, the first ['train1.hdf5']"),
        (lambda: None, (*TRAIN, "-gpu=x"), "-gpu: expected ids such as 0,1 or 'all', got 'x'"),
        (lambda: None, (*TEST, "-iterations=0"), "-iterations: expected a positive number, got 0"),
        (
            lambda: None,
            (*TRAIN, "-weights=net.prototxt"),
            "net.prototxt: expected a binary NetParameter, got 851 bytes that are not a complete one",
        ),
    ],
)
def test_a_user_s_mistake_is_one_sentence_and_status_134(prepare, arguments, words, here, capsys):
    prepare()
    status, messages, _ = run(capsys, *arguments)
    assert status == 134
    assert re.sub(r"\d+ bytes", "851 bytes", messages[-1]).find(words) >= 0, messages[-1]
    assert "\n" not in messages[-1]


def test_a_label_out_of_range_names_the_layer_the_value_and_the_classes(here, capsys):
    with h5py.File("train1.hdf5", "r+") as file:
        file["label"][2] = 7
    status, messages, _ = run(capsys, *TRAIN)
    assert status == 134
    assert messages[-1] == "layer 'loss' (SoftmaxWithLoss): expected 0..2, got label 7 at item 1"  # of its batch


def test_an_unwritable_curve_costs_only_the_curve(here, capsys):
    os.mkdir("s_curve.csv")
    status, messages, _ = run(capsys, *TRAIN)
    assert status == 0
    assert any("s_curve: the curve cannot be written" in m for m in messages)
    assert Path("s_curve.png").is_file()


def test_every_log_line_has_glog_s_form_that_parsers_read(here, capsys):
    status, messages, text = run(capsys, *TRAIN)
    assert status == 0
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if "Solving small" in line)
    for line in lines[start:]:
        assert LOG_LINE.match(line), line
    losses = [re.fullmatch(r"Iteration (\d+) \(\S+ iter/s, \S+s/5 iters\), loss = (\S+)", m) for m in messages]
    assert [int(m.group(1)) for m in losses if m] == [0, 5, 10, 15, 20]
    rates = [re.search(r"Iteration (\d+), lr = (\S+)", m) for m in messages]
    assert [int(m.group(1)) for m in rates if m] == [0, 5, 10, 15, 20]


def test_timing_names_every_layer_and_a_total(here, capsys):
    status, messages, _ = run(capsys, "time", "-model=net.prototxt", "-iterations=2")
    assert status == 0
    for layer in ("data", "ip1", "tanh", "ip2", "loss"):
        for direction in ("forward", "backward"):
            assert sum(bool(re.fullmatch(rf" *{layer}\t{direction}: \S+ ms\.", m)) for m in messages) == 1
    assert any(re.fullmatch(r"Average Forward-Backward: \S+ ms\.", m) for m in messages)
    assert [m for m in messages if m.startswith("Iteration: ")][1].startswith("Iteration: 2 forward-backward time: ")


def test_ctrl_c_outside_training_is_no_traceback(here):
    process = subprocess.Popen(
        [sys.executable, "-m", "caffe", *TEST, "-iterations=100000"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    while "Batch 3" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait() == 130
    assert "Traceback" not in rest and "Interrupted." in rest


def flags_in(text):
    return set(re.findall(r"(?<=[ ,])-([a-z]\w*)", text))


@pytest.mark.parametrize("command", ["train", "test", "time", "device_query", "export"])
def test_the_help_of_a_command_has_its_flags_alone(command, capsys):
    """As docs/engine.md section 5 has them, and with examples that use no other."""
    table = (Path(__file__).parents[2] / "docs" / "engine.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`-.*?`) \|.*?\| ([^|]*?) \| [^|]*\|$", table, re.MULTILINE)
    wanted = {
        flag for names, users in rows if users == "all" or command in users.split(", ")
        for flag in re.findall(r"`-(\w+)`", names)
    }  # fmt: skip
    assert cli.main([command, "--help"]) == 1
    said = capsys.readouterr().out
    described, _, examples = said.partition("examples:")
    assert flags_in(described.partition("options:")[2]) == wanted | {"version", "help"}
    assert f"caffe {command} -" in examples and flags_in(examples) <= wanted
    assert "(default: )" not in said


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"], []])
def test_help_does_not_wait_for_torch(arguments):
    program = f"""
import sys
from caffe import cli
cli.main({arguments})
print("loaded:", *({{"torch", "h5py"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "loaded:", done.stderr
    assert "caffe" in (done.stdout + done.stderr).removesuffix("loaded:\n")


def test_the_help_of_all_says_which_command_reads_a_flag(capsys):
    assert cli.main(["--help"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "--solver FILE train: the solver definition" in said
    assert "--iterations N test, time: number of iterations (default: 50)" in said
    assert "--gpu IDS train, test, device_query, time: GPU ids separated by commas" in said
    assert "(default: )" not in said


def test_outputs_of_changing_size_have_no_mean(tmp_path, capfd):
    """A Filter passes as many rows as its selector names, other ones in every batch."""
    (tmp_path / "net.prototxt").write_text("""
        layer { name: "d" type: "DummyData" top: "d"
                dummy_data_param { shape { dim: 40 } data_filler { type: "gaussian" } } }
        layer { name: "split" type: "Split" bottom: "d" top: "a" top: "b" }
        layer { name: "t" type: "Threshold" bottom: "b" top: "selector" }
        layer { name: "f" type: "Filter" bottom: "a" bottom: "selector" top: "out" }""")
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    net.save(str(tmp_path / "w.caffemodel"))
    capfd.readouterr()
    model, weights = f"-model={tmp_path / 'net.prototxt'}", f"-weights={tmp_path / 'w.caffemodel'}"
    assert cli.main(["test", model, weights, "-iterations=20"]) == 134
    assert re.search(
        r"\] output out: expected \d+ numbers, as in batch 0, got \d+$", capfd.readouterr().err, re.MULTILINE
    )
