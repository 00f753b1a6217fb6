"""Arrays, images and Caffe's messages: what pycaffe's `caffe.io` offers.

Images are float32 arrays H x W x K with values in [0, 1]; network inputs are float32 arrays K x H x W.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

import caffe_proto
from caffe_proto import CaffeFileError, caffe_pb2, sentence

# Luminance of linear red, green and blue: ITU-R BT.709
LUMINANCE = np.array([0.2125, 0.7154, 0.0721])
GAUSSIAN_STEPS = 4.0  # standard deviations at which the smoothing before a reduction is cut off


# -- messages ------------------------------------------------------------------------------------------------------


def blobproto_to_array(blob: caffe_pb2.BlobProto, return_diff: bool = False) -> np.ndarray:
    """The data (or diff) of a BlobProto as a float64 array in its shape, legacy 4-axis dims first.

    Raises ValueError if the number of elements does not fit the shape.
    """
    try:
        return caffe_proto.blobproto_to_array(blob, diff=return_diff).astype(np.float64)
    except CaffeFileError as error:
        raise ValueError(str(error)) from None


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> caffe_pb2.BlobProto:
    """A BlobProto of an array of any shape, and of its diff if given (same shape)."""
    return caffe_proto.array_to_blobproto(arr, diff)


def arraylist_to_blobprotovector_str(arraylist: Iterable[np.ndarray]) -> bytes:
    """Serialised BlobProtoVector (bytes) of a list of arrays."""
    return caffe_pb2.BlobProtoVector(blobs=[array_to_blobproto(arr) for arr in arraylist]).SerializeToString()


def blobprotovector_str_to_arraylist(str: bytes) -> list[np.ndarray]:  # noqa: A002 (pycaffe's argument name)
    """List of arrays from a serialised BlobProtoVector (bytes)."""
    return [blobproto_to_array(blob) for blob in caffe_pb2.BlobProtoVector.FromString(str).blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> caffe_pb2.Datum:
    """A Datum of a C x H x W array: uint8 as bytes, any other type as floats. `label`: int, left unset when None.

    Raises ValueError unless the array has three axes.
    """
    if arr.ndim != 3:
        raise ValueError("Incorrect array shape.")
    datum = caffe_pb2.Datum()
    datum.channels, datum.height, datum.width = arr.shape
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).ravel())
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum: caffe_pb2.Datum) -> np.ndarray:
    """The C x H x W array of a Datum: uint8 from bytes, else float64. Raises ValueError for an encoded image."""
    shape = (datum.channels, datum.height, datum.width)
    if datum.encoded:
        raise ValueError(sentence("Datum", "raw pixels or floats", "an encoded image"))
    if len(datum.data):
        return np.frombuffer(datum.data, dtype=np.uint8).reshape(shape).copy()
    return np.array(datum.float_data, dtype=float).reshape(shape)


# -- network inputs ------------------------------------------------------------------------------------------------


class Transformer:
    """Turns images into network inputs and back, by settings per input.

    inputs: {input name: blob shape (N, C, H, W)}.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]):
        self.inputs = inputs
        self.transpose = {}
        self.channel_swap = {}
        self.raw_scale = {}
        self.mean = {}
        self.input_scale = {}

    def __check_input(self, in_):
        if in_ not in self.inputs:
            raise Exception(f"{in_} is not one of the net inputs: {self.inputs}")

    def preprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """Input array K x H x W (float32) from an image H' x W' x K.

        In this order: resize to the input's size, transpose, swap channels, times raw scale, minus mean, times input
        scale. Unlike in the original, `data` itself is never changed.
        """
        self.__check_input(in_)
        image = np.asarray(data).astype(np.float32)  # a copy: scale and mean work in place
        size = tuple(self.inputs[in_][2:])
        if image.shape[:2] != size:
            image = resize_image(image, size)
        if self.transpose.get(in_) is not None:
            image = image.transpose(self.transpose[in_])
        if self.channel_swap.get(in_) is not None:
            image = image[list(self.channel_swap[in_]), :, :]
        if self.raw_scale.get(in_) is not None:
            image *= self.raw_scale[in_]
        if self.mean.get(in_) is not None:
            image -= self.mean[in_]
        if self.input_scale.get(in_) is not None:
            image *= self.input_scale[in_]
        return image

    def deprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """The image that `preprocess` made `data` (K x H x W, or 1 x K x H x W) from, but for its size."""
        self.__check_input(in_)
        image = np.array(data).squeeze()
        transpose = self.transpose.get(in_)
        if transpose is not None and image.ndim != len(transpose):
            image = image.reshape(np.shape(data)[-len(transpose) :])  # an axis of length 1 is no batch
        if self.input_scale.get(in_) is not None:
            image /= self.input_scale[in_]
        if self.mean.get(in_) is not None:
            image += self.mean[in_]
        if self.raw_scale.get(in_) is not None:
            image /= self.raw_scale[in_]
        if self.channel_swap.get(in_) is not None:
            image = image[np.argsort(self.channel_swap[in_]), :, :]
        if transpose is not None:
            image = image.transpose(np.argsort(transpose))
        return image

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Order of the image's axes in the input, e.g. (2, 0, 1) for H x W x K to K x H x W."""
        self.__check_input(in_)
        if len(order) != len(self.inputs[in_]) - 1:
            raise Exception("Transpose order needs to have the same number of dimensions as the input.")
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Order of the channels after the transpose, e.g. (2, 1, 0) for RGB to BGR."""
        self.__check_input(in_)
        if len(order) != self.inputs[in_][1]:
            raise Exception("Channel swap needs to have the same number of dimensions as the input channels.")
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Factor before the mean is subtracted, e.g. 255 for a mean in [0, 255]."""
        self.__check_input(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """Mean to subtract: one number per channel, or an array of the input's shape (resized to it if need be)."""
        self.__check_input(in_)
        channels, *size = self.inputs[in_][1:]
        if mean.ndim == 1:
            if mean.shape[0] != channels:
                raise ValueError("Mean channels incompatible with input.")
            mean = mean[:, np.newaxis, np.newaxis]
        elif mean.ndim not in (2, 3):
            raise ValueError("Mean shape invalid")
        elif mean.shape[-2:] != tuple(size) or (mean.ndim == 3 and mean.shape[0] != channels):
            planes = mean[np.newaxis] if mean.ndim == 2 else mean
            if planes.shape[0] not in (1, channels):
                raise ValueError("Mean channels incompatible with input.")
            mean = resize_image(planes.transpose(1, 2, 0), tuple(size)).transpose(2, 0, 1)
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Factor after the mean is subtracted."""
        self.__check_input(in_)
        self.input_scale[in_] = scale


# -- images --------------------------------------------------------------------------------------------------------


def load_image(filename: str | os.PathLike, color: bool = True) -> np.ndarray:
    """An image file as float32 in [0, 1], H x W x 3 (RGB; grey repeated, alpha dropped) or, without color, H x W x 1.

    Raises OSError for a file that is missing or no image.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(sentence("caffe.io.load_image", "the package pillow, which reads images", "none")) from None

    with Image.open(filename) as picture:
        pixels = _pixels(picture)
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, np.newaxis], 3 if color else 1, axis=2).astype(np.float32)
    pixels = pixels[:, :, :3]
    return (pixels if color else (pixels @ LUMINANCE)[:, :, np.newaxis]).astype(np.float32)


def _pixels(picture):
    """Pixels of a Pillow image as floats in [0, 1], H x W (grey) or H x W x 3."""
    if picture.mode in ("L", "1", "LA", "La"):
        return np.asarray(picture.convert("L")) / np.iinfo(np.uint8).max
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow may widen to 32 bits
        return np.asarray(picture) / np.iinfo(np.uint16).max
    if picture.mode == "F":
        return np.asarray(picture, dtype=float)
    return np.asarray(picture.convert("RGB")) / np.iinfo(np.uint8).max


def resize_image(im: np.ndarray, new_dims: Sequence[int] | np.ndarray, interp_order: int = 1) -> np.ndarray:
    """An image H x W x K resized to new_dims = (H', W'), float32.

    One or three channels: smoothed before a reduction, then interpolated between pixel centres and clipped to the
    image's range. The original takes this from scikit-image's `resize(..., mode="constant")`, whose results for
    interp_order 0 and 1 have been the same since its version 0.15; its higher orders changed, ours are splines.
    Other K: `scipy.ndimage.zoom`, corners on corners, as in the original.
    """
    from scipy import ndimage

    sizes = np.array(im.shape[:2], dtype=float)
    if im.shape[-1] not in (1, 3):
        scale = np.array(new_dims) / sizes
        return ndimage.zoom(im, (*scale, 1), order=interp_order).astype(np.float32)
    low, high = im.min(), im.max()
    if not high > low:
        return np.full((*new_dims, im.shape[-1]), low, dtype=np.float32)
    unit = (im - low) / (high - low)
    reduction = sizes / np.array(new_dims)
    smooth = (*np.maximum(0, (reduction - 1) / 2), 0)
    unit = ndimage.gaussian_filter(unit, smooth, mode="constant", truncate=GAUSSIAN_STEPS)
    resized = ndimage.zoom(unit, (*(1 / reduction), 1), order=interp_order, mode="grid-constant", grid_mode=True)
    return (np.clip(resized, 0, 1) * (high - low) + low).astype(np.float32)


def oversample(images: Iterable[np.ndarray], crop_dims: Sequence[int] | np.ndarray) -> np.ndarray:
    """Ten crops of each image: corners (top left, top right, bottom left, bottom right), centre, and all five mirrored.

    images: iterable of arrays H x W x K, all of one size. crop_dims: (h, w). Returns (10 * N, h, w, K) float32.
    """
    images = list(images)
    height, width, channels = images[0].shape
    h, w = crop_dims
    down, right = height - h, width - w
    corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
    crops = np.empty((len(images), 2, len(corners), h, w, channels), dtype=np.float32)
    for n, image in enumerate(images):
        for k, (y, x) in enumerate(corners):
            crops[n, 0, k] = image[y : y + h, x : x + w]
    crops[:, 1] = crops[:, 0, :, :, ::-1]
    return crops.reshape(-1, h, w, channels)
