"""Runs whose network is written by hand: one inner product, so that scores and relevance follow from its weights.

With one linear layer s = W x + b, the epsilon rule gives class c the relevance w_c * x (for a stabiliser that is small
beside the score), and a flat first layer the score in equal parts: b absorbs its share of the first, and nothing of the
second.
"""

import shutil

import h5py
import numpy as np

from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.run_folder import RunName
from caffe_proto import caffe_pb2, write_message

DEPLOY = """\
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 {dims} }} }} }}
layer {{
  name: "out" type: "InnerProduct" bottom: "data" top: "{score}" inner_product_param {{ num_output: {classes} }}
}}
layer {{ name: "prob" type: "Softmax" bottom: "{score}" top: "prob" }}
"""


def write_run(study, runs, name, weights, bias):
    """The study's run `name` again in the folder `runs`, its network W (classes, values), b (classes,)."""
    network = NETWORKS[RunName.parse(name).network]
    folder = shutil.copytree(study / "runs" / name, runs / name)
    dims = " ".join(f"dim: {size}" for size in network.input_shape)
    text = DEPLOY.format(dims=dims, score=network.score, classes=len(bias))
    (folder / "deploy.prototxt").write_text(text)
    layer = caffe_pb2.LayerParameter(name="out", type="InnerProduct")
    for values in (weights, bias):
        layer.blobs.add(data=np.ravel(values).tolist()).shape.dim.extend(np.shape(values))
    write_message(next(folder.glob("snapshots/*.caffemodel")), caffe_pb2.NetParameter(layer=[layer]))
    return folder


def read_input(study, network, recording):
    """The input (float64, all values in one row) of a recording such as "1_05_0"."""
    digit, speaker, repetition = recording.split("_")
    with h5py.File(study / "preprocessed" / speaker / f"{network}_{digit}_{speaker}_{repetition}.hdf5") as file:
        return file["data"][()].astype(np.float64).ravel()
