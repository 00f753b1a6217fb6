"""Who looks at a net between its layers: callbacks, and the lines of debug_info (docs/engine.md section 6.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from caffe import glog
from caffe.blob import Blob
from caffe.build import NamedBlob, Node


class Observer:
    """Looks at a net's `nodes`, `blobs` (caffe.build's records of both) and learnable `params`.

    Calls the functions in before["forward"] and so on with a layer's index, and logs every blob while debug_info().
    """

    def __init__(
        self, nodes: Sequence[Node], blobs: Sequence[NamedBlob], params: Sequence[Blob], debug_info: Callable[[], bool]
    ):
        self.nodes, self.blobs, self.params, self.debug_info = nodes, blobs, params, debug_info
        self.before = {"forward": [], "backward": []}
        self.after = {"forward": [], "backward": []}

    def reason(self) -> str | None:
        """Why nothing else than a plain plan will do, as a text, or None."""
        if self.debug_info():
            return "debug_info looks at every blob"
        if any((*self.before.values(), *self.after.values())):
            return "callbacks are called between the layers"
        return None

    def before_forward(self, i: int) -> None:
        """Before the forward pass of layer `i`."""
        for callback in self.before["forward"]:
            callback(i)

    def after_forward(self, i: int) -> None:
        """After the forward pass of layer `i`."""
        if self.debug_info():
            self._log_forward(i)
        for callback in self.after["forward"]:
            callback(i)

    def before_backward(self, i: int) -> None:
        """Before the backward pass of layer `i`."""
        for callback in self.before["backward"]:
            callback(i)

    def after_backward(self, i: int) -> None:
        """After the backward pass of layer `i`."""
        if self.debug_info() and self.nodes[i].need_backward:
            self._log_backward(i)
        for callback in self.after["backward"]:
            callback(i)

    def after_all(self) -> None:
        """After a whole backward pass."""
        if not self.debug_info():
            return
        norms = [
            [float(sum(t.abs().sum() for t in ts)), float(sum((t * t).sum() for t in ts)) ** 0.5]
            for ts in ([p.value for p in self.params], [p.grad for p in self.params])
        ]
        glog.error(
            f"    [Backward] All net params (data, diff): L1 norm = ({glog.g(norms[0][0])}, "
            f"{glog.g(norms[1][0])}); L2 norm = ({glog.g(norms[0][1])}, {glog.g(norms[1][1])})"
        )

    def _log_forward(self, i):
        node, blobs = self.nodes[i], self.blobs
        for k, blob in zip(node.top_ids, node.tops, strict=True):
            glog.info(f"    [Forward] Layer {node.name}, top blob {blobs[k].name} data: {_mean_abs(blob.value)}")
        for j, blob in enumerate(node.layer.blobs):
            specs = node.param.param
            name = specs[j].name if j < len(specs) and specs[j].name else str(j)
            glog.info(f"    [Forward] Layer {node.name}, param blob {name} data: {_mean_abs(blob.value)}")

    def _log_backward(self, i):
        node, blobs = self.nodes[i], self.blobs
        for k, blob, need in zip(node.bottom_ids, node.bottoms, node.propagate_down, strict=True):
            if need:
                glog.info(f"    [Backward] Layer {node.name}, bottom blob {blobs[k].name} diff: {_mean_abs(blob.grad)}")
        for j, blob in enumerate(node.layer.blobs):
            if node.layer.param_propagate_down[j]:
                glog.info(f"    [Backward] Layer {node.name}, param blob {j} diff: {_mean_abs(blob.grad)}")


def _mean_abs(tensor):
    return glog.g(tensor.abs().sum() / max(tensor.numel(), 1))
