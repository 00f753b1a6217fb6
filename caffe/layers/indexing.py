"""Layer types that pick rows by number or by a selector (docs/engine.md section 2.3)."""

from __future__ import annotations

import torch

from caffe.blob import Blob
from caffe.errors import CaffeError
from caffe.layer import Layer, register


@register
class Embed(Layer):
    """Row int(x) of the weights (input_dim, num_output) for every element x of the bottom, plus the bias."""

    in_place = False
    needs_host = "checks its indices"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.embed_param
        self.check(param.num_output > 0, "EmbedLayer num_output must be positive.")
        self.check(param.input_dim > 0, "EmbedLayer input_dim must be positive.")
        self.add_param((param.input_dim, param.num_output), param.weight_filler)
        if param.bias_term:
            self.add_param((param.num_output,), param.bias_filler)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape(*bottom[0].shape, self.layer_param.embed_param.num_output)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.rows = read_indices(self, bottom[0], self.layer_param.embed_param.input_dim)
        y = self.blobs[0].value[self.rows]
        if len(self.blobs) > 1:
            y += self.blobs[1].value
        top[0].value = y.reshape(top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not propagate_down[0], "Can't backpropagate to EmbedLayer input.")
        dy = top[0].grad.reshape(self.rows.numel(), -1)
        if self.param_propagate_down[0]:
            self.blobs[0].add_grad(torch.zeros_like(self.blobs[0].value).index_add_(0, self.rows, dy))
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            self.blobs[1].add_grad(dy.sum(0))


def read_indices(layer: Layer, blob: Blob, rows: int) -> torch.Tensor:
    """The elements of `blob` as int64 (count,), truncated towards 0; raises CaffeError outside 0..rows-1."""
    indices = blob.value.flatten().long()
    wrong = ((indices < 0) | (indices >= rows)).nonzero()
    if len(wrong):
        place = wrong[0].item()
        raise CaffeError(layer.where, f"0..{rows - 1}", f"index {indices[place].item()} at element {place}")
    return indices


@register
class BatchReindex(Layer):
    """Items of bottom 0 in the order that bottom 1 (one axis) names; items may repeat or be left out."""

    bottoms = (2, 2)
    in_place = False
    no_gradient_to = (1,)
    needs_host = "checks its indices"

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check(bottom[1].num_axes == 1, "indices along one axis", f"shape {bottom[1].shape_string}")
        top[0].reshape(bottom[1].shape[0], *bottom[0].shape[1:])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.rows = read_indices(self, bottom[1], bottom[0].shape[0])
        top[0].value = bottom[0].value[self.rows]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not propagate_down[1], "Cannot backprop to index.")
        if propagate_down[0]:
            bottom[0].grad = torch.zeros_like(bottom[0].value).index_add_(0, self.rows, top[0].grad)


@register
class Filter(Layer):
    """Every top is the items of its bottom whose selector (the last bottom) is not zero."""

    bottoms = (2, None)
    tops = (1, None)
    in_place = False
    needs_host = "has tops whose shapes depend on the data"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check(len(top) == len(bottom) - 1, "one top less than bottoms", f"{len(top)} for {len(bottom)}")
        self.rows = None

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        *inputs, selector = bottom
        self.check(
            selector.count == selector.shape[0],
            "Selector blob must have all axes but the first of size 1",
            f"{selector.shape[0]} elements",
            f"shape {selector.shape_string}",
        )
        for i, blob in enumerate(inputs):
            self.check(
                blob.shape[0] == selector.shape[0],
                "Each bottom should have the same 0th dimension as the selector blob",
                f"{selector.shape[0]} for bottom[{i}]",
                blob.shape[0],
            )
        # At construction the selector is not computed yet, and the tops show how large they may become.
        first, self.rows = self.rows is None, selector.value.flatten().nonzero().flatten()
        for blob, result in zip(inputs, top, strict=True):
            result.reshape(blob.shape[0] if first else len(self.rows), *blob.shape[1:])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for blob, result in zip(bottom[:-1], top, strict=True):
            result.reshape(len(self.rows), *blob.shape[1:])
            result.value = blob.value[self.rows]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not propagate_down[-1], "FilterLayer cannot backpropagate to filter index inputs")
        for blob, result, wanted in zip(bottom[:-1], top, propagate_down[:-1], strict=True):
            if wanted:
                blob.grad = torch.zeros_like(blob.value).index_copy_(0, self.rows, result.grad)
