"""Image classification with any network: crops, preprocessing and averaged predictions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np

import caffe.io
from caffe.pycaffe import Net
from caffe_proto.caffe_pb2 import TEST

CHANNELS_FIRST = (2, 0, 1)  # H x W x K images to K x H x W inputs
CROPS = 10  # of caffe.io.oversample


class Classifier(Net):
    """A net in TEST phase that takes images H x W x K with values in [0, 1].

    model_file, pretrained_file: deploy prototxt and weights.
    image_dims: (H, W) that images are resized to before cropping; default: the input's size.
    mean, input_scale, raw_scale, channel_swap: see caffe.io.Transformer.
    """

    def __init__(
        self,
        model_file: str | os.PathLike,
        pretrained_file: str | os.PathLike,
        image_dims: Sequence[int] | np.ndarray | None = None,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ):
        super().__init__(model_file, TEST, weights=pretrained_file)
        in_ = self.inputs[0]
        self.transformer = input_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[in_].data.shape[2:])
        self.image_dims = self.crop_dims if image_dims is None or len(image_dims) == 0 else image_dims

    def predict(self, inputs: Iterable[np.ndarray], oversample: bool = True) -> np.ndarray:
        """Predictions (N, classes) for N images: the net's first output, per image.

        inputs: iterable of arrays H x W x K. With `oversample` the mean over ten crops (caffe.io.oversample), else the
        centre crop.
        """
        images = np.array([caffe.io.resize_image(image, self.image_dims) for image in inputs])
        if oversample:
            crops = caffe.io.oversample(images, self.crop_dims)
        else:
            top, left = (np.array(self.image_dims) - self.crop_dims) // 2
            crops = images[:, top : top + self.crop_dims[0], left : left + self.crop_dims[1], :]
        in_ = self.inputs[0]
        batch = np.array([self.transformer.preprocess(in_, crop) for crop in crops])
        predictions = self.forward_all(**{in_: batch})[self.outputs[0]]
        if oversample:
            predictions = predictions.reshape(len(predictions) // CROPS, CROPS, -1).mean(1)
        return predictions


def input_transformer(
    net: Net,
    mean: np.ndarray | None,
    input_scale: float | None,
    raw_scale: float | None,
    channel_swap: Sequence[int] | None,
) -> caffe.io.Transformer:
    """The Transformer from images H x W x K to the first input of `net`; settings that are None are left out."""
    in_ = net.inputs[0]
    transformer = caffe.io.Transformer({in_: net.blobs[in_].data.shape})
    transformer.set_transpose(in_, CHANNELS_FIRST)
    for setter, value in (
        (transformer.set_mean, mean),
        (transformer.set_input_scale, input_scale),
        (transformer.set_raw_scale, raw_scale),
        (transformer.set_channel_swap, channel_swap),
    ):
        if value is not None:
            setter(in_, value)
    return transformer
