"""The layer type that reads a database of images (docs/engine.md section 2.1)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from caffe import glog
from caffe.errors import CaffeError
from caffe.images import decode
from caffe.layer import register
from caffe.layers.images import Batch, ImageBatches
from caffe_proto import caffe_pb2, check_finite
from caffe_proto.database import Database


def datum_image(datum: caffe_pb2.Datum, color: bool | None, place: str) -> np.ndarray:
    """The uint8 or float32 array (channels, height, width) of a Datum; color: see caffe.images.decode. `place` names it
    in the CaffeError for what is no image."""
    if datum.encoded:
        return decode(datum.data, color, place).transpose(2, 0, 1)
    shape = (datum.channels, datum.height, datum.width)
    image = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, np.float32)
    whole = min(shape) > 0 and image.size == math.prod(shape)
    if not whole:
        raise CaffeError(place, f"the numbers of an image of shape {shape}", image.size)
    with CaffeError.of_files():  # bytes always are
        check_finite(image, place)
    return image.reshape(shape)


@register
class Data(ImageBatches):
    """Images with labels from an LMDB of Datum messages, in the order of their keys, from the last to the first again.

    Solvers that train together take turns, as with HDF5Data.
    """

    tops = (1, 2)

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        return self.layer_param.data_param.batch_size

    def open(self) -> tuple[int, int, int]:
        """Open the database; returns (channels, height, width) of what the first image becomes."""
        param = self.layer_param.data_param
        made = "backend: LMDB (of images, convert_imageset -backend=lmdb makes one)"
        self.check(param.backend == param.LMDB, param.source, made, "LEVELDB, which is also what no backend means")
        with CaffeError.of_files(self.where):
            self.database = Database(param.source)
            self.context.say(f"Opened lmdb {param.source}")
            self.check(self.database.first(), param.source, "a database with entries", "an empty one")
            self.offset = 0
            return self.transformation.shape(self.image(self.datum())[0])

    def where_now(self) -> str:
        """The entry at which the database is read, for messages."""
        return f"{self.where}: {self.layer_param.data_param.source}: key {self.database.key().decode('latin-1')!r}"

    def datum(self) -> caffe_pb2.Datum:
        """The entry now."""
        try:
            return caffe_pb2.Datum.FromString(self.database.value())
        except DecodeError:
            raise CaffeError(self.where_now(), "a Datum", "another message, or a damaged one") from None

    def image(self, datum: caffe_pb2.Datum) -> tuple[np.ndarray, int]:
        """(uint8 or float32 array (channels, height, width), label) of a Datum."""
        return datum_image(datum, self.transformation.color, self.where_now()), datum.label

    def advance(self) -> None:
        """Go on to the next entry."""
        self.offset += 1
        if not self.database.next():
            if self.context.is_root:
                glog.info("Restarting data prefetching from start.")
            self.database.first()

    def read(self) -> Batch:
        images, labels, places = [], [], []
        with CaffeError.of_files(self.where):
            while len(images) < self.batch_size:
                if not self.training or self.offset % self.context.solver_count == self.context.solver_rank:
                    image, label = self.image(self.datum())
                    place = self.where_now()
                    images.append(self.transformation(image, place))
                    labels.append(label)
                    places.append(place)
                self.advance()
        return self.join(images, labels, places)

    def place(self) -> dict[str, Any]:
        source = self.layer_param.data_param.source
        return {"source": source, "key": self.database.key().hex(), "offset": self.offset}

    def go_to(self, place: dict[str, Any]) -> None:
        source, key = self.layer_param.data_param.source, bytes.fromhex(place["key"])
        if place["source"] == source and self.database.find(key):
            self.offset = int(place["offset"])
        else:
            glog.warning(f"{self.where}: the stored data position is of another database than {source}; starts anew")
            self.database.first()
            self.offset = 0
