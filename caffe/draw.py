"""Pictures of networks: layers as boxes, blobs as octagons, drawn by Graphviz.

    python -m caffe.draw NET.prototxt OUT.png [--rankdir LR] [--phase TRAIN] [--display-lrm]

The format is that of OUT's extension (png, svg, pdf, ...; `dot` for Graphviz's own text, which needs no Graphviz).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffe_proto import CaffeFileError, caffe_pb2, filter_net, net_state, read_net, sentence, write_file
from caffe_proto.windows import given_window

if TYPE_CHECKING:
    import pydot

LAYER_STYLE_DEFAULT = {"shape": "record", "fillcolor": "#6495ED", "style": "filled"}
NEURON_LAYER_STYLE = {"shape": "record", "fillcolor": "#90EE90", "style": "filled"}
BLOB_STYLE = {"shape": "octagon", "fillcolor": "#E0E0E0", "style": "filled"}
LAYER_COLORS = {
    "Convolution": "#FF5050",
    "Deconvolution": "#FF5050",
    "Pooling": "#FF9900",
    "InnerProduct": "#CC33FF",
}
RANKDIRS = ("LR", "RL", "TB", "BT")
EMPTY_LABEL = '""'
_ESCAPED = str.maketrans({'"': '\\"', "\\": "\\\\"})  # what would end a quoted text, or begin something special
LEARNED_LAYERS = ("Convolution", "Deconvolution", "InnerProduct")  # those whose lr_mult `display_lrm` shows


def get_pooling_types_dict() -> dict[int, str]:
    """{value: name} of the pooling methods."""
    return {value: name for name, value in caffe_pb2.PoolingParameter.PoolMethod.items()}


def choose_color_by_layertype(layertype: str) -> str:
    """Fill colour of a layer of this type."""
    return LAYER_COLORS.get(layertype, LAYER_STYLE_DEFAULT["fillcolor"])


def get_edge_label(layer: caffe_pb2.LayerParameter) -> str:
    """Label of the edges from a layer to its tops: batch size or number of outputs, where it has them."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return str(layer.inner_product_param.num_output)
    return EMPTY_LABEL


def get_layer_lr_mult(layer: caffe_pb2.LayerParameter) -> tuple[float, float]:
    """(weight, bias) learning rate multipliers of a layer."""
    mults = [spec.lr_mult for spec in layer.param[:2]]
    return tuple(mults + [1.0] * (2 - len(mults)))


def get_layer_label(layer: caffe_pb2.LayerParameter, rankdir: str, display_lrm: bool = False) -> str:
    """Label of a layer's box, in quotes: name, type, geometry; on one line for vertical graphs, else on several.

    layer: LayerParameter. display_lrm: add the learning rate multipliers of convolutions and inner products.
    """
    kind = layer.type
    parts = [layer.name.translate(_ESCAPED)]
    if kind == "Pooling":
        pool = layer.pooling_param
        parts.append(f"(Pooling {get_pooling_types_dict()[pool.pool]})")
    else:
        parts.append(f"({kind.translate(_ESCAPED)})")
    if kind in ("Convolution", "Deconvolution", "Pooling"):
        param = layer.pooling_param if kind == "Pooling" else layer.convolution_param
        parts.append(f"kernel size: {_extent(param, 'kernel_size', 1)}")
        parts.append(f"stride: {_extent(param, 'stride', 1)}")
        parts.append(f"pad: {_extent(param, 'pad', 0)}")
    if display_lrm and kind in LEARNED_LAYERS:
        weight, bias = get_layer_lr_mult(layer)
        parts.append(f"lr mult: {weight}, {bias}")
    return '"' + (" " if rankdir in ("TB", "BT") else "\\n").join(parts) + '"'


def _quoted(name):
    """A name as Graphviz reads it: in quotes, so that none of it is taken for anything but text."""
    return f'"{name.translate(_ESCAPED)}"'


def _extent(param, field, default):
    """One number, or numbers joined by x where the axes differ, from the h/w or the common form of a window setting."""
    sizes = given_window(param, field) or [default]
    if field == "kernel_size" and sizes == [default] and getattr(param, "global_pooling", False):
        return "all"
    return str(sizes[0]) if len(set(sizes)) == 1 else "x".join(map(str, sizes))


def get_pydot_graph(
    caffe_net: caffe_pb2.NetParameter,
    rankdir: str,
    label_edges: bool = True,
    phase: int | None = None,
    display_lrm: bool = False,
) -> pydot.Dot:
    """The pydot.Dot graph of a NetParameter.

    rankdir: direction of the graph, one of LR, RL, TB, BT. phase: TRAIN or TEST draws the layers of a net in that
    phase (with the file's own level and stages); None draws all.
    Raises ImportError without pydot.
    """
    pydot = _pydot()
    graph = pydot.Dot(_quoted(caffe_net.name or "Net"), graph_type="digraph", rankdir=rankdir)
    nodes, edges = {}, []
    if phase is not None:
        caffe_net = filter_net(net_state(caffe_net, phase, caffe_net.state.level))
    for layer in caffe_net.layer:
        in_place = len(layer.bottom) == 1 and list(layer.bottom) == list(layer.top)
        style = (
            NEURON_LAYER_STYLE
            if in_place
            else {**LAYER_STYLE_DEFAULT, "fillcolor": choose_color_by_layertype(layer.type)}
        )
        label = get_layer_label(layer, rankdir, display_lrm)
        box = f"{layer.name}_{layer.type}"
        nodes[box] = pydot.Node(label, **style)
        for blob in layer.bottom:
            nodes[f"{blob}_blob"] = pydot.Node(_quoted(blob), **BLOB_STYLE)
            edges.append((f"{blob}_blob", box, EMPTY_LABEL))
        for blob in layer.top:
            nodes[f"{blob}_blob"] = pydot.Node(_quoted(blob))  # plain unless a later layer reads it: outputs stand out
            edges.append((box, f"{blob}_blob", get_edge_label(layer) if label_edges else EMPTY_LABEL))
    for node in nodes.values():
        graph.add_node(node)
    for source, target, label in edges:
        graph.add_edge(pydot.Edge(nodes[source], nodes[target], label=label))
    return graph


def _pydot():
    try:
        import pydot
    except ImportError:
        package = "the package pydot, which writes the graph (pip install pydot)"
        raise ImportError(sentence("caffe.draw", package, "none of this name")) from None
    return pydot


def draw_net(
    caffe_net: caffe_pb2.NetParameter,
    rankdir: str,
    ext: str = "png",
    phase: int | None = None,
    display_lrm: bool = False,
) -> bytes:
    """The picture of a NetParameter as bytes in format `ext` (png, svg, pdf, ...; raw: Graphviz text).

    Raises ImportError without pydot and FileNotFoundError without Graphviz's program `dot` (not needed for raw).
    """
    try:
        return get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm).create(format=ext)
    except FileNotFoundError:
        program = "Graphviz's program dot (install graphviz, or write a .dot file)"
        raise FileNotFoundError(sentence("caffe.draw", program, "none of this name")) from None


def draw_net_to_file(
    caffe_net: caffe_pb2.NetParameter,
    filename: str | os.PathLike,
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
) -> None:
    """Write the picture of a NetParameter to `filename`, in the format of its extension."""
    ext = os.path.splitext(filename)[1].lstrip(".")
    if not ext:
        raise ValueError(sentence(filename, "the extension .png, .svg, .pdf or .dot", "none"))
    if ext == "dot":
        graph = get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm)
        picture = graph.to_string().encode()
    else:
        picture = draw_net(caffe_net, rankdir, ext, phase, display_lrm)
    write_file(filename, picture)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status (0 done, 1 failed)."""
    parser = argparse.ArgumentParser(prog="python -m caffe.draw", description="Draw a network as a picture.")
    parser.add_argument("net", help="network definition (prototxt)")
    parser.add_argument("picture", help="file to write; its extension is the format (png, svg, pdf, dot, ...)")
    parser.add_argument("--rankdir", choices=RANKDIRS, default="LR", help="direction (default: %(default)s)")
    parser.add_argument("--phase", choices=("TRAIN", "TEST", "ALL"), default="ALL",
                        help="draw the layers of this phase only (default: %(default)s)")  # fmt: skip
    parser.add_argument("--display-lrm", action="store_true", help="show learning rate multipliers")
    options = parser.parse_args(arguments)
    phase = None if options.phase == "ALL" else caffe_pb2.Phase.Value(options.phase)
    try:
        draw_net_to_file(read_net(options.net), options.picture, options.rankdir, phase, options.display_lrm)
    except (CaffeFileError, ImportError, OSError, ValueError) as error:
        message = str(error)
        print(message if message.startswith("caffe.draw: ") else f"caffe.draw: {message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
