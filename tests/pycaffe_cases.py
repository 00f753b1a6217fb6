"""Uses of pycaffe that need no training, run under this project's `caffe` and under the original's.

Each entry of a registry is a function of no arguments; the golden recipe records what the original returns, the tests
compare what ours returns. Random inputs come from numpy's RandomState, whose streams never change.
"""

import hashlib
import os

import numpy as np

import caffe
from caffe import layers as L
from caffe import params as P

# -- NetSpec: functions returning a NetParameter -------------------------------------------------------------------


def automatic_names():
    data, label = L.DummyData(shape=[{"dim": [2, 3]}, {"dim": [2]}], ntop=2)
    score = L.InnerProduct(L.InnerProduct(data, num_output=4), num_output=5)
    return caffe.to_proto(L.SoftmaxWithLoss(score, label), L.Accuracy(score, label), L.Power(label))


def every_kind_of_setting():
    n = caffe.NetSpec()
    n.data, n["label"] = L.HDF5Data(source="list.txt", batch_size=3, ntop=2, include={"phase": caffe.TRAIN})
    n.conv = L.Convolution(
        n.data,
        num_output=4,
        kernel_size=[3, 5],
        pad=1,
        stride=[1, 2],
        weight_filler={"type": "gaussian", "std": 0.25},
        param=[{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}],
    )
    n.relu = L.ReLU(n.conv, in_place=True)
    n.deconv = L.Deconvolution(n.relu, convolution_param={"num_output": 2, "kernel_size": 2}, param={"name": "w"})
    n.pool = L.Pooling(n.deconv, pool=P.Pooling.AVE, kernel_h=2, kernel_w=1, engine=P.Pooling.CAFFE)
    n.top = L.Eltwise(n.pool, n.pool, operation=P.Eltwise.SUM, coeff=[1, -0.5], name="renamed", loss_weight=0.5)
    n.a, n.b = L.Slice(n.top, slice_point=1, ntop=2, exclude=[{"stage": "x"}, {"stage": ["y", "z"]}])
    n.python = L.Python(n.a, module="m", layer="l", param_str="{'k': 1}", propagate_down=[True])
    n.loss = L.SoftmaxWithLoss(n.b, n.label, loss_param={"ignore_label": 1}, softmax_param={"axis": 1})
    return n.to_proto()


def unnamed_between_named():
    n = caffe.NetSpec()
    n.data = L.Input(input_param={"shape": {"dim": [1, 2]}})
    n.out = L.Sigmoid(L.ReLU(L.ReLU(n.data), in_place=True))
    n.twin = L.Concat(n.out, L.ReLU(n.data))
    return n.to_proto()


def one_top_alone():
    return L.Tile(L.Flatten(L.Input()), tiles=3).to_proto()


def silence():
    n = caffe.NetSpec()
    n.data = L.Input()
    n.relu = L.ReLU(n.data)
    n.kept = L.TanH(n.relu)
    n.silence = L.Silence(n.kept, ntop=0)
    return n.to_proto()


NET_SPECS = {f.__name__: f for f in (automatic_names, every_kind_of_setting, unnamed_between_named, one_top_alone,
                                     silence)}  # fmt: skip


def proto_sha256(proto):
    """Hash of a message: fields in the order of the schema, whatever a library's way of printing numbers."""
    return hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()


# -- coordinate maps: functions returning what coord_map or crop returns, or raising -------------------------------


def coord_cases():
    from caffe.coord_map import coord_map_from_to, crop

    data = L.Input(shape={"dim": [1, 1, 50, 50]})
    conv = L.Convolution(data, num_output=1, kernel_size=5, stride=2, pad=1)
    pool = L.Pooling(conv, kernel_size=3, stride=2, pad=1)
    up = L.Deconvolution(pool, convolution_param={"num_output": 1, "kernel_size": 8, "stride": 4, "pad": 1})
    dilated = L.Convolution(data, num_output=1, kernel_size=[5, 3], stride=[2, 2], pad=[1, 4], dilation=[2])
    valid = L.Convolution(data, num_output=1, kernel_size=3)
    axis0 = L.Convolution(data, num_output=1, kernel_size=[5, 3], axis=0)
    cases = {
        "conv": lambda: coord_map_from_to(conv, data),
        "conv_pool": lambda: coord_map_from_to(pool, data),
        "input_to_pool": lambda: coord_map_from_to(data, pool),
        "same": lambda: coord_map_from_to(data, data),
        "deconv": lambda: coord_map_from_to(up, data),
        "dilated": lambda: coord_map_from_to(dilated, data),
        "axis": lambda: coord_map_from_to(axis0, data),
        "im2col": lambda: coord_map_from_to(L.Im2col(data, convolution_param={"kernel_size": 3}), data),
        "crop_two_offsets": lambda: coord_map_from_to(L.Crop(data, conv, axis=2, offset=[3, 4]), data),
        "crop_default": lambda: coord_map_from_to(L.Crop(data, conv), data),
        "crop_param": lambda: coord_map_from_to(L.Crop(data, conv, crop_param={"axis": 1, "offset": [2]}), data),
        "pass_through": lambda: coord_map_from_to(L.ReLU(L.LRN(L.Scale(conv), local_size=3)), data),
        "siblings": lambda: coord_map_from_to(pool, dilated),
        "axis_mismatch": lambda: coord_map_from_to(L.Convolution(axis0, num_output=1, kernel_size=3), data),
        "not_spatial": lambda: coord_map_from_to(L.InnerProduct(data, num_output=1), data),
        "not_connected": lambda: coord_map_from_to(L.Input(), data),
        "no_kernel_size": lambda: coord_map_from_to(L.Convolution(data, num_output=1), data),
        "crop_valid": lambda: crop(data, valid),
        "crop_two_kernels": lambda: crop(data, L.Convolution(data, num_output=1, kernel_size=[3, 5])),
        "crop_negative": lambda: crop(valid, data),
        "crop_half": lambda: crop(data, L.Convolution(data, num_output=1, kernel_size=2)),
        "crop_scale": lambda: crop(conv, data),
    }
    for name in ("AbsVal", "BatchNorm", "Bias", "BNLL", "Dropout", "Eltwise", "ELU", "Exp", "Log", "LRN", "MVN",
                 "Power", "PReLU", "ReLU", "Scale", "Sigmoid", "Split", "TanH", "Threshold", "Softmax", "Flatten",
                 "Reshape", "Concat", "Slice", "Embed"):  # fmt: skip
        cases[f"type_{name}"] = lambda name=name: coord_map_from_to(getattr(L, name)(conv), data)
    return cases


def coord_result(case):
    """What a case gives, as JSON: [axis, scales, shifts], {'crop': settings} or {'raises': exception's name}."""
    try:
        result = case()
    except Exception as error:
        return {"raises": type(error).__name__}
    if isinstance(result, tuple):
        axis, a, b = result
        return [axis, np.ravel(a).astype(float).tolist(), np.ravel(b).astype(float).tolist()]
    layer = caffe.to_proto(result).layer[-1]
    return {"crop": " ".join(str(layer.crop_param).split()), "type": layer.type}


# -- caffe.io: functions of the folder with the test images, returning {name: array} -------------------------------


def random_image(seed, *shape):
    return np.random.RandomState(seed).uniform(-3, 5, shape).astype(np.float32)


RESIZES = {  # shape, new size, order; sizes up, down and mixed
    "rgb_up": ((7, 9, 3), (14, 18), 1),
    "rgb_down": ((7, 9, 3), (5, 4), 1),
    "rgb_far_down": ((40, 33, 3), (5, 4), 1),
    "rgb_same": ((7, 9, 3), (7, 9), 1),
    "grey_wider": ((7, 9, 1), (7, 12), 1),
    "rgb_halved": ((16, 16, 3), (8, 8), 1),
    "nearest": ((16, 12, 3), (5, 30), 0),
    "one_pixel": ((1, 1, 3), (3, 4), 1),
    "two_channels": ((7, 9, 2), (14, 5), 1),
    "five_channels": ((7, 9, 5), (3, 5), 1),
    "five_channels_cubic": ((7, 9, 5), (13, 5), 3),
}


def resizes(images):
    io = caffe.io
    made = {k: io.resize_image(random_image(0, *shape), dims, order) for k, (shape, dims, order) in RESIZES.items()}
    made["constant"] = io.resize_image(np.full((3, 4, 3), 0.25, np.float32), (5, 2))
    return made


def loaded_images(images):
    """All but transparency as grey: scikit-image has dropped it or blended it with white, by version; ours drops it."""
    return {
        f"{name}_{'color' if color else 'grey'}": caffe.io.load_image(os.path.join(images, name), color=color)
        for name in sorted(os.listdir(images))
        for color in (True, False)
        if color or name != "rgba.png"
    }


def oversampled(images):
    io = caffe.io
    return {
        "even": io.oversample([random_image(1, 8, 10, 3), random_image(2, 8, 10, 3)], (4, 6)),
        "odd": io.oversample([random_image(3, 9, 7, 1)], (4, 4)),
        "array": io.oversample(np.stack([random_image(4, 5, 5, 2)] * 2), np.array([5, 3])),
    }


def transformer(**settings):
    made = caffe.io.Transformer({"data": (2, 3, 6, 5)})
    for name, value in settings.items():
        getattr(made, f"set_{name}")("data", value)
    return made


TRANSFORMERS = {
    "transpose": {"transpose": (2, 0, 1)},
    "swap": {"transpose": (2, 0, 1), "channel_swap": (2, 0, 1)},
    "scales": {"transpose": (2, 0, 1), "raw_scale": 255.0, "input_scale": 0.25},
    "channel_mean": {"transpose": (2, 0, 1), "mean": np.array([1.0, 2.0, 3.0])},
    "all": {"transpose": (2, 0, 1), "channel_swap": (1, 2, 0), "raw_scale": 255.0, "mean": random_image(5, 3, 6, 5),
            "input_scale": 0.125},
    "mean_resized": {"transpose": (2, 0, 1), "mean": random_image(6, 3, 9, 9)},
}  # fmt: skip


def transformed(images):
    made = {}
    for name, settings in TRANSFORMERS.items():
        for size in ((6, 5), (9, 4)):
            made[f"{name}_{size[0]}x{size[1]}"] = transformer(**settings).preprocess("data", random_image(7, *size, 3))
        made[f"{name}_back"] = transformer(**settings).deprocess("data", random_image(8, 1, 3, 6, 5))
    return made


def messages(images):
    io = caffe.io
    from caffe.proto import caffe_pb2

    legacy = caffe_pb2.BlobProto(num=1, channels=2, height=1, width=3, data=range(6), diff=[0.5] * 6)
    vector = io.arraylist_to_blobprotovector_str([random_image(9, 2, 3), random_image(10, 4)])
    first, second = io.blobprotovector_str_to_arraylist(vector)
    byte = (random_image(11, 3, 2, 4) * 20 + 100).astype(np.uint8)
    return {
        "legacy": io.blobproto_to_array(legacy),
        "legacy_diff": io.blobproto_to_array(legacy, return_diff=True),
        "single": io.blobproto_to_array(caffe_pb2.BlobProto(data=[2.5])),
        "round_trip": io.blobproto_to_array(io.array_to_blobproto(random_image(12, 2, 1, 3))),
        "diff": io.blobproto_to_array(io.array_to_blobproto(np.zeros((2, 2)), random_image(13, 2, 2)), True),
        "first": first,
        "second": second,
        "datum_byte": io.datum_to_array(io.array_to_datum(byte, 4)),
        "datum_float": io.datum_to_array(io.array_to_datum(random_image(14, 3, 2, 4))),
    }


IO = {f.__name__: f for f in (resizes, loaded_images, oversampled, transformed, messages)}

# -- Classifier and Detector: functions of a folder with image files and of one to write in ------------------------

SCORER = """input: "data" input_shape { dim: 4 dim: 3 dim: 12 dim: 12 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 5
    stride: 2 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 6 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
SCORER_SETTINGS = {"mean": np.array([0.5, 0.25, 0.75]) * 255, "raw_scale": 255.0, "channel_swap": (2, 1, 0),
                   "input_scale": 0.02}  # fmt: skip


def scorer(kind, folder, **settings):
    """A caffe.Classifier or caffe.Detector over SCORER with seeded weights."""
    prototxt, weights = os.path.join(folder, "scorer.prototxt"), os.path.join(folder, "scorer.caffemodel")
    with open(prototxt, "w") as file:
        file.write(SCORER)
    net = caffe.Net(prototxt, caffe.TEST)
    fill_params(net, seed=3)
    net.save(weights)
    return getattr(caffe, kind)(prototxt, weights, **SCORER_SETTINGS, **settings)


def classified(images, folder):
    pictures = [random_image(20, 16, 18, 3) % 1, random_image(21, 30, 12, 3) % 1, random_image(22, 12, 12, 3) % 1]
    made = {}
    for name, dims in (("default", None), ("larger", (15, 14))):
        net = scorer("Classifier", folder, image_dims=dims)
        made[f"{name}_ten"] = net.predict(pictures)
        made[f"{name}_centre"] = net.predict(pictures, oversample=False)
    return made


WINDOWS = [(0, 0, 12, 12), (2, 3, 10, 21), (5, 1, 19, 9), (0, 10, 20, 23)]


def detected(images, folder):
    net = scorer("Detector", folder)
    files = [os.path.join(images, name) for name in ("rgb.png", "grey.png")]
    found = net.detect_windows([(files[0], WINDOWS), (files[1], WINDOWS[:1])])
    assert [d["filename"] for d in found] == [files[0]] * len(WINDOWS) + [files[1]]
    return {key: np.array([detection[key] for detection in found]) for key in ("window", "prediction")}


ENGINE = {f.__name__: f for f in (classified, detected)}

# -- drawing -------------------------------------------------------------------------------------------------------

DRAWN = """name: "N"
layer { name: "d" type: "Data" top: "d" top: "l" data_param { batch_size: 7 } include { phase: TRAIN } }
layer { name: "t" type: "HDF5Data" top: "d" top: "l" hdf5_data_param { batch_size: 7 } include { phase: TEST } }
layer { name: "c" type: "Convolution" bottom: "d" top: "c" convolution_param { num_output: 3 kernel_size: 5 stride: 2
    pad: 1 } param { lr_mult: 2 } param { lr_mult: 3 } }
layer { name: "u" type: "Deconvolution" bottom: "c" top: "u" convolution_param { num_output: 3 kernel_size: 5 } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "s" type: "ReLU" bottom: "c" top: "e" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 2 stride: 2 pool: AVE } }
layer { name: "i" type: "InnerProduct" bottom: "p" top: "i" inner_product_param { num_output: 4 }
    exclude { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "i" bottom: "l" top: "loss" }
layer { name: "x" type: "Silence" bottom: "e" }
layer { name: "b" type: "BatchNorm" bottom: "p" top: "p" param { lr_mult: 0 } }
"""
DRAWINGS = {
    "plain": {"rankdir": "LR"},
    "test": {"rankdir": "TB", "phase": 1},
    "train": {"rankdir": "BT", "phase": 0, "label_edges": False},
    "rates": {"rankdir": "LR", "display_lrm": True},
}


def drawn(settings):
    """[nodes, edges] that caffe.draw hands to pydot: [name, attributes], [from, to, label]."""
    from google.protobuf import text_format

    import caffe.draw
    from caffe.proto import caffe_pb2

    graph = caffe.draw.get_pydot_graph(text_format.Parse(DRAWN, caffe_pb2.NetParameter()), **settings)
    nodes = [[node.get_name(), {k: v for k, v in node.get_attributes().items() if v}] for node in graph.get_nodes()]
    edges = [[edge.get_source(), edge.get_destination(), edge.get_attributes()["label"]] for edge in graph.get_edges()]
    return [sorted(nodes, key=str), sorted(edges, key=str)]


# -- whole networks ------------------------------------------------------------------------------------------------


def fill_params(net, seed):
    """Seeded weights for every parameter: zero mean, scaled by fan-in; one-axis blobs near 0 (biases) or 1 (scales).

    BatchNorm's statistics stay as they are.
    """
    draw = np.random.RandomState(seed)
    kinds = {name: layer.type for name, layer in zip(net._layer_names, net.layers)}  # noqa: B905 (Python 3.9)
    for name, blobs in net.params.items():
        if kinds[name] == "BatchNorm":
            continue
        for index, blob in enumerate(blobs):
            shape = tuple(blob.data.shape)
            values = draw.standard_normal(shape)
            if len(shape) > 1:
                values *= np.sqrt(2.0 / np.prod(shape[1:]))
            else:
                values = 0.1 * values + (1 if kinds[name] == "Scale" and index == 0 else 0)
            blob.data[...] = values


def whole_net(prototxt, classes, seed, noise=0):
    """Every blob, and the gradient of every parameter and of the input, of one pass in TRAIN phase.

    Returns {"blob <name>" | "diff <name> <index>": array}. The prototxt must ask for force_backward. `noise`: relative
    change of the input.
    """
    net = caffe.Net(prototxt, caffe.TRAIN)
    fill_params(net, seed)
    draw = np.random.RandomState(seed + 1)
    net.blobs["data"].data[...] = draw.standard_normal(net.blobs["data"].data.shape)
    net.blobs["label"].data[...] = draw.randint(0, classes, net.blobs["label"].data.shape)
    net.blobs["data"].data[...] *= 1 + noise * draw.standard_normal(net.blobs["data"].data.shape)
    net.forward()
    made = {f"blob {name}": np.array(blob.data) for name, blob in net.blobs.items() if "_split_" not in name}
    net.backward()
    made["diff data"] = np.array(net.blobs["data"].diff)
    for name, blobs in net.params.items():
        for index, blob in enumerate(blobs):
            made[f"diff {name} {index}"] = np.array(blob.diff)
    return made
