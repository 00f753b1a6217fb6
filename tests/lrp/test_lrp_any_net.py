"""`lrp` without sound: what it imports, and networks whose inputs are neither spectrograms nor waveforms."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_lrp_network import inputs, layer

from caffe_proto import caffe_pb2
from lrp import COMPOSITES, METHODS, Network, explain
from lrp.linear import read_inner_product

ROOT = Path(__file__).resolve().parents[2]
DOORS = {"__main__.py", "view.py"}  # to sound and pictures; opened when somebody walks through
MODULES = sorted(path for path in (ROOT / "lrp").rglob("*.py") if path.name not in DOORS)
ALLOWED = {"numpy", "caffe_proto", "lrp"}
OPTIONAL = {"threadpoolctl"}


def imported(tree):
    """(top-level package, whether its absence is caught) of every import that a module makes, also within functions."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Try)]
    caught = {id(one) for node in nodes for one in ast.walk(node)}
    hints = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    unseen = {id(one) for node in hints for one in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["lrp" if node.level else node.module]
        else:
            continue
        for name in names:
            yield name.split(".")[0], id(node) in caught


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_only_numpy_and_caffe_proto_are_imported(path):
    own = {"torch"} if path.name == "from_torch.py" else set()  # which Network.from_torch imports, nothing else
    for name, caught in imported(ast.parse(path.read_text(encoding="utf-8"))):
        known = name in own | ALLOWED | sys.stdlib_module_names
        assert known or name in OPTIONAL and caught, f"{path.name} imports {name}"


def test_no_package_of_the_study_or_engine_is_loaded():
    code = (
        "import sys, lrp, lrp.dft; lrp.read\n"
        "names = ('audiomnist', 'caffe', 'torch', 'scipy', 'matplotlib', 'tqdm', 'pandas', 'zennit')\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


CASES = {  # shape of one item: layers between `data` and `end`, and their weights
    "table": ((5,), layer("a", "InnerProduct", "data", "a", "inner_product_param { num_output: 16 }"), {"a": (16, 5)}),
    "series": (
        (3, 7),
        layer("a", "InnerProduct", "data", "a", "inner_product_param { num_output: 16 }"),
        {"a": (16, 21)},
    ),
    "image": (
        (3, 8, 9),
        layer("a", "Convolution", "data", "a", "convolution_param { num_output: 16 kernel_size: 3 }"),
        {"a": (16, 3, 3, 3)},
    ),
    "video": (
        (2, 3, 4, 5),
        layer("a", "InnerProduct", "data", "a", "inner_product_param { num_output: 16 }"),
        {"a": (16, 120)},
    ),
}


@pytest.mark.parametrize("how", [*COMPOSITES, *METHODS])
@pytest.mark.parametrize("case", CASES)
def test_inputs_of_any_shape(case, how, tmp_path):
    shape, middle, shapes = CASES[case]
    values = {"image": 16 * 6 * 7}.get(case, 16)
    text = (
        inputs(1, *shape)
        + middle
        + layer("r", "ReLU", "a", "a")
        + layer("score", "InnerProduct", "a", "score", "inner_product_param { num_output: 3 }")
    )
    (tmp_path / "net.prototxt").write_text(text)
    rng = np.random.default_rng(0)
    weights = {name: [rng.normal(size=one), np.zeros(one[0])] for name, one in {**shapes, "score": (3, values)}.items()}
    network, x = Network(str(tmp_path / "net.prototxt"), weights), rng.uniform(size=(2, *shape))
    found = explain(network, x, how, 1, np.float64)
    assert found.relevance.shape == x.shape and found.scores.shape == (2, 3) and found.relevance.any()
    if how in COMPOSITES and (not COMPOSITES[how].note or how == "excitation_backprop"):
        np.testing.assert_allclose(found.conserved, 1, rtol=1e-5)


def test_occlusion_of_a_table_by_hand(tmp_path):
    """A linear score: hiding value i takes w_i x_i from it (nothing is 0 here, as values have both signs)."""
    text = inputs(1, 4) + layer("score", "InnerProduct", "data", "score", "inner_product_param { num_output: 1 }")
    (tmp_path / "net.prototxt").write_text(text)
    weights = {"score": [np.array([[1.0, 2.0, 3.0, 4.0]]), np.zeros(1)]}
    network, x = Network(str(tmp_path / "net.prototxt"), weights), np.array([[1.0, -1.0, 0.5, 2.0]])
    found = explain(network, x, "occlusion", 0, np.float64)
    np.testing.assert_allclose(found.relevance, [[1, -2, 1.5, 8]], rtol=1e-12)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("axes", [(), (1,), (1, 1), (1, 1, 1)])
def test_weights_of_old_files_have_leading_axes_of_one(axes, transpose):
    """As files of before 2014 have them: num and channels of 1."""
    param = caffe_pb2.LayerParameter(name="ip", type="InnerProduct")
    param.inner_product_param.num_output, param.inner_product_param.transpose = 2, transpose
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    stored = (weight.T if transpose else weight).reshape(*axes, *(weight.T if transpose else weight).shape)
    read = read_inner_product(param, [stored, np.array([10, 20], np.float32)], "ip")
    assert read.weights.tolist() == [[0, 1, 2], [3, 4, 5]] and read.bias.tolist() == [10, 20]
