"""Exports against the original Caffe's numbers, and against the runtimes that read them."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import classic_nets
import numpy as np
import pytest
import torch
from google.protobuf import text_format

import caffe
from caffe import cli
from caffe.errors import CaffeError
from caffe.export import export_net, formats, layer_types, proof, source
from caffe.layer import LAYERS
from caffe_proto import read_net
from lrp.layer import READERS
from lrp.structure import DATA_TYPES  # importing it fills READERS
from tests.parity import values
from tests.parity.cases import cases_of
from tests.parity.compare import relative_error
from tests.parity.golden import FOLDER, unpack

ROOT = Path(__file__).resolve().parents[2]
assert layer_types  # it fills WRITERS
EXPORTED = sorted(set(source.WRITERS) - {"Split"})
NO_FORM = sorted(set(LAYERS) - set(source.WRITERS) - {"Input"})
TRAIN_DIFFERS = ("BatchNorm", "Dropout", "Pooling/STOCHASTIC")  # what phase TRAIN computes is not what TEST does


def small_net(text, folder, weights=True):
    """The net of a prototxt in phase TEST, with normally distributed weights."""
    path = folder / "net.prototxt"
    path.write_text(text)
    net = caffe.Net(str(path), caffe.TEST)
    rng = np.random.default_rng(1)
    for blobs in net.params.values() if weights else ():
        for blob in blobs:
            blob.data[...] = rng.normal(size=blob.data.shape)
    return net


def case_net(case, folder):
    """The net of a parity case, as it is in testing, with the case's weights."""
    net = small_net(case._replace(down=None, phase=1).net(str(folder)), folder, weights=False)
    for i, blob in enumerate(net.params.get("layer", [])):
        kind = case.params[i] if case.params else "normal:0.5"
        if kind != "as filled":
            blob.data[...] = values.make(kind, blob.data.shape, case.key, "param", i)
    return net


def load(path):
    """The module of an exported .py file, with its weights."""
    spec = importlib.util.spec_from_file_location("exported", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()


def outputs(module, inputs):
    """What a module makes of arrays, as a list of arrays."""
    with torch.no_grad():
        found = module(*map(torch.from_numpy, inputs))
    return [one.detach().numpy() for one in (found if isinstance(found, tuple) else (found,))]


def is_exact(case):
    """Whether the original's numbers for the case are those of the layer in testing, in one pass."""
    return case.phase == 1 or not case.key.startswith(TRAIN_DIFFERS)


@pytest.mark.parametrize("type", [t for t in EXPORTED if (FOLDER / f"{t}.npz").exists()])
def test_modules_give_the_original_s_numbers(type, tmp_path):
    """The text of a module, read by Python alone, on the inputs whose results the original wrote down."""
    wanted, tried = unpack(FOLDER / f"{type}.npz"), 0
    for case in cases_of("golden", [type]):
        names = [f"{case.name}/data/{name}" for name in sorted(case.top_names)]
        if names[0] not in wanted or case.forwards > 1 or not is_exact(case):
            continue
        if case.key == "Im2col/three spatial axes":
            with pytest.raises(CaffeError, match="3 spatial axes, of which torch unfolds two"):
                export_net(case_net(case, tmp_path), tmp_path / "x.py")
            continue
        export_net(case_net(case, tmp_path), tmp_path / "x.py")
        inputs = [values.make(kind, shape, case.key, "input", i, 0) for i, (shape, kind) in enumerate(case.inputs)]
        found = outputs(load(tmp_path / "x.py"), [array.astype(np.float32) for array in inputs])
        for name, array in zip(names, found, strict=True):
            assert array.shape == wanted[name].shape and relative_error(array, wanted[name]) <= 2e-5, (case.key, name)
        tried += 1
    assert tried or type == "Dropout"


# Where exporters and runtimes are known to disagree with Caffe: windows at borders that are rounded up, that lie in the
# padding, averages that count it; neighbourhoods; groups and dilation; axes; stored statistics; layers in place.
TRAPS = (
    "Pooling/MAX 2/2 pad 1 of 6x5", "Pooling/AVE 2/2 pad 1 of 6x5", "Pooling/AVE 3/2 of 6x5",
    "Pooling/AVE 3/1 pad 2 of 6x5",
    "Pooling/MAX 3/2 pad 2 of 6x5", "Pooling/window beyond the image", "Pooling/mask 3/2 pad 1",
    "LRN/ACROSS_CHANNELS window wider than the blob", "LRN/WITHIN_CHANNEL of AlexNet", "Deconvolution/groups",
    "Deconvolution/dilation per axis, batch 1, group 1", "InnerProduct/axis 2", "InnerProduct/transpose",
    "BatchNorm/image, in place, TEST", "ReLU/plain in place",
)  # fmt: skip


def chosen():
    """Two cases of each type, the first and one in the middle, and those of TRAPS."""
    by_type = [cases_of("golden", [type]) for type in EXPORTED]
    return [
        case for cases in by_type for case in cases if case in (cases[0], cases[len(cases) // 2]) or case.key in TRAPS
    ]


@pytest.mark.slow
@pytest.mark.parametrize("case", chosen(), ids=lambda case: case.key)
def test_programs_and_onnx_give_the_engine_s_numbers(case, tmp_path):
    """Files as they lie on disk, on other inputs than those that the export compared."""
    onnxruntime = pytest.importorskip("onnxruntime")
    net = case_net(case, tmp_path)
    inputs = [values.make(kind, shape, case.key, "input", i, 0) for i, (shape, kind) in enumerate(case.inputs)]
    inputs = [array.astype(np.float32) for array in inputs]
    for ending in (".pt2", ".onnx"):  # twice: exporting leaves the states of a net as they are
        export_net(net, tmp_path / f"x{ending}")
    program = torch.export.load(tmp_path / "x.pt2").module()
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    net = case_net(case, tmp_path)  # with the states of before the first pass
    for i, array in enumerate(inputs):
        net.blobs[f"in{i}"].data[...] = array
    net.forward()
    wanted = [np.array(net.blobs[name].data) for name in net.outputs]
    for found in (outputs(program, inputs), session.run(None, dict(zip(names, inputs, strict=True)))):
        assert [one.shape for one in found] == [one.shape for one in wanted]
        for ours, theirs in zip(wanted, found, strict=True):
            assert relative_error(theirs, ours) <= 2e-5
    assert [one.name for one in session.get_outputs()] == [n + "_out" * (n in names) for n in net.outputs]


def test_traps_are_cases_that_exist():
    keys = [case.key for case in cases_of("golden")]
    assert set(TRAPS) <= set(keys)


@pytest.mark.slow
@pytest.mark.parametrize("name", classic_nets.NETS)
def test_classic_nets_are_exported(name, tmp_path):
    """Whole nets without their losses: the export itself compares every blob, and the file's outputs."""
    pytest.importorskip("onnxruntime")
    (tmp_path / "whole.prototxt").write_text(str(classic_nets.NETS[name]()))
    param = read_net(tmp_path / "whole.prototxt")
    kept = [layer for layer in param.layer if not layer.type.endswith("Loss") and layer.type not in NO_FORM]
    del param.layer[:]
    param.layer.extend(kept)
    net = small_net(text_format.MessageToString(param), tmp_path, weights=False)
    rng = np.random.default_rng(2)
    for blob in (blob for blobs in net.params.values() for blob in blobs):
        shape = blob.data.shape  # activations of about one size from layer to layer
        fans = blob.data[0].size if len(shape) > 1 else 0
        blob.data[...] = rng.normal(0, fans**-0.5, shape) if fans else rng.uniform(0.5, 1.5, shape)
    for ending in (".py", ".onnx"):
        assert 0 < export_net(net, tmp_path / f"x{ending}") < 5e-6
    assert {path.suffix for path in tmp_path.glob("x.*")} == {".py", ".pt", ".onnx"}


# --- what a net becomes ----------------------------------------------------------------------------------------------

TWO = """
layer { name: "data" type: "Input" top: "1 in" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "train" type: "InnerProduct" bottom: "1 in" top: "class"
        param { name: "w" } inner_product_param { num_output: 3 bias_term: false } }
layer { name: "relu" type: "ReLU" bottom: "class" top: "class" }
layer { name: "drop" type: "Dropout" bottom: "class" top: "class" }
layer { name: "conv1/3x3" type: "InnerProduct" bottom: "class" top: "self"
        param { name: "w" } inner_product_param { num_output: 3 bias_term: false } }
layer { name: "sum" type: "Eltwise" bottom: "class" bottom: "self" top: "torch"
        eltwise_param { coeff: 0.5 coeff: -1 } }
layer { name: "forward" type: "Softmax" bottom: "torch" top: "prob" }
layer { name: "ü" type: "Power" bottom: "self" top: "ü" power_param { power: 2 } }
"""


def test_any_names_become_names_of_python(tmp_path):
    net = small_net(TWO, tmp_path)
    export_net(net, tmp_path / "two nets.py")
    module = load(tmp_path / "two nets.py")
    x = np.random.default_rng(3).normal(size=(2, 3)).astype(np.float32)
    w = net.params["train"][0].data
    first = np.maximum(x @ w.T, 0)
    second = first @ w.T
    scores = np.exp(0.5 * first - second)
    prob, square = outputs(module, [x])
    np.testing.assert_allclose(prob, scores / scores.sum(1, keepdims=True), rtol=1e-4)
    np.testing.assert_allclose(square, second**2, rtol=1e-5)
    assert sorted(module.state_dict()) == ["conv1_3x3.weight", "train_1.weight"]
    assert type(module).__name__ == "Net"


HIDING = """
layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 5 dim: 5 } } }
layer { name: "a" type: "Pooling" bottom: "x" top: "float" pooling_param { kernel_size: 3 pad: 1 stride: 2 } }
layer { name: "b" type: "Pooling" bottom: "float" top: "largest" pooling_param { kernel_size: 3 pad: 1 stride: 2 } }
layer { name: "c" type: "ArgMax" bottom: "largest" top: "y" argmax_param { axis: 1 } }
"""


def test_a_blob_hides_no_function_that_the_module_calls(tmp_path):
    net = small_net(HIDING, tmp_path)
    assert export_net(net, tmp_path / "hiding.py") == 0
    x = np.full((1, 2, 5, 5), [[[[2]], [[1]]]], np.float32)
    (y,) = outputs(load(tmp_path / "hiding.py"), [x])
    np.testing.assert_array_equal(y, np.zeros((1, 1, 2, 2)))


def test_an_exported_module_needs_torch_alone(tmp_path):
    net = small_net(
        'name: "lstm" layer { name: "data" type: "Input" top: "x" top: "cont"'
        " input_param { shape { dim: 3 dim: 2 dim: 4 } shape { dim: 3 dim: 2 } } }"
        ' layer { name: "layer" type: "LSTM" bottom: "x" bottom: "cont" top: "h"'
        " recurrent_param { num_output: 3 } }", tmp_path,
    )  # fmt: skip
    export_net(net, tmp_path / "lstm.py", 'a "net"\\')
    program = (
        "import sys, importlib.util; spec = importlib.util.spec_from_file_location('lstm', 'lstm.py');"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module); import torch;"
        "print(module.load()(torch.ones(3, 2, 4), torch.tensor([[0., 0], [1, 1], [1, 0]])).flatten().tolist());"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('caffe', 'caffe_proto', 'audiomnist')]"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    net.blobs["x"].data[...] = 1
    net.blobs["cont"].data[...] = [[0, 0], [1, 1], [1, 0]]
    net.forward()
    np.testing.assert_allclose(eval(done.stdout), net.blobs["h"].data.ravel(), rtol=1e-5, atol=1e-7)
    assert (tmp_path / "lstm.py").read_text().startswith('"""a \'net\'/, written by caffe export ')


# --- refusals --------------------------------------------------------------------------------------------------------

RELU = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 5 } }
layer { name: "relu" type: "ReLU" bottom: "ip" top: "relu" }
layer { name: "prob" type: "Softmax" bottom: "relu" top: "prob" }
"""


def test_a_layer_that_is_written_wrongly_is_found_by_its_first_blob(tmp_path, monkeypatch):
    monkeypatch.setitem(source.WRITERS, "ReLU", lambda d: d.assign(f"{d.x[0]}.abs()"))
    for ending in (".py", ".pt2"):
        with pytest.raises(CaffeError, match=r"x\.\w+: blob 'relu': expected the engine's values within 1e-05"):
            export_net(small_net(RELU, tmp_path), tmp_path / f"x{ending}")
    assert [path.name for path in tmp_path.iterdir()] == ["net.prototxt"]


def test_a_file_that_computes_something_else_is_refused(tmp_path, monkeypatch):
    """The text is right and the file made of it is not: an exporter or a runtime at fault."""
    right = formats.as_text

    def wrong(made):
        files, run = right(made)
        return files, lambda inputs: [1.0001 * one for one in run(inputs)]

    monkeypatch.setitem(formats.FORMATS, ".py", wrong)
    with pytest.raises(CaffeError, match="blob 'prob': expected the engine's values .*, got a difference of 0.0001"):
        export_net(small_net(RELU, tmp_path), tmp_path / "x.py")


@pytest.mark.parametrize(
    "found, wanted, gap",
    [
        ([1, 2.0], [1, 2.5], 0.2),
        ([0, 0], [0, 0], 0),
        ([0, 1e-3], [0, 0], 1e-3),
        ([1, np.nan], [1, np.nan], 0),
        ([1, np.nan], [1, np.inf], np.inf),
        ([1, np.inf], [1, np.inf], 0),
        ([1, 2], [1, np.nan], np.inf),
        ([[1, 2]], [1, 2], np.inf),
        ([np.nan], [np.nan], 0),
    ],
)
def test_differences_are_shares_of_the_largest_value(found, wanted, gap):
    assert proof.difference(np.array(found), np.array(wanted)) == pytest.approx(gap)


def test_inputs_are_drawn_where_layers_can_use_them(tmp_path):
    text = """
    layer { name: "data" type: "Input" top: "rows" top: "x"
            input_param { shape { dim: 50 dim: 2 } shape { dim: 2 dim: 50 } } }
    layer { name: "embed" type: "Embed" bottom: "rows" top: "embed" embed_param { num_output: 3 input_dim: 7 } }
    """
    made = source.write_source(small_net(text, tmp_path), "")
    inputs = proof.draw_inputs(made)
    assert set(inputs["rows"].ravel()) == set(range(7)) and inputs["rows"].shape == (50, 2)
    assert -0.5 < inputs["x"].mean() < 0.5 and 0.7 < inputs["x"].std() < 1.3 and len(np.unique(inputs["x"])) > 90


def test_types_that_are_not_exported_are_those_of_data_losses_and_other_code():
    losses = {name for name in LAYERS if name.endswith("Loss")}
    data = {"Data", "DummyData", "HDF5Data", "HDF5Output", "ImageData", "MemoryData", "WindowData"}
    assert set(NO_FORM) == losses | data | {"SoftmaxWithLoss", "Accuracy", "Python"}


def test_the_document_has_every_type_and_what_can_be_done_with_it():
    text = (ROOT / "docs" / "engine.md").read_text()
    rows = [row.split("|")[1:-1] for row in text[text.index("## 9. Export") :].splitlines() if row.startswith("| `")]
    rows = rows[: next(i for i, row in enumerate(rows) if "Python" in row[0]) + 1]
    types = [name for names, _, _ in rows for name in names.strip().strip("`").split()]
    assert sorted(types) == sorted(LAYERS)
    exported = [name for names, can, _ in rows if can.strip() == "yes" for name in names.strip().strip("`").split()]
    assert sorted(exported) == sorted({*source.WRITERS, "Input"})
    explained = [name for names, _, can in rows if can.strip() != "no" for name in names.strip().strip("`").split()]
    assert sorted(explained) == sorted({*READERS, *DATA_TYPES})


def test_a_loss_is_named(tmp_path):
    text = RELU + 'layer { name: "loss" type: "EuclideanLoss" bottom: "prob" bottom: "data" top: "loss" }'
    text = text.replace("num_output: 5", "num_output: 3")
    with pytest.raises(CaffeError, match=r"layer 'loss' \(EuclideanLoss\): expected a layer that can be exported, got"):
        export_net(small_net(text, tmp_path), tmp_path / "x.py")


# --- the command -----------------------------------------------------------------------------------------------------


def export(capfd, *flags):
    """(exit status, what was logged) of `caffe export`."""
    status = cli.main(["export", *map(str, flags)])
    return status, capfd.readouterr().err


def test_the_command(tmp_path, capfd):
    net = small_net(RELU, tmp_path)
    net.save(str(tmp_path / "x.caffemodel"))
    model, weights = f"-model={tmp_path / 'net.prototxt'}", f"-weights={tmp_path / 'x.caffemodel'}"
    status, said = export(capfd, model, weights, f"-output={tmp_path / 'x.py'}")
    assert status == 0 and f"Exported to {tmp_path / 'x.py'}: outputs within " in said
    assert {path.name for path in tmp_path.iterdir()} == {"net.prototxt", "x.caffemodel", "x.py", "x.pt"}
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    net.blobs["data"].data[...] = x
    np.testing.assert_allclose(outputs(load(tmp_path / "x.py"), [x])[0], net.forward()["prob"], rtol=1e-5)
    assert (tmp_path / "x.py").read_text().startswith('"""net.prototxt with x.caffemodel, written by caffe export')

    for flags, words in (
        ([weights, "-output=x.py"], "Need a model definition to export."),
        ([model, "-output=x.py"], "Need model weights to export."),
        ([model, weights], "Need an output file to export to."),
        ([model, weights, "-output=x.tf"], "-output x.tf: expected a file that ends in .onnx, .pt2, .py, got .tf"),
        ([model, weights, "-output=x"], "-output x: expected a file that ends in .onnx, .pt2, .py, got none"),
        ([model, weights, f"-output={tmp_path / 'no' / 'x.py'}"], "No such file or directory"),
    ):
        status, said = export(capfd, *flags)
        assert status == 134 and words in said and "Traceback" not in said, said


def test_onnx_without_its_packages_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(
        CaffeError, match=r"expected the packages onnxscript and onnxruntime \(pip install .*\), got no"
    ):
        export_net(small_net(RELU, tmp_path), tmp_path / "x.onnx")
