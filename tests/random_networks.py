"""The study's networks with random weights, for tests and benchmarks that need no training."""

import functools
import shutil
import string
import tempfile
import weakref
from pathlib import Path

import numpy as np
from google.protobuf import text_format

from caffe_proto import array_to_blobproto, caffe_pb2, write_message

MODELS = Path(__file__).resolve().parent.parent / "models"
DEPLOYS = {
    "AlexNet": MODELS / "AlexNet" / "alexnet_deploy.prototxt",
    "AlexNet demo": MODELS / "AlexNet" / "demo_deploy.prototxt",
    "AudioNet": MODELS / "AudioNet" / "audionet_deploy.prototxt",
}
CLASSES = 10


def deploy_text(name, classes=CLASSES):
    """The rendered deploy prototxt of one of `DEPLOYS`."""
    return string.Template(DEPLOYS[name].read_text(encoding="utf-8")).substitute(classes=classes)


# inputs of each weighted layer of the two networks, which their prototxts leave to be inferred
FAN_IN = {
    "AlexNet": {
        "conv1": (1, 11, 11),
        "conv2": (48, 5, 5),
        "conv3": (256, 3, 3),
        "conv4": (192, 3, 3),
        "conv5": (192, 3, 3),
        "fc6": (9216,),
        "fc7": (1024,),
        "fc8": (1024,),
    },
    "AudioNet": {
        "conv1": (1, 1, 3),
        "conv2": (100, 1, 3),
        "conv3": (64, 1, 3),
        "conv4": (128, 1, 3),
        "conv5": (128, 1, 3),
        "conv6": (128, 1, 3),
        "fc7": (16000,),
        "fc8": (1024,),
        "fc9": (512,),
    },
}


def random_weights(name, seed=0, bias=0.1, classes=CLASSES):
    """{layer name: [weight, bias]} float32: normal weights of the msra scale, normal biases of scale `bias`."""
    rng = np.random.default_rng(seed)
    net = text_format.Parse(deploy_text(name, classes), caffe_pb2.NetParameter())
    weights = {}
    for layer in net.layer:
        fan = FAN_IN[name.split()[0]].get(layer.name)
        if fan is None:
            continue
        outputs = layer.convolution_param.num_output or layer.inner_product_param.num_output
        scale = np.sqrt(2 / np.prod(fan))
        weights[layer.name] = [
            rng.normal(0, scale, (outputs, *fan)).astype(np.float32),
            (bias * rng.normal(size=outputs)).astype(np.float32),
        ]
    return weights


def write_network(folder, name, weights=None, classes=CLASSES):
    """Write deploy.prototxt and net.caffemodel into a folder; returns the two paths."""
    text = deploy_text(name, classes)
    net = text_format.Parse(text, caffe_pb2.NetParameter())
    weights = random_weights(name, classes=classes) if weights is None else weights
    for layer in net.layer:
        layer.blobs.extend(array_to_blobproto(array) for array in weights.get(layer.name, ()))
    model, stored = Path(folder) / "deploy.prototxt", Path(folder) / "net.caffemodel"
    model.write_text(text, encoding="utf-8")
    write_message(stored, net)
    return model, stored


@functools.cache
def stored(name):
    """(prototxt, caffemodel) of one of `DEPLOYS`, written once for all tests of a process and removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="network"))
    weakref.finalize(stored, shutil.rmtree, folder, ignore_errors=True)
    return write_network(folder, name)


def random_inputs(name, count, seed=0):
    """A batch that looks like a preprocessed one: decibels from -80 to 0, or a waveform with silence around it."""
    rng = np.random.default_rng(seed)
    if name.startswith("AlexNet"):
        return rng.uniform(-80, 0, (count, 1, 227, 227)).astype(np.float32)
    x = np.zeros((count, 1, 1, 8000), np.float32)
    x[..., 1500:6500] = rng.normal(0, 1, (count, 1, 1, 5000))
    return x
