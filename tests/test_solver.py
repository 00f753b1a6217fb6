"""Solvers against the original Caffe's runs (golden/solver), float64 twins of the formulas, and what a user gets wrong."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe_proto import caffe_pb2
from tests.net_cases import log_messages
from tests.solver_cases import SOLVERS, observe

GOLDEN = json.loads((Path(__file__).parent / "golden/solver/solver.json").read_text())
TRAJECTORY = 1e-4  # relative error of weights and history after 24 iterations in float32
OURS_ONLY = re.compile(r"data order and random state start anew")


def comparable(lines):
    """(text with # for numbers, numbers) per line, without the times of display lines and our own remarks."""
    found = []
    for line in lines:
        line = re.sub(r"\(\S+ iter/s, \S+s/(\d+) iters\)", r"(speed of \1)", line)
        if OURS_ONLY.search(line):
            continue
        pattern = r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w])"
        found.append((re.sub(pattern, "#", line), [float(n) for n in re.findall(pattern, line)]))
    return found


@pytest.mark.parametrize("name", SOLVERS)
def test_training_run_is_the_original_s(name, tmp_path, monkeypatch, capsys):
    wanted = GOLDEN[name]
    monkeypatch.chdir(tmp_path)
    found = observe(name, str(tmp_path))
    assert found["iter"] == wanted["iter"]
    for layer, arrays in wanted["weights"].items():
        for ours, theirs in zip(found["weights"][layer], arrays, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=TRAJECTORY, atol=TRAJECTORY)
    assert len(found["history"]) == len(wanted["history"])
    for ours, theirs in zip(found["history"], wanted["history"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=TRAJECTORY, atol=TRAJECTORY * max(map(abs, theirs)))
    assert [f for f in found["made"] if not f.endswith(".resume")] == wanted["made"]
    messages = [text for _, text in log_messages(capsys.readouterr().err)]
    ours, theirs = comparable(messages[messages.index("Solving small"):]), comparable(wanted["log"])
    assert [line for line, _ in ours] == [line for line, _ in theirs]
    for (line, mine), (_, other) in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=2e-4, atol=1e-6, err_msg=line)
