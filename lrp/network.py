"""A Caffe network in numpy: forward pass, relevance and gradient.

`Network` reads a prototxt and a caffemodel (or takes a pycaffe Net) and needs no engine. It is constant after loading;
calls leave nothing behind.
"""

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

import lrp.elementwise
import lrp.linear
import lrp.pooling
import lrp.shaping  # noqa: F401 (importing these modules registers their layer types)
from caffe_proto import caffe_pb2, filter_net, net_state, read_net, read_weights
from lrp import merging, propagation
from lrp.composites import DEFAULT, find_composite
from lrp.elementwise import Affine, Identity, ReLU
from lrp.errors import LRPError, NotFiniteError
from lrp.layer import Layer, read_layer
from lrp.shaping import Head

try:
    from threadpoolctl import threadpool_limits
except ImportError:  # then one recording after the other, on as many threads as the BLAS likes
    threadpool_limits = None

DATA_TYPES = ("Input", "HDF5Data", "Data", "MemoryData", "ImageData", "WindowData", "DummyData")
# Items that travel through the network together: enough to read the weights of inner products seldom, few enough to
# stay in the cache.
CHUNK = 16
# Values of a batch's blobs from which on threads cost less than they bring.
WORTH_A_THREAD = 10**6
# Activations of one call are held for as many items at a time as fit in here (bytes).
MEMORY = 512 * 2**20


def one_blas_thread():
    """Context in which matrix products use one thread, so that threads of our own can work side by side.

    Without threadpoolctl they keep theirs, and there are no threads of our own.
    """
    return threadpool_limits(1, user_api="blas") if threadpool_limits else contextlib.nullcontext()


@dataclass
class Node:
    """A layer in its place: blobs are numbered in the order of their making (in-place layers make new ones too)."""

    layer: Layer
    bottoms: list
    tops: list


@dataclass
class Explanation:
    """The relevance of a batch and what it explains.

    relevance: shape and dtype of the input batch. scores: (N, classes). score: (N,) relevance that was handed in at the
    scores. prediction, target: (N,) class numbers (target is -1 where it is not one class). composite: what explained
    it. rules: {layer name: repr of its rule}. layers: {layer name: relevance of its output}, if asked for (a layer with
    several outputs has an entry "layer:blob" for each that the scores depend on).
    absorbed: {layer name: {"bias": (N,), "stabiliser": (N,)}}, if asked for.
    """

    relevance: np.ndarray
    scores: np.ndarray
    score: np.ndarray
    prediction: np.ndarray
    target: np.ndarray
    composite: str
    rules: dict
    layers: dict = field(default_factory=dict)
    absorbed: dict = field(default_factory=dict)

    @property
    def conserved(self):
        """sum(R) / score for every item, (N,): 1 where no relevance was absorbed."""
        total = self.relevance.reshape(len(self.relevance), -1).sum(axis=1, dtype=np.float64)
        return np.divide(total, self.score, out=np.full(len(total), np.nan), where=self.score != 0)


class Network:
    """A trained network.

    model: prototxt path (or a NetParameter); weights: .caffemodel or HDF5 path (or {layer name: [arrays]}).
    output: name of the blob whose values are the scores; default: what the first Softmax or loss layer reads, or the
    last blob. merge: fold affine layers into linear neighbours. Raises LRPError or caffe_proto.CaffeFileError.
    """

    def __init__(self, model, weights, output=None, merge=True):
        by_path = isinstance(model, (str, os.PathLike))
        net = read_net(model) if by_path else model
        self.model = os.fspath(model) if by_path else (net.name or "network")
        stored = isinstance(weights, (str, os.PathLike))
        self.weights_file = os.fspath(weights) if stored else None
        blobs = read_weights(weights) if stored else weights
        self._where = self.model if self.weights_file is None else f"{self.model} with {self.weights_file}"
        self._read(net, blobs, output)
        if merge:
            self._merge()
        self.input_shape = None if self._declared is None else (None, *self._declared[1:])
        if self._declared is not None:
            self._shapes((1, *self._declared[1:]))

    @classmethod
    def from_pycaffe(cls, net, prototxt, output=None, merge=True):
        """The network of a pycaffe Net (of any engine); its parameters are copied.

        net: an object with `params`, {layer name: blobs with `.data`}; prototxt: the file that it was made from, which
        pycaffe does not keep.
        """
        weights = {
            name: [np.array(blob.data, dtype=np.float32) for blob in blobs] for name, blobs in net.params.items()
        }
        return cls(prototxt, weights, output, merge)

    # --- reading -----------------------------------------------------------------------------------------------------
    def _read(self, net, blobs, output):
        current, self._nodes, leaves, names = {}, [], {}, {}
        owners = {}
        head = None
        for param in filter_net(net_state(net, caffe_pb2.TEST)).layer:
            where = f"{self._where}: layer {param.name}"
            if param.type in DATA_TYPES:
                shapes = [tuple(shape.dim) for shape in param.input_param.shape] if param.type == "Input" else []
                for index, top in enumerate(param.top):
                    number = len(names)
                    names[number], current[top] = top, number
                    leaves[number] = shapes[min(index, len(shapes) - 1)] if shapes else None
                continue
            for bottom in param.bottom:
                if bottom not in current:
                    raise LRPError(f"{where}: bottom {bottom!r} found; a blob that an earlier layer makes wanted")
            layer = read_layer(param, self._blobs(param, blobs, owners), where)
            bottoms = [current[bottom] for bottom in param.bottom]
            if isinstance(layer, Head):
                if head is None and param.type not in ("Accuracy", "ArgMax", "Silence") and bottoms:
                    head = bottoms[0]
                continue
            tops = []
            for top in param.top:
                number = len(names)
                names[number], current[top] = top, number
                tops.append(number)
            self._nodes.append(Node(layer, bottoms, tops))
        if not self._nodes:
            raise LRPError(f"{self._where}: no layers found that compute scores; a network wanted")
        if output is not None:
            if output not in current:
                raise LRPError(f"{self._where}: output {output!r} asked for; one of {', '.join(current)} wanted")
            head = current[output]
        self._output = self._nodes[-1].tops[0] if head is None else head
        self._names = names
        needed = {self._output}
        for node in reversed(self._nodes):
            if needed.intersection(node.tops):
                needed.update(node.bottoms)
        self._nodes = [node for node in self._nodes if needed.intersection(node.tops)]
        used = [number for number in leaves if number in needed]
        if len(used) != 1:
            found = ", ".join(names[number] for number in used) or "none"
            raise LRPError(f"{self._where}: inputs {found} found before the scores; exactly one wanted")
        self._input, self._declared = used[0], leaves[used[0]]

    def _blobs(self, param, blobs, owners):
        """The layer's weights; blobs that an HDF5 file leaves out because they are shared come from their owner."""
        own = list(blobs.get(param.name, []))
        for index, spec in enumerate(param.param):
            if not spec.name:
                continue
            if index < len(own) and own[index] is not None:
                owners.setdefault(spec.name, own[index])
            elif spec.name in owners:
                own += [None] * (index + 1 - len(own))
                own[index] = owners[spec.name]
        return own

    def _readers(self, number):
        return [node for node in self._nodes if number in node.bottoms]

    def _maker(self, number):
        return next((node for node in self._nodes if number in node.tops), None)

    def _drop(self, node):
        """Take a layer with one bottom and one top out; who read its top reads its bottom."""
        top, bottom = node.tops[0], node.bottoms[0]
        self._nodes.remove(node)
        for other in self._nodes:
            other.bottoms = [bottom if number == top else number for number in other.bottoms]
        if self._output == top:
            self._output = bottom

    def _merge(self):
        for node in [node for node in self._nodes if isinstance(node.layer, Identity)]:
            self._drop(node)
        for node in [node for node in self._nodes if isinstance(node.layer, Affine)]:
            maker = self._maker(node.bottoms[0])
            if maker is not None and len(self._readers(node.bottoms[0])) == 1 and self._output != node.bottoms[0]:
                self._replace(maker, merging.after(maker.layer, node.layer), node)
        # what is left goes into the layer above it, the topmost first, so that chains of affine layers go as a whole
        for node in [node for node in reversed(self._nodes) if isinstance(node.layer, Affine)]:
            readers = self._readers(node.tops[0])
            if len(readers) == 1 and self._output != node.tops[0]:
                merged = merging.before(node.layer, readers[0].layer, self._channels(node.bottoms[0]))
                self._replace(readers[0], merged, node)

    def _replace(self, neighbour, merged, node):
        """Put the merged layer, if there is one, in the place of `neighbour` and take `node` out."""
        if merged is not None:
            neighbour.layer = merged
            self._drop(node)

    def _shapes(self, shape):
        """{blob number: shape} for an input of that shape; raises LRPError where layers do not fit together."""
        shapes = {self._input: tuple(shape)}
        for node in self._nodes:
            tops = node.layer.output_shapes([shapes[bottom] for bottom in node.bottoms])
            shapes.update(zip(node.tops, map(tuple, tops), strict=True))
        return shapes

    def _channels(self, number):
        """Size of axis 1 of a blob, where the input's shape is declared."""
        if self._declared is None:
            return None
        shape = self._shapes((1, *self._declared[1:]))[number]
        return shape[1] if len(shape) > 1 else None

    # --- what a caller may ask ---------------------------------------------------------------------------------------
    @property
    def linear_layers(self):
        """The layers that rules apply to, bottom to top."""
        return [node.layer for node in self._nodes if node.layer.linear]

    def rules(self, composite):
        """{layer name: rule} of a composite (name or `Composite`) on this network's linear layers."""
        composite = find_composite(composite)
        reached, rules = set(), {}  # blobs that some linear layer comes before
        for node in self._nodes:
            below = any(bottom in reached for bottom in node.bottoms)
            if node.layer.linear:
                rules[node.layer.name] = composite.rule_for(node.layer, not below)
            if below or node.layer.linear:
                reached.update(node.tops)
        return rules

    def classes(self, shape):
        """Number of scores for a batch of that shape."""
        return self._shapes((1, *shape[1:]))[self._output][-1]

    def check_input(self, x, dtype=np.float32):
        """The batch as an array of `dtype`; LRPError for a wrong shape or values that are not finite."""
        x = np.asarray(x)
        if x.dtype.kind not in "fiu":
            raise LRPError(f"input: values of type {x.dtype} found; numbers wanted")
        if self.input_shape is not None and (x.ndim != len(self.input_shape) or x.shape[1:] != self.input_shape[1:]):
            wanted = ", ".join(["N", *map(str, self.input_shape[1:])])
            raise LRPError(f"input: shape {x.shape} found; ({wanted}) wanted by {self.model}")
        x = x.astype(dtype, copy=False)
        if not np.isfinite(x).all():
            raise LRPError(
                f"input: {int((~np.isfinite(x)).sum())} values that are NaN or infinite found; finite numbers wanted"
            )
        return x

    def check_finite(self, what, values):
        """`values` (N, ...); NotFiniteError for the first item that holds NaN or infinite numbers. what: their name."""
        finite = np.isfinite(values).reshape(len(values), -1)
        if not finite.all():
            item = int(finite.all(axis=1).argmin())
            wrong = f"{np.count_nonzero(~finite[item])} of {finite[item].size} numbers NaN or infinite"
            raise NotFiniteError(item, f"{what}: {wrong} found; finite ones wanted of {self._where}")
        return values

    def forward(self, x, dtype=np.float32, workers=None):
        """Scores (N, classes) of a batch x (N, C, H, W): the values before softmax, in `dtype`.

        workers: see `relevance`. Raises NotFiniteError for scores that are NaN or infinite.
        """
        x = self.check_input(x, dtype)
        return self.check_finite(
            "scores",
            np.concatenate(self._by_chunks(x, lambda part, start: self._forward(part)[0][self._output], workers)),
        )

    def relevance(
        self, x, target=None, composite=DEFAULT, dtype=np.float32, layers=False, absorbed=False, workers=None
    ):
        """Relevance of a batch x (N, C, H, W).

        target: None (each item's predicted class); a class number; a tuple of class numbers (explained together); an
        integer array (N,), one class per item; or a float array (N, classes), the relevance of the scores itself.
        composite: name or `Composite`. dtype: float32 or float64, of the whole computation. layers, absorbed: also
        return the relevance of every layer's output, and what biases and stabilisers absorbed. workers: threads that
        explain items side by side, each with a BLAS of one thread (without threadpoolctl there is one); default: the
        processors of this process. Returns `Explanation`. Raises NotFiniteError for scores or relevance that are NaN or
        infinite.
        """
        x = self.check_input(x, dtype)
        composite = find_composite(composite)
        rules = self.rules(composite)

        def explain(part, start):
            return self._explain(part, self._target_of(target, start, len(part), len(x)), rules, layers, absorbed)

        pieces = self._by_chunks(x, explain, workers)

        def joined(name):
            return np.concatenate([piece[name] for piece in pieces])

        def joined_maps(name):
            return {key: np.concatenate([piece[name][key] for piece in pieces]) for key in pieces[0][name]}

        keys = [(layer, kind) for layer, kinds in pieces[0]["absorbed"].items() for kind in kinds]
        sums = {}
        for layer, kind in keys:
            sums.setdefault(layer, {})[kind] = np.concatenate([piece["absorbed"][layer][kind] for piece in pieces])
        made = Explanation(
            joined("relevance"),
            joined("scores"),
            joined("score"),
            joined("prediction"),
            joined("target"),
            composite.name,
            {name: repr(rule) for name, rule in rules.items()},
            joined_maps("layers"),
            sums,
        )
        self.check_finite("scores", made.scores)
        self.check_finite(f"relevance by {made.composite}", made.relevance)
        for layer, values in made.layers.items():
            self.check_finite(f"relevance by {made.composite} of layer {layer}", values)
        for layer, kinds in sums.items():
            for kind, values in kinds.items():
                self.check_finite(f"relevance by {made.composite} absorbed by the {kind} of layer {layer}", values)
        return made

    def gradient(self, x, target=None, dtype=np.float32, relu="gradient", workers=None):
        """Gradient of the target's score with respect to the batch x; an array of its shape.

        target: as in `relevance` (a given relevance of the scores weighs their gradients). relu: what happens at ReLU
        layers, one of `lrp.elementwise.RELU_WAYS`. Where the maximum of a pooling window is tied, the winners share.
        workers: see `relevance`. Raises NotFiniteError for gradients that are NaN or infinite.
        """
        x = self.check_input(x, dtype)

        def explain(part, start):
            return self._gradient(part, self._target_of(target, start, len(part), len(x)), relu)

        return self.check_finite("gradient", np.concatenate(self._by_chunks(x, explain, workers)))

    # --- the passes --------------------------------------------------------------------------------------------------
    def _values(self, shape):
        """Number of values in all blobs of one item of a batch of `shape`."""
        return sum(int(np.prod(one)) for one in self._shapes((1, *shape[1:])).values())

    def _by_chunks(self, x, work, workers=None):
        """[work(chunk, index of its first item)] over the batch x, cut so that what is held at once fits in `MEMORY`.

        Chunks run on `workers` threads: numpy lets go of the interpreter's lock while it computes. Results keep the
        order of the items. What overflows gives no warning: the results are checked.
        """
        if len(x) == 0:
            raise LRPError("input: no items found; at least one wanted")
        values = self._values(x.shape)
        if workers is None:
            workers = len(os.sched_getaffinity(0)) if len(x) * values >= WORTH_A_THREAD else 1
        workers = max(1, min(workers, len(x))) if threadpool_limits else 1
        # activations, a denominator or two beside them, and the relevance on its way
        most = max(1, MEMORY // (4 * values * x.itemsize * workers))
        count = -(-len(x) // min(most, CHUNK))
        count = min(len(x), -(-count // workers) * workers)
        ends = [len(x) * k // count for k in range(count + 1)]
        chunks = [(x[a:b], a) for a, b in zip(ends[:-1], ends[1:], strict=True)]

        def quiet(chunk):
            with np.errstate(over="ignore", invalid="ignore"):  # of this thread alone
                return work(*chunk)

        # one item alone too: with more threads the products add up in another order, and its company would show
        with one_blas_thread():
            if workers == 1:
                return [quiet(chunk) for chunk in chunks]
            with ThreadPoolExecutor(workers) as pool:
                return list(pool.map(quiet, chunks))

    def _forward(self, x, rules=None):
        """All blobs {number: array} of a batch and the denominators {node index: Denominators}."""
        values, denominators = {self._input: x}, {}
        for index, node in enumerate(self._nodes):
            layer, inputs = node.layer, [values[bottom] for bottom in node.bottoms]
            if layer.linear:
                joined = layer.join(inputs) if hasattr(layer, "join") else inputs[0]
                rule = None if rules is None else rules[layer.name]
                output, kept = propagation.forward(layer, joined, rule)
                values[node.tops[0]] = output
                if kept is not None:
                    denominators[index] = kept
            else:
                maker = self._maker(node.bottoms[0])
                free = (
                    layer.overwrites
                    and maker is not None
                    and maker.layer.linear
                    and node.bottoms[0] != self._output
                    and len(self._readers(node.bottoms[0])) == 1
                )
                values.update(zip(node.tops, layer.forward(inputs, overwrite=free), strict=True))
        return values, denominators

    def _target_of(self, target, start, count, total):
        """The part of `target` that belongs to a chunk of items."""
        if target is None or isinstance(target, (int, np.integer, tuple)):
            return target
        target = np.asarray(target)
        if target.ndim not in (1, 2) or len(target) != total:
            raise LRPError(
                f"target: an array of shape {target.shape} found; one class, or one row of output "
                f"relevances, for each of {total} items wanted"
            )
        return target[start : start + count]

    def _chosen(self, scores, target):
        """(N, M) class numbers that a target (no relevance of the scores) means for scores (N, classes)."""
        count, classes = scores.shape
        if isinstance(target, tuple):
            chosen = np.tile(np.asarray(target, int), (count, 1))
        elif target is None:
            chosen = scores.argmax(axis=1)[:, None]
        else:
            chosen = np.broadcast_to(np.asarray(target), (count,))[:, None]
        if chosen.dtype.kind not in "iu" or chosen.size == 0 or chosen.min() < 0 or chosen.max() >= classes:
            found = np.unique(chosen).tolist() if chosen.size else "nothing"
            raise LRPError(f"target: {found} found; classes from 0 to {classes - 1} wanted")
        return chosen

    def start(self, scores, target, of_gradient=False):
        """(relevance of the scores (N, classes), prediction (N,), target class or -1 (N,)) for scores (N, classes).

        target: as in `relevance`. of_gradient: ones instead of the scores at the target. Raises LRPError for a class
        that does not exist.
        """
        if scores.ndim != 2:
            raise LRPError(f"{self._where}: scores of shape {scores.shape} found; (N, classes) wanted")
        prediction = scores.argmax(axis=1)
        if isinstance(target, np.ndarray) and target.ndim == 2:
            if target.shape != scores.shape:
                raise LRPError(f"target: output relevance of shape {target.shape} found; {scores.shape} wanted")
            return target.astype(scores.dtype), prediction, np.full(len(scores), -1)
        chosen = self._chosen(scores, target)
        relevance = np.zeros_like(scores)
        rows = np.arange(len(scores))[:, None]
        relevance[rows, chosen] = 1 if of_gradient else scores[rows, chosen]
        single = chosen[:, 0] if chosen.shape[1] == 1 else np.full(len(scores), -1)
        return relevance, prediction, single.astype(np.int64)

    def _gradient(self, x, target, relu):
        values, _ = self._forward(x)
        scores = values[self._output]
        start, _, _ = self.start(scores, target, of_gradient=True)
        gradients = {self._output: start}
        for node in reversed(self._nodes):
            above = [gradients.pop(top, None) for top in node.tops]
            if all(one is None for one in above):
                continue
            inputs, outputs = [values[bottom] for bottom in node.bottoms], [values[top] for top in node.tops]
            layer = node.layer
            if hasattr(layer, "join"):
                below = layer.part(layer.gradient([layer.join(inputs)], outputs, above)[0])
            elif isinstance(layer, ReLU):
                below = layer.gradient(inputs, outputs, above, relu)
            else:
                below = layer.gradient(inputs, outputs, above)
            for bottom, one in zip(node.bottoms, below, strict=True):
                gradients[bottom] = one if bottom not in gradients else gradients[bottom] + one
        return gradients[self._input]

    def _explain(self, x, target, rules, layers, absorbed):
        values, denominators = self._forward(x, rules)
        scores = values[self._output]
        start, prediction, chosen = self.start(scores, target)
        relevances = {self._output: start}
        by_layer, accounts = {}, {}
        for index in reversed(range(len(self._nodes))):
            node = self._nodes[index]
            layer = node.layer
            above = [relevances.pop(top, None) for top in node.tops]
            if all(one is None for one in above):
                continue
            for top, one in zip(node.tops, above, strict=True) if layers else ():
                if one is not None:
                    by_layer[layer.name if len(node.tops) == 1 else f"{layer.name}:{self._names[top]}"] = one
            inputs = [values[bottom] for bottom in node.bottoms]
            if layer.linear:
                joined = layer.join(inputs) if hasattr(layer, "join") else inputs[0]
                account = {} if absorbed else None
                below = propagation.backward(
                    layer, joined, above[0], rules[layer.name], denominators.pop(index), account
                )
                below = layer.part(below) if hasattr(layer, "part") else [below]
                if absorbed:
                    accounts[layer.name] = account
            else:
                below = layer.relevance(inputs, [values[top] for top in node.tops], above)
            for bottom, one in zip(node.bottoms, below, strict=True):
                relevances[bottom] = one if bottom not in relevances else relevances[bottom] + one
        return {
            "relevance": relevances[self._input],
            "scores": scores,
            "score": start.sum(axis=1, dtype=np.float64),
            "prediction": prediction,
            "target": chosen,
            "layers": by_layer,
            "absorbed": accounts,
        }
