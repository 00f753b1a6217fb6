"""Building and running a net: filtering, splits, shapes, gradients, parameter sharing (docs/engine.md section 1)."""

import os

import torch
from google.protobuf import text_format

from caffe import glog, mode
from caffe.blob import Blob
from caffe.errors import check
from caffe.layer import load_blob, make_layer, save_layer
from caffe_proto import CaffeFileError, atomic_hdf5, caffe_pb2, filter_net, read_weights, write_message


# -- what of a prototxt belongs to a net ---------------------------------------------------------------------------
def insert_splits(param):
    """The NetParameter with a Split layer after every blob that is used more than once."""
    producer = {}  # blob name -> (layer index, top index) of its latest production
    uses = {}  # (layer index, top index) -> number of bottoms that read it
    source = {}  # (layer index, bottom index) -> (layer index, top index)
    for i, layer in enumerate(param.layer):
        for j, name in enumerate(layer.bottom):
            check(name in producer, f"Unknown bottom blob '{name}' (layer '{layer.name}', bottom index {j})")
            source[i, j] = producer[name]
            uses[producer[name]] = uses.get(producer[name], 0) + 1
        for j, name in enumerate(layer.top):
            producer[name] = (i, j)
    weight = {
        (i, j): w for i, layer in enumerate(param.layer) for j, w in enumerate(layer.loss_weight[: len(layer.top)]) if w
    }
    for top in weight:
        if top in uses:
            uses[top] += 1
    result = caffe_pb2.NetParameter()
    result.CopyFrom(param)
    del result.layer[:]
    taken = {top: 1 if top in weight else 0 for top in uses}

    def split_blob(top, k):
        i, j = top
        return f"{split_name(top)}_{k}", param.layer[i].top[j]

    def split_name(top):
        i, j = top
        return f"{param.layer[i].top[j]}_{param.layer[i].name}_{j}_split"

    for i, layer in enumerate(param.layer):
        copy = result.layer.add()
        copy.CopyFrom(layer)
        for j in range(len(layer.bottom)):
            top = source[i, j]
            if uses[top] > 1:
                copy.bottom[j] = split_blob(top, taken[top])[0]
                taken[top] += 1
        for j, name in enumerate(layer.top):
            if uses.get((i, j), 0) > 1:
                split = result.layer.add(name=split_name((i, j)), type="Split", bottom=[name])
                split.top.extend(split_blob((i, j), k)[0] for k in range(uses[i, j]))
                if (i, j) in weight:
                    split.loss_weight.extend([weight[i, j]] + [0.0] * (uses[i, j] - 1))
                    del copy.loss_weight[:]
    return result


# -- the net ---------------------------------------------------------------------------------------------------------
class LayerVec(list):
    """The layers of a net in execution order."""


class Net:
    """A net built from a NetParameter whose `state` says phase, level and stages.

    Attributes for the rest of the runtime: name, phase, layers (LayerVec), layer_params, bottom_vecs and top_vecs
    (lists of Blobs per layer), learnable_params with lr_mults and decay_mults.
    """

    def __init__(self, param):
        self._build(param)

    @classmethod
    def from_param(cls, param):
        """A net from a NetParameter whose state is set (solvers build their nets so)."""
        return cls(param)

    # -- construction --------------------------------------------------------------------------------------------
    def _build(self, param):
        self.phase = param.state.phase
        param = filter_net(param, glog.info)
        if mode.root_solver():
            glog.info("Initializing net from parameters: \n" + text_format.MessageToString(param))
        param = insert_splits(param)
        self.name = param.name
        self.debug_info = param.debug_info
        self.param = param
        self.frugal = False  # True: memory of what no pass will read again is given back
        self.layers, self.layer_params = LayerVec(), list(param.layer)
        self._blob_names, self._blobs = [], []
        self.bottom_vecs, self.top_vecs, self.bottom_ids, self.top_ids = [], [], [], []
        self.bottom_need_backward, self.layer_need_backward = [], []
        self.loss_weights = []  # per layer, one number per top
        self._blob_loss_weights = []
        self._blob_need_backward = []
        self._inputs, self._outputs = [], []
        self._before_forward, self._after_forward, self._before_backward, self._after_backward = [], [], [], []
        self._params = []  # (blob, owner index or None, layer index, index within the layer)
        self._param_owners = {}
        self.learnable_params, self.lr_mults, self.decay_mults = [], [], []
        self._explicit = []  # per learnable parameter: (lr_mult given, decay_mult given)
        self._learnable_index = []  # per parameter: index into learnable_params
        available, named = {}, {}
        memory = 0
        self._layer_names = [p.name for p in self.layer_params]
        for i, layer_param in enumerate(self.layer_params):
            if not layer_param.HasField("phase"):
                layer_param.phase = self.phase
            if layer_param.propagate_down:
                check(
                    len(layer_param.propagate_down) == len(layer_param.bottom),
                    f"layer '{layer_param.name}': propagate_down param must be specified either 0 or bottom_size times",
                )
            own = caffe_pb2.LayerParameter()
            own.CopyFrom(layer_param)  # a layer may complete its own copy (BatchNorm does); flags go by the original
            layer = make_layer(own, layer_param.phase)
            self._say(f"Creating Layer {layer_param.name}")
            self.layers.append(layer)
            self._connect_bottoms(i, layer_param, available)
            self._connect_tops(i, layer_param, layer, available, named)
            memory = self._set_up(i, layer, layer_param, memory)
            self._register_params(i, layer, layer_param)
        self._decide_backward(param.force_backward)
        self._outputs = sorted(available.values(), key=lambda index: self._blob_names[index].encode())
        for index in self._outputs:
            self._say(f"This network produces output {self._blob_names[index]}")
        self._say("Network initialization done.")

    def _say(self, message):
        if mode.root_solver():
            glog.info(message)

    def _connect_bottoms(self, i, layer_param, available):
        ids = []
        for j, name in enumerate(layer_param.bottom):
            check(name in available, f"Unknown bottom blob '{name}' (layer '{layer_param.name}', bottom index {j})")
            self._say(f"{layer_param.name} <- {name}")
            ids.append(available.pop(name))
        self.bottom_ids.append(ids)
        self.bottom_vecs.append([self._blobs[k] for k in ids])
        self.bottom_need_backward.append(
            [
                layer_param.propagate_down[j] if layer_param.propagate_down else self._blob_need_backward[k]
                for j, k in enumerate(ids)
            ]
        )

    def _connect_tops(self, i, layer_param, layer, available, named):
        ids = []
        for j, name in enumerate(layer_param.top):
            if j < len(layer_param.bottom) and layer_param.bottom[j] == name:
                self._say(f"{layer_param.name} -> {name} (in-place)")
                check(
                    layer.in_place,
                    f"{layer.where}: top '{name}' is also its bottom; Layer does not allow in-place computation.",
                )
                index = self.bottom_ids[i][j]
            else:
                check(
                    name not in named, f"Top blob '{name}' produced by multiple sources. (layer '{layer_param.name}')"
                )
                self._say(f"{layer_param.name} -> {name}")
                index = self._new_blob(name)
                named[name] = index
            if layer_param.type == "Input":
                self._inputs.append(index)
            available[name] = index
            ids.append(index)
        if layer.is_loss:
            while len(ids) < max(layer.tops[0], 1):
                self._say(f"{layer_param.name} -> (automatic)")
                ids.append(self._new_blob("(automatic)"))
        self.top_ids.append(ids)
        self.top_vecs.append([self._blobs[k] for k in ids])

    def _new_blob(self, name):
        self._blobs.append(Blob(()))
        self._blob_names.append(name)
        self._blob_need_backward.append(False)
        self._blob_loss_weights.append(0.0)
        return len(self._blobs) - 1

    def _set_up(self, i, layer, layer_param, memory):
        bottom, top = self.bottom_vecs[i], self.top_vecs[i]
        self._say(f"Setting up {layer_param.name}")
        for what, blobs, (least, most), verb in (
            ("bottom", bottom, layer.bottoms, "takes"),
            ("top", top, layer.tops, "produces"),
        ):
            where = f"{layer_param.type} Layer (layer '{layer_param.name}') {verb}"
            side = f"{what} blob(s) as {'input' if what == 'bottom' else 'output'}; found {len(blobs)}."
            if least == most:
                check(len(blobs) == least, f"{where} {least} {side}")
            check(len(blobs) >= least, f"{where} at least {least} {side}")
            check(most is None or len(blobs) <= most, f"{where} at most {most} {side}")
        layer.setup(bottom, top)
        layer.param_propagate_down = [True] * len(layer.blobs)
        layer.reshape(bottom, top)
        given = list(layer_param.loss_weight) or ([1.0] if layer.is_loss else [])
        check(
            len(given) in (0, len(top)),
            f"layer '{layer_param.name}': loss_weight must be unspecified or specified "
            f"once per top blob. Found {len(given)} for {len(top)} tops (a loss layer "
            "that names none has one, 1)",
        )
        weights = given or [0.0] * len(top)
        self.loss_weights.append(weights)
        for k, weight, blob in zip(self.top_ids[i], weights, top, strict=True):
            self._blob_loss_weights[k] = weight
            if weight:
                blob.grad = torch.full(tuple(blob.shape), weight, device=mode.device())
            self._say(f"Top shape: {blob.shape_string}")
            if weight:
                self._say(f"    with loss weight {glog.g(weight)}")
            memory += 4 * blob.count
        self._say(f"Memory required for data: {memory}")
        return memory

    def _register_params(self, i, layer, layer_param):
        check(
            len(layer_param.param) <= len(layer.blobs),
            f"Too many params specified for layer {layer_param.name}: found {len(layer_param.param)}; the layer has "
            f"{len(layer.blobs)} parameter blobs",
        )
        need_backward = any(self._blob_need_backward[k] for k in self.bottom_ids[i])
        for j, blob in enumerate(layer.blobs):
            asked, spec = (
                p.param[j] if j < len(p.param) else caffe_pb2.ParamSpec() for p in (layer_param, layer.layer_param)
            )
            layer.param_propagate_down[j] = asked.lr_mult != 0
            need_backward |= asked.lr_mult != 0
            self._register_param(i, j, blob, spec)
        self.layer_need_backward.append(need_backward)
        for k in self.top_ids[i]:
            self._blob_need_backward[k] |= need_backward

    def _register_param(self, i, j, blob, spec):
        owner = self._param_owners.get(spec.name) if spec.name else None
        index = len(self._params)
        if owner is None:
            if spec.name:
                self._param_owners[spec.name] = index
            self._params.append((blob, None, i, j))
            self._learnable_index.append(len(self.learnable_params))
            self.learnable_params.append(blob)
            self.lr_mults.append(spec.lr_mult)
            self.decay_mults.append(spec.decay_mult)
            self._explicit.append([spec.HasField("lr_mult"), spec.HasField("decay_mult")])
            return
        owner_blob, _, owner_layer, owner_index = self._params[owner]
        names = (
            f"Cannot share param '{spec.name}' owned by layer '{self._layer_names[owner_layer]}' with layer "
            f"'{self._layer_names[i]}'"
        )
        self._say(
            f"Sharing parameters '{spec.name}' owned by layer '{self._layer_names[owner_layer]}', param index "
            f"{owner_index}"
        )
        if spec.share_mode == caffe_pb2.ParamSpec.PERMISSIVE:
            check(
                owner_blob.count == blob.count,
                f"{names}; count mismatch. Owner layer param shape is "
                f"{owner_blob.shape_string}; sharing layer shape is {blob.shape_string}",
            )
        else:
            check(
                owner_blob.shape == blob.shape,
                f"{names}; shape mismatch. Owner layer param shape is "
                f"{owner_blob.shape_string}; sharing layer expects shape {blob.shape_string}",
            )
        blob.share_data(owner_blob)
        blob.share_diff(owner_blob)
        self._params.append((blob, owner, i, j))
        learnable = self._learnable_index[owner]
        self._learnable_index.append(learnable)
        for which, field, values in ((0, "lr_mult", self.lr_mults), (1, "decay_mult", self.decay_mults)):
            if spec.HasField(field):
                value = getattr(spec, field)
                check(
                    not self._explicit[learnable][which] or values[learnable] == value,
                    f"Shared param '{spec.name}' has mismatched {field}.",
                )
                self._explicit[learnable][which] = True
                values[learnable] = value

    def _decide_backward(self, force):
        under_loss, skipped = set(), set()
        for i in reversed(range(len(self.layers))):
            contributes, skip = False, True
            for k, weight in zip(self.top_ids[i], self.loss_weights[i], strict=True):
                name = self._blob_names[k]
                contributes |= bool(weight) or name in under_loss
                skip &= name in skipped
            # switched off with its bottoms: what no loss depends on, and what no consumer wants a gradient from
            if skip or not contributes:
                self.layer_need_backward[i] = False
                self.bottom_need_backward[i] = [False] * len(self.bottom_ids[i])
            needs = self.layer_need_backward[i]
            self._say(f"{self._layer_names[i]} {'needs' if needs else 'does not need'} backward computation.")
            for k, need in zip(self.bottom_ids[i], self.bottom_need_backward[i], strict=True):
                name = self._blob_names[k]
                if contributes:
                    under_loss.add(name)
                if not need:
                    skipped.add(name)
        if force:
            for i, layer in enumerate(self.layers):
                self.layer_need_backward[i] = True
                for j in range(len(self.bottom_ids[i])):
                    if j not in layer.no_gradient_to:
                        self.bottom_need_backward[i][j] = True
                        self._blob_need_backward[self.bottom_ids[i][j]] = True
                layer.param_propagate_down = [True] * len(layer.blobs)

    # -- running -------------------------------------------------------------------------------------------------
    def forward_from_to(self, start, end):
        """Run layers start..end (indices, inclusive); returns the weighted loss of those layers (a float)."""
        return float(self.forward_tensors(start, end))

    def forward_tensors(self, start=0, end=None):
        """As forward_from_to, but the loss stays a 0-d tensor (or 0.0), so that nothing waits for the device."""
        loss = 0.0
        for i in range(start, len(self.layers) if end is None else end + 1):
            for callback in self._before_forward:
                callback(i)
            layer, bottom, top = self.layers[i], self.bottom_vecs[i], self.top_vecs[i]
            layer.reshape(bottom, top)
            layer.forward(bottom, top)
            for blob, weight in zip(top, self.loss_weights[i], strict=True):
                if weight:
                    loss = loss + weight * (blob.value.sum() if blob.count != 1 else blob.value.reshape(()))
                    if not blob.has_grad:  # the blob has grown since it was given its weight
                        blob.grad = torch.full(tuple(blob.shape), weight, device=mode.device())
            if self.debug_info:
                self._log_forward(i)
            for callback in self._after_forward:
                callback(i)
            if self.frugal and self.phase == caffe_pb2.TEST:
                self._release_read(i)
        return loss

    def _release_read(self, i):
        """In a net without a backward pass: drop what layer i was the last to read (blobs may share storage)."""
        later = (blob for bottom in self.bottom_vecs[i + 1 :] for blob in bottom)
        kept = {id(blob._data) for blob in (*self.learnable_params, *self.top_vecs[i], *later)}
        for k, blob in zip(self.bottom_ids[i], self.bottom_vecs[i], strict=True):
            produced = next(j for j, ids in enumerate(self.top_ids) if k in ids)
            if self.bottom_ids[produced] and id(blob._data) not in kept:
                blob.release_value()
        self.layers[i].release()

    def backward_from_to(self, start, end):
        """Run the backward passes of layers start down to end (indices, inclusive) that need one."""
        for i in range(start, end - 1, -1):
            for callback in self._before_backward:
                callback(i)
            if self.layer_need_backward[i]:
                self.layers[i].backward(self.top_vecs[i], self.bottom_need_backward[i], self.bottom_vecs[i])
                if self.debug_info:
                    self._log_backward(i)
                if self.frugal:
                    self._release(i)
            for callback in self._after_backward:
                callback(i)

    def _release(self, i):
        """Drop values and gradients of layer i's tops; all their consumers have run backward."""
        layer, bottom = self.layers[i], self.bottom_vecs[i]
        if not bottom:
            return  # constant data and inputs are given once
        kept = {id(blob._data) for blob in (*self.learnable_params, *bottom)}
        for k, weight, blob in zip(self.top_ids[i], self.loss_weights[i], self.top_vecs[i], strict=True):
            if k not in self._outputs and not weight and id(blob._data) not in kept:
                blob.release_value()
                blob.clear_grad()
        layer.release()

    def run_backward(self):
        """The whole backward pass, with the debug summary that Caffe prints after it."""
        self.backward_from_to(len(self.layers) - 1, 0)
        if self.debug_info:
            data = [p.value for p in self.learnable_params]
            diff = [p.grad for p in self.learnable_params]
            norms = [
                [float(sum(t.abs().sum() for t in ts)), float(sum((t * t).sum() for t in ts)) ** 0.5]
                for ts in (data, diff)
            ]
            glog.error(
                f"    [Backward] All net params (data, diff): L1 norm = ({glog.g(norms[0][0])}, "
                f"{glog.g(norms[1][0])}); L2 norm = ({glog.g(norms[0][1])}, {glog.g(norms[1][1])})"
            )

    def reshape(self):
        """Run every layer's shape inference again (after input blobs were reshaped)."""
        for layer, bottom, top in zip(self.layers, self.bottom_vecs, self.top_vecs, strict=True):
            layer.reshape(bottom, top)

    def clear_param_diffs(self):
        """Zero the gradients of all learnable parameters."""
        for blob in self.learnable_params:
            blob.clear_grad()

    def _param_display_name(self, i, j):
        specs = self.layer_params[i].param
        return specs[j].name if j < len(specs) and specs[j].name else str(j)

    def _log_forward(self, i):
        name = self._layer_names[i]
        for k, blob in zip(self.top_ids[i], self.top_vecs[i], strict=True):
            glog.info(f"    [Forward] Layer {name}, top blob {self._blob_names[k]} data: {_mean_abs(blob.value)}")
        for j, blob in enumerate(self.layers[i].blobs):
            glog.info(
                f"    [Forward] Layer {name}, param blob {self._param_display_name(i, j)} data: {_mean_abs(blob.value)}"
            )

    def _log_backward(self, i):
        name = self._layer_names[i]
        for k, blob, need in zip(self.bottom_ids[i], self.bottom_vecs[i], self.bottom_need_backward[i], strict=True):
            if need:
                glog.info(
                    f"    [Backward] Layer {name}, bottom blob {self._blob_names[k]} diff: {_mean_abs(blob.grad)}"
                )
        for j, blob in enumerate(self.layers[i].blobs):
            if self.layers[i].param_propagate_down[j]:
                glog.info(f"    [Backward] Layer {name}, param blob {j} diff: {_mean_abs(blob.grad)}")

    # -- outputs -------------------------------------------------------------------------------------------------
    def output_scores(self):
        """[(blob name, loss weight, float array of its elements)] of the outputs, in Caffe's order."""
        return [
            (self._blob_names[k], self._blob_loss_weights[k], self._blobs[k].value.reshape(-1).cpu().double().numpy())
            for k in self._outputs
        ]

    # -- weights -------------------------------------------------------------------------------------------------
    def copy_from(self, path):
        """Load weights by layer name from a .caffemodel (binary or HDF5); unknown layers are logged and ignored."""
        path = os.fspath(path)
        weights = read_weights(path)
        index = {name: i for i, name in enumerate(self._layer_names)}
        used = 0
        for name, arrays in weights.items():
            if name not in index:
                self._say(f"Ignoring source layer {name}")
                continue
            blobs = self.layers[index[name]].blobs
            shared = {j for _, owner, layer, j in self._params if layer == index[name] and owner is not None}
            absent = {j for j in range(len(blobs)) if j >= len(arrays) or arrays[j] is None}
            check(
                len(arrays) <= len(blobs) and absent <= shared,
                f"{path}: Incompatible number of blobs for layer {name}: found {len(arrays)}; wanted {len(blobs)}",
            )
            for j, array in enumerate(arrays):
                if j in absent:
                    continue
                load_blob(
                    blobs[j],
                    array,
                    f"{path}: Cannot copy param {j} weights from layer '{name}'; shape mismatch."
                    " To learn this layer's parameters from scratch rather than copying from a "
                    "saved net, rename the layer.",
                )
                used += 1
        wanted = sum(1 for layer in self.layers if len(layer.blobs))
        check(
            used or not wanted or not any(arrays for arrays in weights.values()),
            f"{path}: none of its layers {sorted(n for n, a in weights.items() if a)} is a layer of net "
            f"'{self.name}' ({[n for n, la in zip(self._layer_names, self.layers, strict=True) if len(la.blobs)]})",
        )

    def load_hdf5(self, path):
        """Load weights from an HDF5 file (see copy_from)."""
        self.copy_from(path)

    def to_proto(self, with_diff=False):
        """The net as a NetParameter with parameter blobs, as .caffemodel files hold it."""
        result = caffe_pb2.NetParameter(name=self.name)
        for layer in self.layers:
            result.layer.append(save_layer(layer, with_diff))
        return result

    def save(self, path, with_diff=False):
        """Write the weights as a binary .caffemodel, atomically."""
        write_message(os.fspath(path), self.to_proto(with_diff))

    def save_hdf5(self, path, with_diff=False):
        """Write the weights as HDF5, `/data/<layer>/<index>` (and `/diff/...`), atomically."""
        for name in self._layer_names:
            if "/" in name:
                raise CaffeFileError(f"{path}: layer name '{name}' has a '/'; HDF5 weights cannot hold it")
        owners = {(i, j): owner for _, owner, i, j in self._params}
        with atomic_hdf5(path) as stream:
            for i, (name, layer) in enumerate(zip(self._layer_names, self.layers, strict=True)):
                data = stream.file.require_group("data").create_group(name)
                diff = stream.file.require_group("diff").create_group(name) if with_diff else None
                for j, blob in enumerate(layer.blobs):
                    if owners[i, j] is None:
                        data[str(j)] = blob.value.cpu().numpy()
                    if diff is not None:
                        diff[str(j)] = blob.grad.cpu().numpy()

    def share_with(self, other):
        """Alias the parameter data of same-named layers of `other`."""
        index = {name: i for i, name in enumerate(self._layer_names)}
        for name, layer in zip(other._layer_names, other.layers, strict=True):
            if name not in index:
                self._say(f"Ignoring source layer {name}")
                continue
            blobs = self.layers[index[name]].blobs
            check(len(blobs) == len(layer.blobs), f"Incompatible number of blobs for layer {name}")
            for j, (mine, theirs) in enumerate(zip(blobs, layer.blobs, strict=True)):
                check(
                    mine.shape == theirs.shape,
                    f"Cannot share param {j} weights from layer '{name}'; shape mismatch. Source param shape is "
                    f"{theirs.shape_string}; target param shape is {mine.shape_string}",
                )
                mine.share_data(theirs)

    # -- what a resumed run needs beyond the solverstate ---------------------------------------------------------
    def owned_params(self):
        """(blob, None, layer index, index within the layer) per parameter of learnable_params, in its order."""
        return [param for param in self._params if param[1] is None]

    def positions(self):
        """{layer name: position} of the layers that have one (data layers)."""
        return {
            name: position
            for name, layer in zip(self._layer_names, self.layers, strict=True)
            if (position := layer.position()) is not None
        }

    def restore_positions(self, positions):
        """Continue from positions() of before."""
        for name, layer in zip(self._layer_names, self.layers, strict=True):
            if name in positions:
                layer.restore_position(positions[name])


def _mean_abs(tensor):
    return glog.g(tensor.abs().sum() / max(tensor.numel(), 1))
