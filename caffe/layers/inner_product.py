"""The inner product, a fully connected layer (docs/engine.md section 2.3)."""

from __future__ import annotations

import torch
from torch.nn import functional

from caffe.blob import Blob
from caffe.errors import CaffeError
from caffe.layer import Layer, register


@register
class InnerProduct(Layer):
    """y = x W^T + b over all axes from `axis` on (weights (num_output, K), or (K, num_output) if `transpose`)."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.inner_product_param
        self.check(param.num_output > 0, "a positive num_output", "0")
        self.axis = bottom[0].axis(param.axis)
        self.inputs = bottom[0].count_from(self.axis)
        shape = (param.num_output, self.inputs)
        self.add_param(shape[::-1] if param.transpose else shape, param.weight_filler)
        if param.bias_term:
            self.add_param((param.num_output,), param.bias_filler)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        found = bottom[0].count_from(self.axis)
        if found != self.inputs:
            raise CaffeError(f"{self.where}: Input size incompatible with inner product parameters", self.inputs, found)
        top[0].reshape(*bottom[0].shape[: self.axis], self.layer_param.inner_product_param.num_output)

    def weight(self) -> torch.Tensor:
        """The weights as a (num_output, K) view."""
        weight = self.blobs[0].value
        return weight.T if self.layer_param.inner_product_param.transpose else weight

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value.reshape(-1, self.inputs)
        bias = self.blobs[1].value if len(self.blobs) > 1 else None
        top[0].value = functional.linear(x, self.weight(), bias).reshape(top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        x = bottom[0].value.reshape(-1, self.inputs)
        dy = top[0].grad.reshape(x.shape[0], -1)
        if self.param_propagate_down[0]:
            transpose = self.layer_param.inner_product_param.transpose
            self.blobs[0].add_grad(x.T @ dy if transpose else dy.T @ x)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            self.blobs[1].add_grad(dy.sum(0))
        if propagate_down[0]:
            bottom[0].grad = (dy @ self.weight()).reshape(bottom[0].shape)
