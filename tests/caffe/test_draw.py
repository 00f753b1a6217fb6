"""caffe.draw: the graph that the original hands to pydot (golden/pycaffe), and the command."""

import json
import re
import shutil
from pathlib import Path

import pycaffe_cases
import pytest

import caffe.draw
from caffe_proto import caffe_pb2
from tests.needs import need

GOLDEN = json.loads((Path(__file__).resolve().parents[1] / "golden/pycaffe/texts.json").read_text())["draw"]
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def unquoted(graph):
    """pydot adds quotes where Graphviz needs them; the golden file has what pydot was given."""
    nodes, edges = graph
    strip = lambda text: text.strip('"')  # noqa: E731
    return (
        sorted(([strip(name), {k: strip(v) for k, v in style.items()}] for name, style in nodes), key=str),
        sorted([[strip(part) for part in edge] for edge in edges], key=str),
    )


@pytest.mark.parametrize("name", pycaffe_cases.DRAWINGS)
def test_graph_is_the_originals(name):
    pytest.importorskip("pydot", reason="NOT COMPARED with the original's drawing: pydot is not installed")
    assert unquoted(pycaffe_cases.drawn(pycaffe_cases.DRAWINGS[name])) == unquoted(GOLDEN[name])


@pytest.mark.parametrize(
    "settings, shown",
    [
        ({"kernel_h": 1, "kernel_w": 3, "pad_w": 1}, "kernel size: 1x3 stride: 1 pad: 0x1"),
        ({"kernel_size": [5, 4], "stride": [2, 2]}, "kernel size: 5x4 stride: 2 pad: 0"),
    ],
)
def test_labels_show_both_axes_where_they_differ(settings, shown):
    """The original shows the first number, or a default, for all of them."""
    layer = caffe_pb2.LayerParameter(name="c", type="Convolution", convolution_param=settings)
    assert caffe.draw.get_layer_label(layer, "TB") == f'"c (Convolution) {shown}"'


def test_global_pooling_label():
    layer = caffe_pb2.LayerParameter(name="p", type="Pooling", pooling_param={"global_pooling": True})
    assert caffe.draw.get_layer_label(layer, "LR") == '"p\\n(Pooling MAX)\\nkernel size: all\\nstride: 1\\npad: 0"'


NASTY = [
    'a" [URL="javascript:alert(1)"]; "b',
    '" [URL="x"]; "',
    "ends in \\\\",
    'b\\" [URL=x]',
    '"',
    "a:b",
    "<b>x</b>",
    "ä -> b",
]


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("place", ["net", "layer", "type", "bottom", "top", "in place"])
def test_no_name_leaves_its_quotes(name, place, tmp_path):
    """By Graphviz' grammar: a quoted text ends at a quote that no backslash escapes."""
    pytest.importorskip("pydot", reason="drawing NOT TESTED: pydot is not installed")
    net = caffe_pb2.NetParameter(name="n")
    layer = net.layer.add(name="l", type="Split", bottom=["x"], top=["y"])
    if place == "net":
        net.name = name
    if place == "layer":
        layer.name = name
    if place == "type":
        layer.type = name
    if place in ("bottom", "in place"):
        layer.bottom[0] = name
    if place in ("top", "in place"):
        layer.top[0] = name
    caffe.draw.draw_net_to_file(net, str(tmp_path / "net.dot"))
    text = (tmp_path / "net.dot").read_text()
    quoted = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
    assert '"' not in quoted.sub("", text) and not re.search(r"URL|javascript|<|ä", quoted.sub("", text)), text
    assert any(name in re.sub(r"\\(.)", r"\1", inside) for inside in quoted.findall(text)), text


@pytest.fixture
def net_file(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(pycaffe_cases.DRAWN)
    return path


def test_command_writes_graphviz_text(net_file, tmp_path):
    pytest.importorskip("pydot", reason="drawing NOT TESTED: pydot is not installed")
    out = tmp_path / "net.dot"
    assert caffe.draw.main([str(net_file), str(out), "--rankdir", "TB", "--phase", "TEST"]) == 0
    text = out.read_text()
    assert "t (HDF5Data)" in text and "d (Data)" not in text and "rankdir=TB" in text


def test_command_writes_a_picture(net_file, tmp_path):
    need("graphviz", shutil.which("dot"), "pictures NOT TESTED: Graphviz is not installed")
    out = tmp_path / "net.png"
    assert caffe.draw.main([str(net_file), str(out)]) == 0
    assert out.read_bytes().startswith(PNG_SIGNATURE)


def test_command_without_graphviz_says_so_and_leaves_nothing(net_file, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pydot", reason="drawing NOT TESTED: pydot is not installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "net.png"
    assert caffe.draw.main([str(net_file), str(out)]) == 1
    assert "expected Graphviz's program dot" in capsys.readouterr().err
    assert not out.exists()


def test_command_with_a_broken_net(tmp_path, capsys):
    path = tmp_path / "net.prototxt"
    path.write_text("layer { nme: 'x' }")
    assert caffe.draw.main([str(path), str(tmp_path / "net.dot")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert caffe.draw.main([str(path), str(tmp_path / "net")]) == 1
