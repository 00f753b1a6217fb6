"""The paper's solvers on random recordings, and what an iteration of them costs at least."""

import h5py
import numpy as np
import torch
from google.protobuf import text_format

from audiomnist.corpus.splits import load_splits
from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.render import render
from audiomnist.runs.run_folder import RunName
from benchmarks.gpu.processes import ROOT
from caffe.fusion import fuse
from caffe.layers.hdf5 import HDF5Data, RowOrder
from caffe.plan import free_memory
from caffe.solver import Solver
from caffe_proto import caffe_pb2

TEST_BATCHES = 60


def prototxts(name, batch, folder):
    """{file name: text} of a run of network `name`, validated and tested in batches of `batch`."""
    splits = load_splits(ROOT / "data" / "splits.json")
    return render(RunName(name, "digit", 0), splits, {"validate": batch, "test": batch}, folder)


def make_solver(name, context, batch, rows, folder, compared=False, tests=TEST_BATCHES):
    """The paper's solver of a network in `context`, its data sets of `rows` random recordings where that computes.

    Files and lists name one recording; the layers are given the rest. The rate is tiny, so that noise cannot diverge.
    `compared`: with devices that draw other numbers: without dropout, the same recordings and weights everywhere.
    """
    with h5py.File(folder / "one.hdf5", "w") as file:
        file["data"] = np.random.default_rng(1).normal(size=(1, *NETWORKS[name].input_shape)).astype(np.float32)
        file["label"] = np.zeros((1, 2), np.float32)
    (folder / "one.txt").write_text(f"{folder / 'one.hdf5'}\n")
    texts = prototxts(name, batch, folder)
    net = text_format.Parse(texts["train.prototxt"], caffe_pb2.NetParameter())
    for layer in net.layer:
        if layer.type == "HDF5Data":
            layer.hdf5_data_param.source, layer.hdf5_data_param.batch_size = str(folder / "one.txt"), batch
        elif layer.type == "Dropout" and compared:
            layer.dropout_param.dropout_ratio = 0
    param = text_format.Parse(texts["solver.prototxt"], caffe_pb2.SolverParameter())
    param.ClearField("net")
    param.net_param.CopyFrom(net)
    param.random_seed, param.base_lr, param.test_initialization = 1, 1e-4 if compared else 1e-8, False
    param.display, param.test_interval, param.snapshot, param.snapshot_prefix = 0, 10**9, 0, ""
    param.test_iter[:] = [tests]
    solver = Solver(param, context)
    for net in (solver.net, *solver.test_nets):
        for layer in net.layers:
            if isinstance(layer, HDF5Data):
                _fill(layer, rows, torch.device("cpu") if compared else context.device)
    if compared:
        _draw_weights(solver.net)
    return solver


def use_quick_plans(solver):
    """Let `solver` do its passes as training does them."""
    solver.use_plans(lambda plan: free_memory(fuse(plan)))


def _fill(layer, rows, on):
    """Make a data layer's set `rows` one-row files of random recordings and labels, which are drawn `on` a device."""
    generator, device = torch.Generator(device=on).manual_seed(2), layer.context.device
    data = torch.randn((rows, *layer.inner[0]), device=on, generator=generator).to(device)
    labels = torch.randint(0, 2, (rows, *layer.inner[1]), device=on, generator=generator).float().to(device)
    layer.device_cache, layer.first, layer.paths = [data, labels], np.arange(rows + 1), layer.paths * rows
    layer.order = RowOrder(rows, layer.layer_param.hdf5_data_param.shuffle, 3)
    layer.make_slots(1)


def _draw_weights(net):
    """Weights that keep values of about 1 from layer to layer: the tiny ones of the fillers would hide what differs."""
    for i, blob in enumerate(net.learnable_params):
        shape = tuple(blob.shape)
        scale = np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.1
        blob.value.copy_(torch.from_numpy((scale * np.random.default_rng(i).normal(size=shape)).astype(np.float32)))


def work(net):
    """(operations, bytes) that one training iteration of `net` needs at least.

    A convolution or inner product multiplies its inputs once forward and twice backward (once where nobody wants its
    bottom's gradient). A top is written and read forward, read again backward with its gradient written and read (tops
    in place and splits cost nothing); a parameter is read twice, its gradient written and read, its history read and
    written, itself written.
    """
    operations = moved = 0
    for node in net.nodes:
        layer, top, bottom = node.layer, node.tops, node.bottoms
        if layer.type in ("Convolution", "InnerProduct"):
            weights = layer.blobs[0]
            once = 2 * top[0].count * weights.count // weights.shape[0]
            operations += once * (3 if node.propagate_down[0] else 2)
        if bottom and node.need_backward and node.bottom_ids != node.top_ids and layer.type != "Split":
            moved += 4 * 5 * sum(t.count for t in top)
    return operations, moved + 4 * 7 * sum(p.count for p in net.learnable_params)
