"""Central differences for a layer type's declared example: shapes are said, gradients are those of the outputs."""

import numpy as np
from google.protobuf import text_format

import caffe
from caffe_proto import caffe_pb2, net_state

STEP, TOLERANCE = 1e-2, 1e-2  # of values around 1, in float32


def check_example(type_name, example):
    """Build a net of one layer from its `example` and compare every gradient with central differences.

    example: (the layer's settings as prototxt text, shapes of its bottoms, shapes of its tops). The outputs are
    weighted at random and summed; bottoms and parameters are moved one number at a time. AssertionError if a shape or
    a gradient is another.
    """
    settings, bottoms, tops = example
    names = [[f"{kind}{k}" for k in range(len(shapes))] for kind, shapes in (("bottom", bottoms), ("top", tops))]
    text = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" '
        f"input_param {{ shape {{ {' '.join(f'dim: {n}' for n in shape)} }} }} }}\n"
        for name, shape in zip(names[0], bottoms, strict=True)
    )
    wires = " ".join([f'bottom: "{name}"' for name in names[0]] + [f'top: "{name}"' for name in names[1]])
    text += f'layer {{ name: "it" type: "{type_name}" {wires} {settings} }}\nforce_backward: true'
    net = caffe.Net.from_param(net_state(text_format.Parse(text, caffe_pb2.NetParameter()), caffe.TRAIN))
    rng = np.random.default_rng(0)
    for name in names[0]:
        net.blobs[name].data[...] = rng.uniform(0.5, 1.5, net.blobs[name].data.shape)
    for blob in net.params.get("it", ()):
        blob.data[...] = rng.uniform(0.5, 1.5, blob.data.shape)
    net.forward()
    assert [net.blobs[name].data.shape for name in names[1]] == [tuple(shape) for shape in tops], type_name
    weights = {name: rng.standard_normal(net.blobs[name].data.shape) for name in names[1]}
    for name, weight in weights.items():
        net.blobs[name].diff[...] = weight
    net.clear_param_diffs()
    net.backward()
    moved = {name: net.blobs[name] for name in names[0]} | dict(enumerate(net.params.get("it", ())))
    gradients = {which: blob.diff.copy() for which, blob in moved.items()}

    def weighted():
        net.forward()
        return sum(float((net.blobs[name].data.astype(np.float64) * weight).sum()) for name, weight in weights.items())

    for which, blob in moved.items():
        flat = blob.data.reshape(-1)
        for k in range(flat.size):
            before = flat[k]
            ends = []
            for sign in (1, -1):
                flat[k] = before + sign * STEP
                blob.data[...] = flat.reshape(blob.data.shape)
                ends.append(weighted())
            flat[k] = before
            blob.data[...] = flat.reshape(blob.data.shape)
            wanted, found = (ends[0] - ends[1]) / (2 * STEP), float(gradients[which].reshape(-1)[k])
            assert abs(found - wanted) <= TOLERANCE * max(1, abs(wanted)), f"{type_name}: gradient {k} of {which}"
