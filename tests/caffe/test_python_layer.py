"""Layers that users write in Python: their life cycle, parameters, errors (docs/engine.md section 6.5)."""

import importlib
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

import caffe
from caffe import cli, context
from caffe.context import Settings

LAYERS = '''
import numpy as np
import caffe

calls = []

class Scale(caffe.Layer):
    """y = w x, with a learned w."""
    def setup(self, bottom, top):
        calls.append(("setup", self.param_str, self.phase, len(bottom), len(top)))
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = float(self.param_str)
    def reshape(self, bottom, top):
        calls.append("reshape")
        top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top):
        top[0].data[...] = self.blobs[0].data * bottom[0].data
    def backward(self, top, propagate_down, bottom):
        calls.append(("backward", propagate_down))
        self.blobs[0].diff[...] += np.sum(top[0].diff * bottom[0].data)
        if propagate_down[0]:
            bottom[0].diff[...] = self.blobs[0].data * top[0].diff

class HalfSquares(caffe.Layer):
    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise Exception("Need two inputs.")
    def reshape(self, bottom, top):
        self.diff = np.zeros(bottom[0].data.shape, np.float32)
        top[0].reshape(1)
    def forward(self, bottom, top):
        self.diff[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.diff ** 2) / bottom[0].num / 2.
    def backward(self, top, propagate_down, bottom):
        for i, sign in ((0, 1), (1, -1)):
            if propagate_down[i]:
                bottom[i].diff[...] = sign * self.diff * top[0].diff[0] / bottom[i].num

class Source(caffe.Layer):
    def setup(self, bottom, top):
        self.count = 0
    def reshape(self, bottom, top):
        top[0].reshape(4, 2)
        top[1].reshape(4, 2)
    def forward(self, bottom, top):
        self.count += 1
        top[0].data[...] = np.arange(8).reshape(4, 2) + self.count
        top[1].data[...] = 1
    def backward(self, top, propagate_down, bottom):
        pass

class Faulty(caffe.Layer):
    def setup(self, bottom, top):
        pass
    def reshape(self, bottom, top):
        pass
    def forward(self, bottom, top):
        raise ZeroDivisionError("on purpose")
    def backward(self, top, propagate_down, bottom):
        pass

class NoLayer:
    pass
'''
NET = """name: "python"
layer {{ name: "source" type: "Python" top: "x" top: "y" python_param {{ module: "{module}" layer: "Source" }} }}
layer {{ name: "scale" type: "Python" bottom: "x" top: "s" python_param {{ module: "{module}" layer: "Scale"
  param_str: "0.5" }} param {{ lr_mult: 2 }} }}
layer {{ name: "loss" type: "Python" bottom: "s" bottom: "y" top: "loss" loss_weight: 3
  python_param {{ module: "{module}" layer: "HalfSquares" }} }}
"""


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """The name of a fresh module that holds LAYERS."""
    name = "layers_of_" + request.node.name.split("[")[0]
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(LAYERS))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(context, "_settings", Settings(python_layers=True))
    yield name
    sys.modules.pop(name, None)


ONE = 'layer {{ name: "p" type: "Python" top: "x" python_param {{ module: "{module}" layer: "Source" }} top: "y" }}'


def test_a_prototxt_runs_no_code_unless_it_is_allowed_to(module, tmp_path, monkeypatch):
    """Whoever made the prototxt may have written the module beside it."""
    (tmp_path / f"{module}.py").write_text(f"open('ran', 'w').close()\n{LAYERS}")
    monkeypatch.setattr(context, "_settings", Settings.from_environment({}))
    with pytest.raises(
        caffe.CaffeError, match=r"layer 'p' \(Python\): expected leave to run the code .*-python_layers=allow"
    ):
        make_net(ONE.format(module=module))
    assert not (tmp_path / "ran").exists() and module not in sys.modules
    assert Settings.from_environment({"CAFFE_PYTHON_LAYERS": "1"}).python_layers
    caffe.allow_python_layers()
    make_net(ONE.format(module=module))
    assert (tmp_path / "ran").exists()


def test_a_module_that_the_program_has_imported_needs_no_leave(module, monkeypatch):
    importlib.import_module(module)
    monkeypatch.setattr(context, "_settings", Settings.from_environment({}))
    found = make_net(ONE.format(module=module)).forward()
    np.testing.assert_array_equal(found["x"], np.arange(8).reshape(4, 2) + 1)


def test_leave_changes_no_other_setting(monkeypatch):
    before = Settings(tf32=True, hdf5_cache=7, progress="p")
    monkeypatch.setattr(context, "_settings", before)
    caffe.allow_python_layers()
    assert context._settings == replace(before, python_layers=True)


def make_net(text, phase=caffe.TRAIN):
    with open("net.prototxt", "w") as file:
        file.write(text)
    return caffe.Net("net.prototxt", phase)


def expected(w, turn):
    """(loss, d loss / d w) of the net in plain float64."""
    x, y = np.arange(8.0).reshape(4, 2) + turn, np.ones((4, 2))
    return 3 * ((w * x - y) ** 2).sum() / 8, 3 * ((w * x - y) * x).sum() / 4


def test_life_of_a_layer_and_its_gradients(module):
    net = make_net(NET.format(module=module))
    calls = sys.modules[module].calls
    assert calls == [("setup", "0.5", caffe.TRAIN, 1, 1), "reshape"]
    assert net.params["scale"][0].data.tolist() == [0.5]
    loss = net._forward(0, len(net.layers) - 1)
    net._backward(len(net.layers) - 1, 0)
    assert loss == pytest.approx(expected(0.5, 1)[0])
    assert net.params["scale"][0].diff[0] == pytest.approx(expected(0.5, 1)[1])
    assert calls[2:] == ["reshape", ("backward", [False])]
    assert type(calls[-1][1][0]) is bool
    assert net.layers[1].type == "Python" and "Python" in caffe.layer_type_list()


def test_parameters_are_learned_saved_and_shared(module):
    with open("solver.prototxt", "w") as file:
        file.write('net: "net.prototxt" base_lr: 0.001 lr_policy: "fixed" snapshot_prefix: "p" ')
    make_net(NET.format(module=module))
    solver = caffe.SGDSolver("solver.prototxt")
    w = 0.5
    for turn in (1, 2, 3):
        solver.step(1)
        w -= 0.001 * 2 * expected(w, turn)[1]
        assert solver.net.params["scale"][0].data[0] == pytest.approx(w, rel=1e-5)
    solver.snapshot()
    again = caffe.Net("net.prototxt", caffe.TEST, weights="p_iter_3.caffemodel")
    assert again.params["scale"][0].data[0] == solver.net.params["scale"][0].data[0]
    assert sys.modules[module].calls[-2][2] == caffe.TEST
    twice = make_net(
        NET.format(module=module).replace("lr_mult: 2", 'name: "w"')
        + f"""
        layer {{ name: "scale2" type: "Python" bottom: "y" top: "z" param {{ name: "w" }}
        python_param {{ module: "{module}" layer: "Scale" param_str: "9" }} }}"""
    )
    twice.params["scale2"][0].data[...] = 4
    assert twice.params["scale"][0].data[0] == 4


@pytest.mark.parametrize(
    "python_param, words",
    [
        ('module: "no_such_module_here" layer: "Scale"', "expected module 'no_such_module_here' on sys.path"),
        ('module: "no_such.module" layer: "Scale"', "expected module 'no_such.module' on sys.path"),
        ('module: "json.no_such" layer: "Scale"', "expected module 'json.no_such' on sys.path"),
        *(
            (f'module: "{name}" layer: "Scale"', "expected the name of a module on sys.path, got module '.*'")
            for name in ("", ".", "..", "..json", "json.", "json..tool", "a\\000b", "a\\nb")
        ),
        ('module: "{module}" layer: "Scales"', "expected a class 'Scales' in module"),
        ('module: "{module}" layer: "NoLayer"', "expected a class derived from caffe.Layer"),
    ],
)
def test_what_is_no_layer_is_refused(python_param, words, module):
    with pytest.raises(caffe.CaffeError, match=words):
        make_net(
            f'layer {{ name: "p" type: "Python" top: "x" python_param {{ '
            f"{python_param.replace('{module}', module)} }} }}"
        )


def test_the_log_says_what_is_imported_before_it_runs(module, tmp_path, capsys):
    (tmp_path / f"{module}.py").write_text("import sys; print('running', file=sys.stderr)\n" + LAYERS)
    net = f'layer {{ name: "p" type: "Python" top: "x" python_param {{ module: "{module}" layer: "NoLayer" }} }}'
    for ran in (True, False):
        with pytest.raises(caffe.CaffeError, match="expected a class derived from caffe.Layer"):
            make_net(net)
        lines = capsys.readouterr().err.splitlines()
        at = [k for k, line in enumerate(lines) if line.endswith(f"] importing {module} from {tmp_path}/{module}.py")]
        assert len(at) == 1 and lines[at[0] + 1 : at[0] + 2] == ["running"] * ran


def test_errors_of_the_user_keep_their_type(module):
    with pytest.raises(Exception, match="Need two inputs.") as caught:
        make_net(
            f'layer {{ name: "p" type: "Python" top: "x" python_param {{ module: "{module}" layer: "HalfSquares" }} }}'
        )
    assert type(caught.value) is Exception
    net = make_net(
        f'layer {{ name: "p" type: "Python" top: "x" python_param {{ module: "{module}" layer: "Faulty" }} }}'
    )
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        net.forward()


@pytest.mark.parametrize(
    "variable, flags, ran",
    [
        ("", [], False),
        ("", ["-python_layers=allow"], True),
        ("", ["-python_layers=refuse"], False),
        ("1", [], True),
        ("1", ["-python_layers=refuse"], False),
    ],
)
def test_a_command_takes_leave_from_its_flag_and_else_from_the_environment(
    module, tmp_path, monkeypatch, variable, flags, ran
):
    (tmp_path / f"{module}.py").write_text(f"open('ran', 'w').close()\n{LAYERS}")
    (tmp_path / "net.prototxt").write_text(ONE.format(module=module))
    monkeypatch.setenv("CAFFE_PYTHON_LAYERS", variable)
    status = cli.main(["time", "-model=net.prototxt", "-iterations=1", *flags])
    assert (tmp_path / "ran").exists() is ran and (status == cli.FATAL_STATUS) is not ran
