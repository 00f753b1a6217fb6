"""All solver types against the original Caffe, and training that goes on in the other engine."""

import re
import subprocess
import sys

import numpy as np
import pytest

from tests.parity import solver_cases
from tests.parity.compare import differences
from tests.parity.golden import ROOT

pytestmark = pytest.mark.bvlc

LOSS_TOLERANCE = 1e-4
WEIGHT_TOLERANCE = 1e-3  # of weights and momentum
FORMATS = [case for case in solver_cases.CASES if case.endswith(("/step", "/hdf5"))]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {engine: tmp_path_factory.mktemp(engine) for engine in ("original", "ours")}


@pytest.fixture(scope="module")
def original(bvlc, folders):
    def run(action, states):
        out = states / f"{action}.npz"
        script = ROOT / "tests" / "parity" / "solver_cases.py"
        bvlc("python3", script, out, action, states)
        with np.load(out) as file:
            return {name: file[name] for name in file.files}

    return run


@pytest.fixture(scope="module")
def trained(original, folders):
    """Results of both engines' own training, whose states lie in the folders."""
    return {
        "original": original("train", folders["original"]),
        "ours": solver_cases.run_all("train", str(folders["ours"])),
    }


@pytest.fixture(scope="module")
def resumed(original, folders, trained):
    """Results of each engine going on from the other's states."""
    return {
        "original": original("resume", folders["ours"]),
        "ours": solver_cases.run_all("resume", str(folders["original"])),
    }


def compare(found, wanted, prefix):
    found, wanted = ({n: a for n, a in arrays.items() if n.startswith(prefix)} for arrays in (found, wanted))
    assert wanted
    losses = {n for n in wanted if n.endswith("/losses")}
    wrong = differences({n: found[n] for n in losses}, {n: wanted[n] for n in losses}, LOSS_TOLERANCE)
    wrong += differences(
        {n: found[n] for n in found if n not in losses},
        {n: wanted[n] for n in wanted if n not in losses},
        WEIGHT_TOLERANCE,
    )
    assert not wrong


@pytest.mark.parametrize("when", ["first", "second"])
@pytest.mark.parametrize("case", solver_cases.CASES)
def test_trains_as_the_original(case, when, trained):
    compare(trained["ours"], trained["original"], f"{case}/{when}/")


@pytest.mark.parametrize("case", FORMATS)
def test_the_original_goes_on_from_our_files(case, trained, resumed):
    compare(resumed["original"], trained["ours"], f"{case}/second/")


@pytest.mark.parametrize("case", FORMATS)
def test_we_go_on_from_the_original_s_files(case, trained, resumed):
    compare(resumed["ours"], trained["original"], f"{case}/second/")


def test_the_solver_types_are_all_compared():
    assert {case.split("/")[0] for case in FORMATS} == {"SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"}


@pytest.mark.parametrize("engine", ["original", "ours"])
def test_the_caffe_tool_tests_weights_of_either_engine(engine, trained, folders, bvlc, monkeypatch):
    monkeypatch.delenv("GLOG_minloglevel", raising=False)
    folder = folders[engine] / str(list(solver_cases.CASES).index("SGD/step"))
    arguments = [
        "test",
        f"-model={folder / 'net.prototxt'}",
        "-iterations=1",
        f"-weights={folder / f'run_iter_{solver_cases.STEPS}.caffemodel'}",
    ]
    logs = [
        bvlc("caffe", *arguments).stderr,
        subprocess.run(
            [sys.executable, "-m", "caffe", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stderr,
    ]
    wanted, found = (re.findall(r"\] (?:Loss|loss|other)(?: =|:) (\S+)", log) for log in logs)
    assert len(wanted) == 3
    np.testing.assert_allclose(np.array(found, float), np.array(wanted, float), rtol=LOSS_TOLERANCE)
