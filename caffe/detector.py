"""Classification of image windows (R-CNN style: each window warped to the input size, with surrounding context)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

import caffe.io
from caffe.classifier import input_transformer
from caffe.pycaffe import Net
from caffe_proto import sentence
from caffe_proto.caffe_pb2 import TEST


class Detector(Net):
    """A net in TEST phase that scores windows of image files.

    context_pad: pixels of context around the window in the input (scaled with the window); None or 0: none.
    The other arguments are those of caffe.Classifier.
    """

    def __init__(
        self,
        model_file: str | os.PathLike,
        pretrained_file: str | os.PathLike,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ):
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = input_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(
        self, images_windows: Iterable[tuple[str | os.PathLike, Iterable[Sequence[float]]]]
    ) -> list[dict[str, Any]]:
        """Predictions for windows of images.

        images_windows: iterable of (image file, iterable of windows (ymin, xmin, ymax, xmax) in pixels).
        Returns a list of dicts with `window`, `prediction` (1-D array) and `filename`, in the order given.
        """
        detections, crops = [], []
        for filename, windows in images_windows:
            image = caffe.io.load_image(filename)
            for window in windows:
                detections.append({"window": window, "filename": filename})
                crops.append(self.crop(image, window))
        if not detections:
            return []
        in_ = self.inputs[0]
        batch = np.array([self.transformer.preprocess(in_, crop) for crop in crops])
        predictions = self.forward_all(**{in_: batch})[self.outputs[0]]
        for detection, prediction in zip(detections, predictions.reshape(len(detections), -1), strict=True):
            detection["prediction"] = prediction
        return detections

    def detect_selective_search(self, image_fnames: Iterable[str]) -> list[dict[str, Any]]:
        """`detect_windows` over the windows that the external selective search package proposes for each file."""
        try:
            import selective_search_ijcv_with_python as selective_search
        except ImportError:
            package = "the package selective_search_ijcv_with_python, which proposes the windows"
            raise ImportError(sentence("detect_selective_search", package, "none of this name")) from None
        image_fnames = list(image_fnames)
        windows = selective_search.get_windows(image_fnames, cmd="selective_search_rcnn")
        return self.detect_windows(zip(image_fnames, windows, strict=True))

    def crop(self, im: np.ndarray, window: Sequence[float] | np.ndarray) -> np.ndarray:
        """The window of image `im` (H x W x K), or with context the input-sized crop around it.

        With context: the window grown about its centre so that, warped to the input's size, `context_pad` pixels remain
        on every side; what lies outside the image is filled with the mean.
        """
        window = np.asarray(window)
        if not self.context_pad:
            top, left, bottom, right = (int(edge) for edge in window)
            return im[top:bottom, left:right]
        size = self.blobs[self.inputs[0]].width
        # all in (y, x) pairs; window edges are inclusive pixels, so the extent is max - min + 1
        half = (window[2:] - window[:2] + 1) / 2.0
        centre = window[:2] + half
        grown = half * size / (size - 2.0 * self.context_pad)
        start, stop = np.round(centre - grown), np.round(centre + grown)
        scale = size / (stop - start + 1)
        pad = np.round(np.maximum(0, -start) * scale).astype(int)
        limits = np.array(im.shape[:2])
        start, stop = np.clip(start, 0, limits), np.clip(stop, 0, limits)
        if not np.all(stop > start):
            image = f"a part of the image of {limits[0]} x {limits[1]} pixels"
            raise ValueError(sentence(f"window {tuple(window.tolist())}", image, "what lies outside"))
        warped = np.minimum(np.round((stop - start + 1) * scale).astype(int), size - pad)
        (top, left), (bottom, right) = start.astype(int), stop.astype(int)
        crop = np.ones(self.crop_dims, dtype=np.float32) * self.crop_mean
        crop[pad[0] : pad[0] + warped[0], pad[1] : pad[1] + warped[1]] = caffe.io.resize_image(
            im[top:bottom, left:right], tuple(warped)
        )
        return crop

    def configure_crop(self, context_pad: int | None) -> None:
        """Set the context, and the fill value of crops: the mean, taken back to the space of unprocessed images."""
        in_ = self.inputs[0]
        back = np.argsort(self.transformer.transpose[in_])  # input axes in image order
        self.crop_dims = np.array(self.blobs[in_].data.shape[1:])[back]
        self.context_pad = context_pad
        if not self.context_pad:
            return
        mean = self.transformer.mean.get(in_)
        if mean is None:
            self.crop_mean = np.zeros(self.crop_dims, dtype=np.float32)
            return
        mean = np.broadcast_to(mean, self.blobs[in_].data.shape[1:])
        swap, raw_scale = self.transformer.channel_swap.get(in_), self.transformer.raw_scale.get(in_)
        if swap is not None:
            mean = mean[np.argsort(swap)]
        self.crop_mean = mean.transpose(back) / (1 if raw_scale is None else raw_scale)
