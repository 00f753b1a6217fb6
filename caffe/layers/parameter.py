"""A learned blob as a top (docs/engine.md section 2.3)."""

from __future__ import annotations

from caffe.blob import Blob
from caffe.layer import Layer, register
from caffe_proto import caffe_pb2


@register
class Parameter(Layer):
    """A learned blob, zero at first, as a top: value and gradient are the parameter's own memory."""

    bottoms = (0, 0)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = self.layer_param.parameter_param.shape.dim
        self.add_param(tuple(shape), caffe_pb2.FillerParameter(type="constant"))

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape(*self.blobs[0].shape)
        top[0].alias(self.blobs[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: the memory is shared."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Nothing: the consumer has written the gradient."""
