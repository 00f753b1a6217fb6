"""Legacy forms of Caffe's files brought to the current one, in Caffe's own order.

Three generations of layer messages exist: V0 (`layers { layer { ... } }`, flat fields, lower-case string types), V1
(`layers { ... }`, enum types) and the current one (`layer { ... }`, string types). Each step below lifts a net by one
generation or replaces one deprecated field; a net in the current form passes through untouched.
"""

from __future__ import annotations

import os
import warnings

from caffe_proto import caffe_pb2
from caffe_proto.errors import CaffeFileError

_V1 = caffe_pb2.V1LayerParameter

V0_TYPES = {
    "accuracy": _V1.ACCURACY,
    "bnll": _V1.BNLL,
    "concat": _V1.CONCAT,
    "conv": _V1.CONVOLUTION,
    "data": _V1.DATA,
    "dropout": _V1.DROPOUT,
    "euclidean_loss": _V1.EUCLIDEAN_LOSS,
    "flatten": _V1.FLATTEN,
    "hdf5_data": _V1.HDF5_DATA,
    "hdf5_output": _V1.HDF5_OUTPUT,
    "im2col": _V1.IM2COL,
    "images": _V1.IMAGE_DATA,
    "infogain_loss": _V1.INFOGAIN_LOSS,
    "innerproduct": _V1.INNER_PRODUCT,
    "lrn": _V1.LRN,
    "multinomial_logistic_loss": _V1.MULTINOMIAL_LOGISTIC_LOSS,
    "pool": _V1.POOLING,
    "relu": _V1.RELU,
    "sigmoid": _V1.SIGMOID,
    "softmax": _V1.SOFTMAX,
    "softmax_loss": _V1.SOFTMAX_LOSS,
    "split": _V1.SPLIT,
    "tanh": _V1.TANH,
    "window_data": _V1.WINDOW_DATA,
}
"""V0 layer type -> V1 layer type; `padding`, the one type missing here, is folded into the layer that reads it."""

V0_FIELDS = {
    "num_output": {"conv": "convolution_param.num_output", "innerproduct": "inner_product_param.num_output"},
    "biasterm": {"conv": "convolution_param.bias_term", "innerproduct": "inner_product_param.bias_term"},
    "weight_filler": {"conv": "convolution_param.weight_filler", "innerproduct": "inner_product_param.weight_filler"},
    "bias_filler": {"conv": "convolution_param.bias_filler", "innerproduct": "inner_product_param.bias_filler"},
    "pad": {"conv": "convolution_param.pad", "pool": "pooling_param.pad"},
    "kernelsize": {"conv": "convolution_param.kernel_size", "pool": "pooling_param.kernel_size"},
    "group": {"conv": "convolution_param.group"},
    "stride": {"conv": "convolution_param.stride", "pool": "pooling_param.stride"},
    "pool": {"pool": "pooling_param.pool"},
    "dropout_ratio": {"dropout": "dropout_param.dropout_ratio"},
    "local_size": {"lrn": "lrn_param.local_size"},
    "alpha": {"lrn": "lrn_param.alpha"},
    "beta": {"lrn": "lrn_param.beta"},
    "k": {"lrn": "lrn_param.k"},
    "source": {
        "data": "data_param.source",
        "hdf5_data": "hdf5_data_param.source",
        "images": "image_data_param.source",
        "infogain_loss": "infogain_loss_param.source",
        "window_data": "window_data_param.source",
    },
    "scale": {None: "transform_param.scale"},
    "meanfile": {None: "transform_param.mean_file"},
    "cropsize": {None: "transform_param.crop_size"},
    "mirror": {None: "transform_param.mirror"},
    "batchsize": {
        "data": "data_param.batch_size",
        "hdf5_data": "hdf5_data_param.batch_size",
        "images": "image_data_param.batch_size",
        "window_data": "window_data_param.batch_size",
    },
    "rand_skip": {"data": "data_param.rand_skip", "images": "image_data_param.rand_skip"},
    "shuffle_images": {"images": "image_data_param.shuffle"},
    "new_height": {"images": "image_data_param.new_height"},
    "new_width": {"images": "image_data_param.new_width"},
    "concat_dim": {"concat": "concat_param.concat_dim"},
    "det_fg_threshold": {"window_data": "window_data_param.fg_threshold"},
    "det_bg_threshold": {"window_data": "window_data_param.bg_threshold"},
    "det_fg_fraction": {"window_data": "window_data_param.fg_fraction"},
    "det_context_pad": {"window_data": "window_data_param.context_pad"},
    "det_crop_mode": {"window_data": "window_data_param.crop_mode"},
    "hdf5_output_param": {"hdf5_output": "hdf5_output_param"},
}
"""Flat V0 field -> {V0 layer type: where it lives in V1}; type None means every type."""

V0_KEPT = ("name", "blobs", "blobs_lr", "weight_decay")  # same name and meaning in V1
V0_UNUSED = ("type", "new_num", "new_channels")  # the type is mapped; Caffe never read the other two

V1_TYPES = {
    _V1.NONE: "",
    _V1.ABSVAL: "AbsVal",
    _V1.ACCURACY: "Accuracy",
    _V1.ARGMAX: "ArgMax",
    _V1.BNLL: "BNLL",
    _V1.CONCAT: "Concat",
    _V1.CONTRASTIVE_LOSS: "ContrastiveLoss",
    _V1.CONVOLUTION: "Convolution",
    _V1.DATA: "Data",
    _V1.DECONVOLUTION: "Deconvolution",
    _V1.DROPOUT: "Dropout",
    _V1.DUMMY_DATA: "DummyData",
    _V1.ELTWISE: "Eltwise",
    _V1.EUCLIDEAN_LOSS: "EuclideanLoss",
    _V1.EXP: "Exp",
    _V1.FLATTEN: "Flatten",
    _V1.HDF5_DATA: "HDF5Data",
    _V1.HDF5_OUTPUT: "HDF5Output",
    _V1.HINGE_LOSS: "HingeLoss",
    _V1.IM2COL: "Im2col",
    _V1.IMAGE_DATA: "ImageData",
    _V1.INFOGAIN_LOSS: "InfogainLoss",
    _V1.INNER_PRODUCT: "InnerProduct",
    _V1.LRN: "LRN",
    _V1.MEMORY_DATA: "MemoryData",
    _V1.MULTINOMIAL_LOGISTIC_LOSS: "MultinomialLogisticLoss",
    _V1.MVN: "MVN",
    _V1.POOLING: "Pooling",
    _V1.POWER: "Power",
    _V1.RELU: "ReLU",
    _V1.SIGMOID: "Sigmoid",
    _V1.SIGMOID_CROSS_ENTROPY_LOSS: "SigmoidCrossEntropyLoss",
    _V1.SILENCE: "Silence",
    _V1.SLICE: "Slice",
    _V1.SOFTMAX: "Softmax",
    _V1.SOFTMAX_LOSS: "SoftmaxWithLoss",
    _V1.SPLIT: "Split",
    _V1.TANH: "TanH",
    _V1.THRESHOLD: "Threshold",
    _V1.WINDOW_DATA: "WindowData",
}
"""V1 layer type -> current layer type."""

V1_MULTIPLIERS = {"param": "name", "blob_share_mode": "share_mode", "blobs_lr": "lr_mult", "weight_decay": "decay_mult"}
"""Parallel per-blob lists of V1 -> fields of the current `param` entries."""

V1_DATA_PARAMS = {_V1.DATA: "data_param", _V1.IMAGE_DATA: "image_data_param", _V1.WINDOW_DATA: "window_data_param"}
V1_TRANSFORM_FIELDS = ("scale", "mean_file", "crop_size", "mirror")

SOLVER_TYPES = {
    caffe_pb2.SolverParameter.SGD: "SGD",
    caffe_pb2.SolverParameter.NESTEROV: "Nesterov",
    caffe_pb2.SolverParameter.ADAGRAD: "AdaGrad",
    caffe_pb2.SolverParameter.RMSPROP: "RMSProp",
    caffe_pb2.SolverParameter.ADADELTA: "AdaDelta",
    caffe_pb2.SolverParameter.ADAM: "Adam",
}

LEGACY_INPUT_AXES = 4  # `input_dim` gives this many numbers per input


def upgrade_net(net: caffe_pb2.NetParameter, where: str | os.PathLike) -> None:
    """Bring a NetParameter to the current form, in place.

    Steps, each only where it applies: V0 layers to V1, V1 data layers' transformation fields to `transform_param`, V1
    layers to the current form, net-level `input` to an Input layer, BatchNorm's three `param` entries frozen.

    net: `caffe_pb2.NetParameter`, changed in place.
    where: the file (or other origin) that error messages name.

    Raises CaffeFileError for what Caffe refuses: `layer` and `layers` in one net, an unknown V0 layer type, a V0
    padding layer that feeds anything but one convolution or pooling; and for fewer input shapes than inputs, where
    Caffe reads memory that is not its own. Warns about a V0 field that its layer type lacks (dropped, as in Caffe).
    """
    if any(layer.HasField("layer") for layer in net.layers):
        _upgrade_v0(net, where)
    if any(_has_old_transform(layer) for layer in net.layers):
        for layer in net.layers:
            _move_transform_fields(layer)
    if net.layers:
        _upgrade_v1(net, where)
    if net.input:
        _upgrade_input(net, where)
    for layer in net.layer:
        if layer.type == "BatchNorm" and len(layer.param) == 3:
            # mean, variance and factor are running statistics: a learning rate on them would destroy them
            for spec in layer.param:
                spec.lr_mult = 0
                spec.decay_mult = 0


def upgrade_solver(solver: caffe_pb2.SolverParameter, where: str | os.PathLike) -> None:
    """Bring a SolverParameter to the current form, in place, and complete its `snapshot_prefix`.

    The enum `solver_type` becomes the string `type`; nets written inside the solver are upgraded too. Without
    `snapshot_prefix` snapshots go beside the solver file under its name without extension; a prefix that is an
    existing folder gets that name appended.

    solver: `caffe_pb2.SolverParameter`, changed in place.
    where: path of the solver file.

    Raises CaffeFileError if both `solver_type` and `type` are given, or for a net as `upgrade_net` does.
    """
    if solver.HasField("solver_type"):
        if solver.HasField("type"):
            raise CaffeFileError(
                f"{where}: Failed to upgrade solver: old solver_type field (enum) and new type field (string) cannot "
                "be both specified"
            )
        solver.type = SOLVER_TYPES[solver.solver_type]
        solver.ClearField("solver_type")
    for field in ("net_param", "train_net_param"):
        if solver.HasField(field):
            upgrade_net(getattr(solver, field), f"{where}: {field}")
    for index, net in enumerate(solver.test_net_param):
        upgrade_net(net, f"{where}: test_net_param {index}")
    stem = os.path.splitext(os.fspath(where))[0]
    if not solver.HasField("snapshot_prefix"):
        solver.snapshot_prefix = stem
    elif os.path.isdir(solver.snapshot_prefix):
        solver.snapshot_prefix = os.path.join(solver.snapshot_prefix, os.path.basename(stem))


def _upgrade_v0(net, where):
    """Replace the V0 layers of `net` by V1 layers; of the net's other fields Caffe keeps name and inputs only."""
    layers = [_v1_from_v0(connection, where) for connection in _fold_padding(net, where)]
    kept = caffe_pb2.NetParameter(input=net.input, input_dim=net.input_dim, layers=layers)
    for field in ("name", "force_backward"):
        if net.HasField(field):
            setattr(kept, field, getattr(net, field))
    net.CopyFrom(kept)


def _fold_padding(net, where):
    """The V0 connections of `net` without padding layers: each one's pad is given to the layer that reads it."""
    producers = dict.fromkeys(net.input)  # blob name -> the connection that last wrote it (None: a net input)
    connections = []
    for original in net.layers:
        if not original.HasField("layer"):
            raise CaffeFileError(
                f"{where}: layer '{original.name}'", "V0 (layers { layer { } }), as the layers before have it", "V1"
            )
        connection = caffe_pb2.V1LayerParameter()
        connection.CopyFrom(original)
        name, kind = original.layer.name, original.layer.type
        for index, blob in enumerate(original.bottom):
            if blob not in producers:
                raise CaffeFileError(f"{where}: layer '{name}': Unknown blob input {blob} to layer {index}")
            source = producers[blob]
            if source is None or source.layer.type != "padding":
                continue
            if kind not in ("conv", "pool"):
                raise CaffeFileError(
                    f"{where}: layer '{name}': Padding layer input to non-convolutional / non-pooling layer type {kind}"
                )
            if len(original.bottom) != 1:
                raise CaffeFileError(f"{where}: layer '{name}': Conv Layer takes a single blob as input.")
            padding = f"{where}: layer '{source.layer.name}'"
            if len(source.bottom) != 1:
                raise CaffeFileError(f"{padding}: Padding Layer takes a single blob as input.")
            if len(source.top) != 1:
                raise CaffeFileError(f"{padding}: Padding Layer produces a single blob as output.")
            connection.layer.pad = source.layer.pad
            connection.bottom[index] = source.bottom[0]
        for blob in original.top:
            producers[blob] = original
        if kind != "padding":
            connections.append(connection)
    return connections


def _v1_from_v0(connection, where):
    """The V1 layer of one V0 connection."""
    flat = connection.layer
    place = f"{where}: layer '{flat.name}'"
    layer = caffe_pb2.V1LayerParameter(
        bottom=connection.bottom,
        top=connection.top,
        blobs=flat.blobs,
        blobs_lr=flat.blobs_lr,
        weight_decay=flat.weight_decay,
    )
    if flat.HasField("name"):
        layer.name = flat.name
    if flat.HasField("type"):
        if flat.type not in V0_TYPES:
            raise CaffeFileError(f"{place}: Unknown layer name: {flat.type} (known V0 types: {', '.join(V0_TYPES)})")
        layer.type = V0_TYPES[flat.type]
    for descriptor, value in flat.ListFields():
        field = descriptor.name
        if field in V0_KEPT or field in V0_UNUSED:
            continue
        homes = V0_FIELDS[field]
        path = homes.get(flat.type, homes.get(None))
        if path is None:
            warnings.warn(f"{place}: Unknown parameter {field} for layer type {flat.type}; dropped", stacklevel=4)
        else:
            _assign(layer, path, value)
    return layer


def _assign(message, path, value):
    """Give `value` to the field at the dotted `path`: repeated fields get it appended, messages copied."""
    *parents, last = path.split(".")
    for name in parents:
        message = getattr(message, name)
    descriptor = message.DESCRIPTOR.fields_by_name[last]
    if isinstance(getattr(message, last), (int, float, str)):
        setattr(message, last, value)
    elif descriptor.message_type:
        getattr(message, last).CopyFrom(value)
    else:
        getattr(message, last).append(value)


def _has_old_transform(layer):
    """True if a V1 data layer carries a transformation field outside `transform_param`."""
    if layer.type not in V1_DATA_PARAMS:
        return False
    source = getattr(layer, V1_DATA_PARAMS[layer.type])
    return any(source.HasField(field) for field in V1_TRANSFORM_FIELDS)


def _move_transform_fields(layer):
    """Move the transformation fields of a V1 data layer into its `transform_param`, where they win."""
    if layer.type not in V1_DATA_PARAMS:
        return
    source = getattr(layer, V1_DATA_PARAMS[layer.type])
    for message in (source, layer.transform_param):
        message.SetInParent()  # Caffe leaves both behind, even empty
    for field in V1_TRANSFORM_FIELDS:
        if source.HasField(field):
            setattr(layer.transform_param, field, getattr(source, field))
            source.ClearField(field)


def _upgrade_v1(net, where):
    """Replace the V1 `layers` of `net` by current `layer` entries."""
    if net.layer:
        raise CaffeFileError(
            f"{where}: Refusing to upgrade inconsistent NetParameter input; the definition includes both 'layer' and "
            "'layers' fields. The current format defines 'layer' fields with string type like layer { type: 'Layer' }"
        )
    for old in net.layers:
        new = net.layer.add()
        if old.HasField("type"):
            new.type = V1_TYPES[old.type]
        for descriptor, value in old.ListFields():
            field = descriptor.name
            if field == "type":
                continue
            if field in V1_MULTIPLIERS:
                for index, item in enumerate(value):
                    if index == len(new.param):
                        new.param.add()
                    setattr(new.param[index], V1_MULTIPLIERS[field], item)
            elif field == "name":
                new.name = value
            else:
                getattr(new, field).MergeFrom(value)
    net.ClearField("layers")


def _upgrade_input(net, where):
    """Turn net-level `input` fields into a first layer of type Input; inputs without any shape are dropped."""
    count = len(net.input)
    if net.input_shape:
        if len(net.input_shape) < count:
            raise CaffeFileError(where, f"an input_shape for each of {count} input", f"{len(net.input_shape)}")
        shapes = [tuple(shape.dim) for shape in net.input_shape[:count]]
    elif net.input_dim:
        needed = LEGACY_INPUT_AXES * count
        if len(net.input_dim) < needed:
            expected = f"{LEGACY_INPUT_AXES} input_dim for each of {count} input ({needed})"
            raise CaffeFileError(where, expected, f"{len(net.input_dim)}")
        shapes = [net.input_dim[start : start + LEGACY_INPUT_AXES] for start in range(0, needed, LEGACY_INPUT_AXES)]
    else:
        shapes = None  # weight files of old carry names only
    if shapes is not None:
        layer = caffe_pb2.LayerParameter(name="input", type="Input", top=net.input)
        for shape in shapes:
            layer.input_param.shape.add(dim=shape)
        net.layer.insert(0, layer)
    for field in ("input", "input_shape", "input_dim"):
        net.ClearField(field)
