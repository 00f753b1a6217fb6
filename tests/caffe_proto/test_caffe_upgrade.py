"""Legacy nets and solvers against what the original Caffe makes of them (golden/upgrade, with its recipe)."""

import json
import warnings
from pathlib import Path

import pytest
from google.protobuf import text_format

from caffe_proto import CaffeFileError, caffe_pb2, read_net, read_solver
from caffe_proto.files import read_binary_net
from caffe_proto.upgrade import upgrade_net

HERE = Path(__file__).resolve().parents[1]
GOLDEN = json.loads((HERE / "golden/upgrade/upgraded.json").read_text())
MESSAGE_START = 80  # Caffe's long messages go on with advice that ours word differently


def write(folder, text):
    path = folder / "in.prototxt"
    path.write_text(text)
    return path


@pytest.mark.filterwarnings("ignore:.*Unknown parameter")
@pytest.mark.parametrize("kind", ["net", "solver"])
def test_every_legacy_form_becomes_what_caffe_makes_of_it(kind, tmp_path):
    reader, message = {
        "net": (read_net, caffe_pb2.NetParameter),
        "solver": (read_solver, caffe_pb2.SolverParameter),
    }[kind]
    assert len(GOLDEN[kind]) > 5
    for name, case in GOLDEN[kind].items():
        path = write(tmp_path, case["input"])
        if "error" in case:
            with pytest.raises(CaffeFileError) as caught:
                reader(path)
            assert case["error"][:MESSAGE_START] in str(caught.value), name
            assert str(caught.value).startswith(str(path)), name
            continue
        wanted = text_format.Parse(case["output"], message())
        if kind == "solver":  # the tool leaves the prefix alone; Caffe fills it in when it reads a solver
            wanted.snapshot_prefix = str(tmp_path / "in")
        assert str(reader(path)) == str(wanted), name


@pytest.mark.parametrize("case", GOLDEN["snapshot"])
def test_snapshot_prefix_follows_the_solver_file(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("conf.d", "folder"):
        Path(folder).mkdir()
    path = Path("conf.d/my.solver.prototxt")
    path.write_text(f'net: "n" {GOLDEN["snapshot"][case]["input"]}')
    (made,) = GOLDEN["snapshot"][case]["made"]
    assert f"{read_solver(path).snapshot_prefix}_iter_0.solverstate" == made


def test_nets_inside_a_solver_are_upgraded_too(tmp_path):
    """The original ignores legacy layers there and aborts on the empty net; nobody can rely on that."""
    path = write(
        tmp_path,
        'net_param { layers { type: RELU } } test_net_param { input: "a" input_shape { dim: 2 } } '
        "test_net_param { layers { layer { type: 'relu' } } }",
    )
    solver = read_solver(path)
    assert [layer.type for layer in solver.net_param.layer] == ["ReLU"]
    assert [layer.type for net in solver.test_net_param for layer in net.layer] == ["Input", "ReLU"]


@pytest.mark.parametrize(
    "text, found",
    [
        ('input: "a" input: "b" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4', r"of 2 input \(8\), got 4"),
        ('input: "a" input: "b" input_shape { dim: 2 }', "expected an input_shape for each of 2 input, got 1"),
        ("layers { layer { type: 'relu' } } layers { name: 'v1' type: RELU }", "layer 'v1': expected V0 .*, got V1"),
    ],
)
def test_what_caffe_would_read_from_foreign_memory_or_lose_is_an_error(text, found, tmp_path):
    with pytest.raises(CaffeFileError, match=found):
        read_net(write(tmp_path, text))


def test_a_field_that_its_v0_layer_lacks_is_dropped_with_a_warning(tmp_path):
    path = write(tmp_path, "layers { layer { name: 'a' type: 'conv' num_output: 2 dropout_ratio: 0.5 new_num: 3 } }")
    with pytest.warns(UserWarning, match="layer 'a': Unknown parameter dropout_ratio for layer type conv") as caught:
        net = read_net(path)
    assert len(caught) == 1
    assert net.layer[0].convolution_param.num_output == 2 and not net.layer[0].HasField("dropout_param")


def test_an_upgraded_net_is_left_alone(tmp_path):
    for case in GOLDEN["net"].values():
        if "output" in case:
            net = text_format.Parse(case["output"], caffe_pb2.NetParameter())
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                upgrade_net(net, "golden")
            assert str(net) == str(text_format.Parse(case["output"], caffe_pb2.NetParameter()))


def test_binary_weights_of_old_are_upgraded(tmp_path):
    path = tmp_path / "old.caffemodel"
    case = GOLDEN["net"]["v1_fields_of_data"]
    path.write_bytes(text_format.Parse(case["input"], caffe_pb2.NetParameter()).SerializeToString())
    assert str(read_binary_net(path)) == str(text_format.Parse(case["output"], caffe_pb2.NetParameter()))


@pytest.mark.bvlc
def test_the_golden_file_is_what_the_original_makes_today(bvlc, tmp_path):
    made = tmp_path / "upgraded.json"
    bvlc("python3", HERE / "golden/upgrade/recipe.py", made)
    assert json.loads(made.read_text()) == GOLDEN
