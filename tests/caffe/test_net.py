"""Nets against what the original Caffe makes of them (golden/net): topology, log, gradients, refusals."""

import difflib
import gc
import json
import re
import weakref
from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe_proto import CaffeFileError
from tests.net_cases import NETS, construction_log, log_messages, observe

GOLDEN = json.loads((Path(__file__).resolve().parents[1] / "golden/net/net.json").read_text())
ACCEPTED = [name for name in NETS if "fatal" not in GOLDEN[name]]
REFUSED = [name for name in NETS if "fatal" in GOLDEN[name]]
SAME_WORDS = 30  # characters that our refusal and the original's must have in common
SINGLE = 2e-5  # relative error of sums of float32 numbers of order 1


def numbers_apart(line):
    """(the line with every number as #, the numbers)."""
    pattern = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
    return re.sub(pattern, "#", line), [float(n) for n in re.findall(pattern, line)]


def assert_same_lines(ours, wanted):
    """Same text line by line; numbers agree to the printed precision."""
    assert [numbers_apart(line)[0] for line in ours] == [numbers_apart(line)[0] for line in wanted]
    for mine, theirs in zip(ours, wanted, strict=True):
        np.testing.assert_allclose(
            numbers_apart(mine)[1], numbers_apart(theirs)[1], rtol=2e-5, atol=1e-7, err_msg=f"{mine} / {theirs}"
        )


def test_every_case_has_its_golden_result():
    assert sorted(GOLDEN) == sorted(NETS)
    assert len(ACCEPTED) > 30 and len(REFUSED) > 25


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ACCEPTED)
def test_net_is_the_original_s(name, tmp_path, capsys):
    wanted = GOLDEN[name]
    found = json.loads(json.dumps(observe(name, str(tmp_path))))
    log = construction_log(log_messages(capsys.readouterr().err))
    assert_same_lines(log, wanted["log"])
    for key in ("layers", "blobs", "bottoms", "tops", "inputs", "outputs", "loss_weights"):
        assert found[key] == wanted[key], key
    assert found["loss"] == pytest.approx(wanted["loss"], rel=SINGLE, abs=1e-6)
    for key in ("data", "diff", "params"):
        assert found[key].keys() == wanted[key].keys()
        for blob, sums in wanted[key].items():
            np.testing.assert_allclose(found[key][blob], sums, rtol=SINGLE, atol=1e-5, err_msg=f"{key} of {blob}")


SHARED = """layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 }} }} }}
layer {{ name: "a" type: "InnerProduct" bottom: "x" top: "a" param {{ name: "w" {0} }} {ip} }}
layer {{ name: "b" type: "InnerProduct" bottom: "a" top: "b" param {{ name: "w" {1} }} {ip} }}
layer {{ name: "c" type: "InnerProduct" bottom: "b" top: "c" param {{ name: "w" {2} }} {ip} }}"""
IP = "inner_product_param { num_output: 3 bias_term: false }"


@pytest.mark.parametrize("field", ["lr_mult", "decay_mult"])
@pytest.mark.parametrize(
    "given, wanted",
    [
        (("", "", ""), 1),
        (("2", "", ""), 2),
        (("", "2", ""), 2),
        (("", "", "2"), 2),
        (("", "2", "2"), 2),
        (("2", "", "2"), 2),
        (("", "2", "3"), None),  # the second has spoken for the owner, which is silent
        (("2", "", "3"), None),
        (("1", "2", ""), None),
    ],
)
def test_layers_that_share_a_blob_agree_on_its_multipliers(field, given, wanted, tmp_path):
    """Caffe (net.cpp, AppendParam): a multiplier that is given counts for all, and each one given must be the same."""
    path = tmp_path / "net.prototxt"
    path.write_text(SHARED.format(*(f"{field}: {value}" if value else "" for value in given), ip=IP))
    if wanted is None:
        with pytest.raises(caffe.CaffeError, match=f"Shared param 'w' has mismatched {field}."):
            caffe.Net(str(path), caffe.TRAIN)
    else:
        net = caffe.Net(str(path), caffe.TRAIN)
        assert {"lr_mult": net.lr_mults, "decay_mult": net.decay_mults}[field] == [wanted]


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_original_refuses_is_refused_in_the_same_words(name, tmp_path):
    wanted = GOLDEN[name]["fatal"]
    with pytest.raises((caffe.CaffeError, CaffeFileError)) as caught:
        observe(name, str(tmp_path))
    message = str(caught.value)
    common = difflib.SequenceMatcher(None, message, wanted, autojunk=False).find_longest_match()
    assert common.size >= min(SAME_WORDS, len(wanted)), f"{message} / {wanted}"


def test_nets_and_solvers_are_gone_with_their_last_user(tmp_path):
    """Without a search for cycles: their memory, of a GPU perhaps, is wanted at once."""
    (tmp_path / "net.prototxt").write_text(SHARED.format("", "", "", ip=IP))
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 1 lr_policy: "fixed" display: 1'
    )
    gc.collect()
    gc.disable()
    try:
        net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)
        solver = caffe.SGDSolver(str(tmp_path / "solver.prototxt"))
        net.forward()
        net.backward()
        solver.step(1)
        left = [weakref.ref(one) for one in (net, solver, solver.net, solver.net.layers[1])]
        del net, solver
        assert [ref() for ref in left] == [None] * 4
    finally:
        gc.enable()


def test_the_log_says_which_layers_of_a_file_have_no_place_here(tmp_path, capsys):
    text = """layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "both" type: "InnerProduct" bottom: "x" top: "b" inner_product_param { num_output: 2 } }
        layer { name: "%s" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }"""
    for name in ("one", "other"):
        (tmp_path / name).write_text(text % name)
    caffe.Net(str(tmp_path / "one"), caffe.TEST).save(str(tmp_path / "w.caffemodel"))
    net = caffe.Net(str(tmp_path / "other"), caffe.TEST)
    capsys.readouterr()
    net.copy_from(str(tmp_path / "w.caffemodel"))
    assert log_messages(capsys.readouterr().err) == [["I", "Ignoring source layer one"]]


def test_rows_are_not_filtered_in_place(tmp_path):
    """The top has fewer rows than the bottom, which others may still read."""
    path = tmp_path / "net.prototxt"
    path.write_text(
        """layer { name: "in" type: "Input" top: "x" top: "s" input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }
        layer { name: "f" type: "Filter" bottom: "x" bottom: "s" top: "x" }"""
    )
    with pytest.raises(caffe.CaffeError, match=r"layer 'f' \(Filter\): top 'x' .*in-place"):
        caffe.Net(str(path), caffe.TEST)
