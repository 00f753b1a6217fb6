"""Solvers against the original's runs (golden/solver) and worked examples, and what a user gets wrong."""

import ast
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import caffe
from caffe import snapshots
from caffe_proto import CaffeFileError, caffe_pb2
from tests.net_cases import log_messages
from tests.solver_cases import FIXED, SOLVERS, make_solver, observe

GOLDEN = json.loads((Path(__file__).resolve().parents[1] / "golden/solver/solver.json").read_text())
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
    ours, theirs = comparable(messages[messages.index("Solving small") :]), comparable(wanted["log"])
    assert [line for line, _ in ours] == [line for line, _ in theirs]
    for (line, mine), (_, other) in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=2e-4, atol=1e-6, err_msg=line)


# -- formulas ---------------------------------------------------------------------------------------------------------
WORKED = {  # settings: the weight after steps 1, 2, 3 from w = 1 with gradient w (checked on the original)
    'type: "SGD" momentum: 0.9': (0.9, 0.72, 0.486),
    'type: "SGD" momentum: 0.9 lr_policy: "step" stepsize: 2 gamma: 0.1': (0.9, 0.72, 0.5508),
    'type: "SGD" momentum: 0.9 weight_decay: 0.5': (0.85, 0.5875, 0.263125),
    'type: "Nesterov" momentum: 0.9': (0.81, 0.5751, 0.327321),
    'type: "Nesterov" momentum: 0.9 lr_policy: "step" stepsize: 2 gamma: 0.1': (0.81, 0.5751, 0.4256631),
    'type: "AdaGrad"': (0.9, 0.8331035, 0.7804562),
    'type: "RMSProp" base_lr: 0.01': (0.9, 0.8329180, 0.7799823),
    'type: "AdaDelta" base_lr: 1 momentum: 0.95 delta: 1e-6': (0.9955279, 0.9910088, 0.9864646),
    'type: "Adam" momentum: 0.9': (0.9, 0.8004123, 0.7015864),
    'type: "Adam" momentum: 0.9 delta: 0.1': (0.9759747, 0.9453560, 0.9106551),
}
ONE_WEIGHT = """net_param { layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: %d } } }
layer { name: "half" type: "Power" bottom: "w" top: "square" power_param { power: 2 scale: 0.70710678118 } }
layer { name: "loss" type: "Reduction" bottom: "square" top: "loss" loss_weight: 1 } }
snapshot_after_train: false snapshot_prefix: "w" """  # (scale w)^2 = w^2 / 2, whose gradient is w


def small_solver(folder, settings, weights=(1.0,)):
    text = ONE_WEIGHT % len(weights) + settings
    for field, default in (("base_lr", "0.1"), ("lr_policy", '"fixed"')):
        if f"{field}:" not in settings:
            text += f" {field}: {default}"
    (folder / "solver.prototxt").write_text(text)
    solver = caffe.get_solver(folder / "solver.prototxt")
    solver.net.params["w"][0].data[...] = weights
    return solver


@pytest.mark.parametrize("settings", WORKED)
def test_update_rules_give_the_worked_examples(settings, tmp_path):
    solver = small_solver(tmp_path, settings)
    for wanted in WORKED[settings]:
        solver.step(1)
        assert solver.net.params["w"][0].data[0] == pytest.approx(wanted, abs=2e-6)


def test_clipping_scales_by_the_norm_over_all_parameters(tmp_path):
    solver = small_solver(tmp_path, "clip_gradients: 1", (3.0, 4.0))
    solver.step(1)
    np.testing.assert_allclose(solver.net.params["w"][0].data, (2.94, 3.92), rtol=1e-6)
    assert solver.net.params["w"][0].diff == pytest.approx((0.06, 0.08), rel=1e-5)  # the step, not the gradient


RATES = {  # at iteration 150, base_lr 0.01
    'lr_policy: "step" gamma: 0.1 stepsize: 100': 0.001,
    'lr_policy: "exp" gamma: 0.99': 0.00221452,
    'lr_policy: "inv" gamma: 1e-4 power: 0.75': 0.00988896,
    'lr_policy: "poly" max_iter: 1000 power: 2': 0.007225,
    'lr_policy: "sigmoid" gamma: 0.01 stepsize: 100': 0.00622459,
    'lr_policy: "fixed"': 0.01,
}


@pytest.mark.parametrize("settings", RATES)
def test_rates_are_the_worked_examples(settings, tmp_path):
    solver = small_solver(tmp_path, "base_lr: 0.01 " + settings)
    solver.iter = 150
    assert solver.lr == pytest.approx(RATES[settings], rel=1e-5)


@pytest.mark.parametrize(
    "settings, iteration, wanted",
    [
        ('lr_policy: "exp" gamma: 2', 5000, np.inf),
        ('lr_policy: "sigmoid" gamma: 1 stepsize: 5000', 0, 0.0),
        ('lr_policy: "poly" max_iter: 10 power: 0.5', 20, np.nan),
        ('lr_policy: "poly" max_iter: 0 power: 1', 0, np.nan),
    ],
)
def test_rates_out_of_range_are_those_of_c(settings, iteration, wanted, tmp_path):
    solver = small_solver(tmp_path, settings)
    solver.iter = iteration
    np.testing.assert_equal(solver.lr, wanted)


def test_multistep_advances_once_a_call(tmp_path):
    solver = small_solver(tmp_path, 'lr_policy: "multistep" gamma: 0.1 stepvalue: 3 stepvalue: 5')
    solver.iter = 9
    assert [solver.lr for _ in range(3)] == pytest.approx([0.01, 0.001, 0.001])


def test_a_permissively_shared_convolution_is_updated(tmp_path):
    """Two kernels of different shapes over one memory: the update of the owner must reach it."""
    net = """net_param { layer { name: "d" type: "DummyData" top: "d" dummy_data_param {
      num: 2 channels: 3 height: 6 width: 6 data_filler { value: 0.5 } } }
    layer { name: "a" type: "Convolution" bottom: "d" top: "a" param { name: "w" }
      convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 bias_term: false } }
    layer { name: "b" type: "Convolution" bottom: "d" top: "b" param { name: "w" share_mode: PERMISSIVE }
      convolution_param { num_output: 4 kernel_h: 2 kernel_w: 3 bias_term: false } }
    layer { name: "la" type: "Reduction" bottom: "a" top: "la" loss_weight: 1 }
    layer { name: "lb" type: "Reduction" bottom: "b" top: "lb" loss_weight: 2 } }
    base_lr: 0.125 lr_policy: "fixed" """
    (tmp_path / "s.prototxt").write_text(net)
    solver = caffe.SGDSolver(str(tmp_path / "s.prototxt"))
    solver.step(2)
    # every weight sees 2 images of outputs 4 x 5 and 5 x 4, inputs of 0.5: gradient 20 + 2 * 20
    assert np.array_equal(solver.net.params["a"][0].data, np.full((4, 3, 3, 2), -2 * 0.125 * 60, np.float32))
    assert np.array_equal(solver.net.params["b"][0].data, np.full((4, 3, 2, 3), -2 * 0.125 * 60, np.float32))


def test_a_growing_loss_blob_keeps_its_weight(tmp_path):
    (tmp_path / "net.prototxt").write_text("""force_backward: true
        layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 2 } } }
        layer { name: "p" type: "Power" bottom: "d" top: "p" power_param { scale: 3 } loss_weight: 0.5 }""")
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)
    net.blobs["d"].reshape(5)
    net.blobs["d"].data[...] = 1
    assert net._forward(0, 1) == 7.5
    net._backward(1, 0)
    assert np.array_equal(net.blobs["d"].diff, np.full(5, 1.5, np.float32))


@pytest.mark.parametrize("calls", [(11,), (3, 8), (5, 4, 9), (1,) * 7])
def test_the_displayed_loss_is_the_mean_of_the_last_ones_of_the_call(calls, tmp_path, capsys):
    """average_loss 4: the mean over the last four iterations, of those that this call of step() has done."""
    solver = small_solver(tmp_path, "average_loss: 4 display: 1 momentum: 0.5 base_lr: 0.3")
    w, v, losses, wanted = 1.0, 0.0, [], []
    for iterations in calls:
        losses.clear()
        for _ in range(iterations):
            losses.append(w * w / 2)
            wanted.append(np.mean(losses[-4:]))
            v = 0.5 * v + 0.3 * w
            w -= v
        solver.step(iterations)
    messages = [text for _, text in log_messages(capsys.readouterr().err)]
    found = [float(m.rpartition("loss = ")[2]) for m in messages if m.startswith("Iteration") and "loss" in m]
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-6)


def test_a_resumed_multistep_goes_on_at_its_step(tmp_path, monkeypatch, capsys):
    """Caffe moves on by one step an iteration: one that began at step 0 behind two stepvalues would log other rates."""
    monkeypatch.chdir(tmp_path)
    settings = 'lr_policy: "multistep" gamma: 0.1 stepvalue: 2 stepvalue: 4 stepvalue: 9 display: 1 '
    for form in ("BINARYPROTO", "HDF5"):
        whole = small_solver(tmp_path, f"{settings} snapshot_format: {form}")
        whole.step(6)
        whole.snapshot()
        resumed = small_solver(tmp_path, settings)
        capsys.readouterr()
        resumed.restore("w_iter_6.solverstate" + (".h5" if form == "HDF5" else ""))
        resumed.step(4)
        messages = [text for _, text in log_messages(capsys.readouterr().err)]
        rates = [float(m.rpartition("lr = ")[2]) for m in messages if ", lr = " in m]
        np.testing.assert_allclose(rates, [1e-3, 1e-3, 1e-3, 1e-4], rtol=1e-5)


def shuffled_solver(folder):
    """A solver whose rows come in random order, from another seed than those before."""
    make_solver(FIXED, str(folder))
    (folder / "net.prototxt").write_text(
        (folder / "net.prototxt").read_text().replace("batch_size: 4", "batch_size: 4 shuffle: true")
    )
    return caffe.get_solver("solver.prototxt")


def test_a_resume_file_of_another_iteration_is_ignored_and_the_log_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    solver = shuffled_solver(tmp_path)
    for _ in range(2):
        solver.step(5)
        solver.snapshot()
    positions = solver.net.positions()
    Path("s_iter_5.resume").replace("s_iter_10.resume")
    resumed = shuffled_solver(tmp_path)
    untouched = resumed.net.positions()
    capsys.readouterr()
    resumed.restore("s_iter_10.solverstate")
    warnings = [text for severity, text in log_messages(capsys.readouterr().err) if severity == "W"]
    assert warnings == ["s_iter_10.resume is of iteration 5, the solverstate of 10: ignored"]
    np.testing.assert_equal(resumed.net.positions(), untouched)  # the order starts anew
    assert resumed.iter == 10 and untouched["data"]["offset"] == 0 != positions["data"]["offset"]


# -- refusals ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "settings, words",
    {
        'lr_policy: "stairs"': "Unknown learning rate policy: stairs (known policies: exp, fixed, inv, multistep, poly",
        'lr_policy: ""': "Unknown learning rate policy",
        'lr_policy: "step" gamma: 0.1': "lr_policy step: expected a positive stepsize, got 0",
        'lr_policy: "exp" gamma: -1': "lr_policy exp: expected a gamma >= 0, got -1",
        'type: "Adamant"': "Unknown solver type: Adamant (known types: AdaDelta, AdaGrad, Adam, Nesterov, RMSProp",
        'type: "AdaGrad" momentum: 0.9': "Momentum cannot be used with AdaGrad.",
        'type: "RMSProp" momentum: 0.9': "Momentum cannot be used with RMSProp.",
        'type: "RMSProp" rms_decay: 1.5': "rms_decay should lie between 0 and 1",
        "average_loss: 0": "average_loss should be non-negative",
        "iter_size: 0": "expected a positive iter_size, got 0",
        'weight_decay: 1 regularization_type: "L3"': "Unknown regularization type: L3",
        'snapshot: 1 snapshot_prefix: "nowhere/s"': "Cannot write to snapshot prefix 'nowhere/s'.",
        "test_iter: 1": "test_interval: expected a positive number because there are test nets, got 0",
        "test_iter: 0 test_interval: 1": "test_iter: expected a positive number of batches, got [0]",
        "test_iter: 1 test_iter: -3 test_interval: 1": "test_iter: expected a positive number of batches, got [1, -3]",
        'test_net: "x"': "test_iter must be specified for each test network",
        'net: "x"': "must specify a train net using one of these fields",
    }.items(),
)
def test_wrong_settings_are_refused_in_words(settings, words, tmp_path):

    text = ONE_WEIGHT % 1
    if "snapshot_prefix" in settings:
        text = text.replace('snapshot_prefix: "w"', "")
    for field, default in (("base_lr", "0.1"), ("lr_policy", '"fixed"')):
        text += "" if f"{field}:" in settings else f" {field}: {default}"
    (tmp_path / "solver.prototxt").write_text(f"{text} {settings}")
    with pytest.raises(caffe.CaffeError) as caught:
        caffe.get_solver(str(tmp_path / "solver.prototxt")).step(1)
    assert words in str(caught.value)


def test_a_loss_that_is_not_finite_stops_the_run_before_the_update(tmp_path):
    solver = small_solver(tmp_path, "", (np.inf,))
    with pytest.raises(caffe.CaffeError, match="Iteration 0: expected a finite training loss, got inf .*'w'"):
        solver.step(1)
    assert solver.iter == 0 and np.isinf(solver.net.params["w"][0].data[0])


def test_weights_that_are_not_finite_are_never_snapshotted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    solver = small_solver(tmp_path, "snapshot: 1 base_lr: 3e38")
    with pytest.raises(caffe.CaffeError, match="Iteration .*: expected finite numbers in param 0 of layer 'w', got 1"):
        solver.net.params["w"][0].data[...] = 1e3
        solver.step(1)
    assert not list(tmp_path.glob("w_iter_*"))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["weights", "history"])
def test_one_number_that_is_not_finite_is_enough_to_refuse_a_snapshot(where, wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    solver = small_solver(tmp_path, "momentum: 0.9", np.linspace(-1, 1, 7))
    blob = solver.net.params["w"][0] if where == "weights" else solver.history[0]
    blob.data[5] = wrong
    name = "param 0 of layer 'w'" if where == "weights" else "history blob 0"
    with pytest.raises(caffe.CaffeError, match=f"expected finite numbers in {name}, got 1 of 7 that are NaN"):
        solver.snapshot()
    assert not list(tmp_path.glob("w_iter_*"))
    blob.data[5] = 3e38  # finite numbers whose sum is not are no reason
    blob.data[4] = 3e38
    solver.snapshot()
    assert list(tmp_path.glob("w_iter_0.solverstate"))


def test_solve_notices_an_unwritable_prefix_before_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.prototxt").write_text(
        (ONE_WEIGHT % 1).replace("snapshot_after_train: false", "").replace('"w" ', '"nowhere/w" ')
        + 'base_lr: 1 lr_policy: "fixed" max_iter: 3'
    )
    solver = caffe.SGDSolver("s.prototxt")
    with pytest.raises(caffe.CaffeError, match="Cannot write to snapshot prefix 'nowhere/w'"):
        solver.solve()
    assert solver.iter == 0
    solver.step(2)  # which needs no snapshot
    assert solver.iter == 2


def test_no_file_is_touched_by_the_look_whether_snapshots_can_be_written(tmp_path, monkeypatch):
    """Neither a file of the name that was once used for it, nor the target of a link of that name."""
    monkeypatch.chdir(tmp_path)
    solver = small_solver(tmp_path, "snapshot: 2 max_iter: 2 base_lr: 0")
    target = tmp_path / "target"
    for path in (target, tmp_path / "w_iter_2.tempfile"):
        path.write_text("precious")
    (tmp_path / "w_iter_2.tempfile.h5").symlink_to(target)
    before = set(tmp_path.iterdir())
    snapshots.check_writable(solver.param)
    assert set(tmp_path.iterdir()) == before
    assert target.read_text() == (tmp_path / "w_iter_2.tempfile").read_text() == "precious"
    (tmp_path / "w_iter_2.tempfile").unlink()
    (tmp_path / "w_iter_2.tempfile").symlink_to(target)
    snapshots.check_writable(solver.param)
    assert target.read_text() == "precious" and (tmp_path / "w_iter_2.tempfile").is_symlink()


def test_a_prefix_that_is_too_long_for_a_snapshot_is_noticed_at_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    longest = 255 - len("_iter_2.solverstate.h5")
    solver = small_solver(tmp_path, "snapshot: 2 max_iter: 2 base_lr: 0")
    solver.param.snapshot_prefix = "x" * longest
    snapshots.check_writable(solver.param)
    solver.param.snapshot_prefix = "x" * (longest + 1)
    with pytest.raises(caffe.CaffeError, match="Cannot write to snapshot prefix 'x+'.*: File name too long"):
        snapshots.check_writable(solver.param)


def test_what_tries_whether_snapshots_can_be_written_never_has_a_name(tmp_path, monkeypatch):
    """A killed process cannot remove a file."""
    solver = small_solver(tmp_path, "snapshot: 2 max_iter: 2 base_lr: 0")
    solver.param.snapshot_prefix = str(tmp_path / "snapshots" / "w")
    (tmp_path / "snapshots").mkdir()
    monkeypatch.setattr(os, "unlink", lambda *_, **__: pytest.fail("a file was there"))
    snapshots.check_writable(solver.param)
    assert os.listdir(tmp_path / "snapshots") == []


def test_a_state_is_written_last(tmp_path, monkeypatch):
    """A run that is killed goes on from the newest state, and needs what the others have kept up to there."""
    monkeypatch.chdir(tmp_path)
    solver, seen = small_solver(tmp_path, ""), []
    solver.listeners = [SimpleNamespace(snapshotted=lambda _: seen.extend(sorted(os.listdir())))]
    solver.snapshot()
    assert "w_iter_0.caffemodel" in seen and "w_iter_0.resume" in seen and "w_iter_0.solverstate" not in seen
    assert Path("w_iter_0.solverstate").stat().st_size > 0


def test_restore_refuses_what_is_no_state_of_this_solver(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    solver = small_solver(tmp_path, "")
    solver.snapshot()
    whole = Path("w_iter_0.solverstate").read_bytes()
    Path("cut.solverstate").write_bytes(whole[:-3])
    Path("text.solverstate.h5").write_bytes(b"no HDF5 file")
    state = caffe_pb2.SolverState.FromString(whole)
    state.history.append(state.history[0])
    Path("long.solverstate").write_bytes(state.SerializeToString())
    state = caffe_pb2.SolverState.FromString(whole)
    state.learned_net = "gone.caffemodel"
    Path("without.solverstate").write_bytes(state.SerializeToString())
    for name, words in (
        ("none.solverstate", "File not found: none.solverstate"),
        ("cut.solverstate", "cut.solverstate: expected a binary SolverState, got"),
        ("text.solverstate.h5", "not an HDF5 file"),
        ("long.solverstate", "Incorrect length of history blobs: expected 1, got 2"),
        ("without.solverstate", "File not found: gone.caffemodel"),
    ):
        with pytest.raises((caffe.CaffeError, CaffeFileError), match=re.escape(words)):
            solver.restore(name)


FACADE = {"__init__.py", "_caffe.py", "classifier.py", "detector.py"}  # what pycaffe's users import


def test_pycaffe_stands_on_top():
    """The engine and its command line import nothing of pycaffe's view of it."""
    seen = set()
    for path in Path(caffe.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            else:
                names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            if "caffe.pycaffe" in names:
                seen.add(path.name)
    assert {"_caffe.py"} <= seen <= FACADE  # the package itself loads its names when they are used
