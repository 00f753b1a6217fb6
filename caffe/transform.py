"""What `transform_param` does to an image on its way into a net (docs/engine.md section 2.1)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from caffe import glog
from caffe.errors import CaffeError, check
from caffe_proto import blobproto_to_array, caffe_pb2, check_finite
from caffe_proto.files import read_binary


class Transformation:
    """(image - mean) * scale of a part of the image, maybe mirrored.

    The mean of `mean_file` has the image's own size and is cut as the image is. In phase TRAIN the part lies at random,
    in TEST in the middle; `mirror` turns half of the images in either phase. Draws come from one stream, see seed().
    """

    def __init__(self, param: caffe_pb2.TransformationParameter, training: bool, where: str):
        self.param, self.training, self.where = param, training, where
        self.seed(0)
        both = "Cannot specify mean_file and mean_value at the same time"
        check(not (param.HasField("mean_file") and len(param.mean_value)), f"{where}: {both}")
        check(not (param.force_color and param.force_gray), f"{where}: cannot set both force_color and force_gray")
        self.mean = read_mean(param.mean_file, where) if param.HasField("mean_file") else None

    def seed(self, seed: int | list[int]) -> None:
        """Start the stream anew."""
        self.random = np.random.Generator(np.random.PCG64(seed))

    @property
    def draws(self) -> bool:
        """True if it takes numbers from its stream."""
        return self.param.mirror or (self.training and self.param.crop_size > 0)

    @property
    def color(self) -> bool | None:
        """How an encoded image is to be read, for caffe.images.decode."""
        return True if self.param.force_color else False if self.param.force_gray else None

    def shape(self, image: np.ndarray) -> tuple[int, int, int]:
        """(channels, height, width) of what becomes of an image (channels, height, width)."""
        crop = self.param.crop_size
        return (len(image), crop, crop) if crop else image.shape

    def means(self, image: np.ndarray, place: str) -> np.ndarray | np.float32:
        """What is taken off an image (channels, height, width): an array that fits it, or a number."""
        if self.mean is not None:
            expected = f"an image of the size {self.mean.shape} of {self.param.mean_file}"
            check(image.shape == self.mean.shape, place, expected, image.shape)
            return self.mean
        given = np.array(self.param.mean_value, np.float32)
        check(
            given.size in (0, 1, len(image)),
            f"{place}: Specify either 1 mean_value or as many as channels",
            f"1 or {len(image)}",
            given.size,
        )
        return given.reshape(-1, 1, 1) if given.size else np.float32(0)

    def __call__(self, image: np.ndarray, place: str) -> np.ndarray:
        """The float32 array (channels, height, width) of an image alike, of uint8 or float32; `place` names it."""
        mirrored = self.param.mirror and self.random.integers(2)
        mean, crop = self.means(image, place), self.param.crop_size
        if crop:
            sizes = image.shape[1:]
            check(min(sizes) >= crop, place, f"an image of at least crop_size {crop}", f"{sizes[0]} x {sizes[1]}")
            room = [size - crop for size in sizes]
            start = [int(self.random.integers(r + 1)) if self.training else r // 2 for r in room]
            part = (slice(None), *(slice(s, s + crop) for s in start))
            image = image[part]
            mean = mean[part] if self.mean is not None else mean
        result = (image.astype(np.float32) - mean) * np.float32(self.param.scale)
        return result[..., ::-1] if mirrored else result

    def state(self) -> dict[str, Any]:
        """Where the stream is."""
        return self.random.bit_generator.state

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state() of before."""
        self.random.bit_generator.state = state


def read_mean(path: str, where: str) -> np.ndarray:
    """The float32 array (channels, height, width) of a BlobProto file with one image. Raises CaffeError."""
    glog.info(f"Loading mean file from: {path}")
    with CaffeError.of_files(where):
        mean = blobproto_to_array(read_binary(path, caffe_pb2.BlobProto()), path)
        check_finite(mean, path)
    check(
        mean.ndim >= 3 and mean.size == math.prod(mean.shape[-3:]),
        f"{where}: {path}",
        "the mean of one image (channels, height, width)",
        f"shape {mean.shape}",
    )
    return mean.reshape(mean.shape[-3:])
