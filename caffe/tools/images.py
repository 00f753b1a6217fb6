"""Images into databases, and their mean: convert_imageset, compute_image_mean, resize_and_crop_images."""

from __future__ import annotations

import argparse
import io
import os
import random

import numpy as np

from caffe import glog
from caffe.errors import CaffeError, check
from caffe.images import read_image, resize
from caffe.layers.database import datum_image
from caffe.layers.images import read_list
from caffe.tools.database import TOGETHER, check_backend, entries, new_database
from caffe_proto import array_to_blobproto, caffe_pb2, make_folder, write_file, write_message
from caffe_proto.texts import read_bytes, read_text

SAME = {"jpeg": "jpg"}  # endings that name one format


def ending(name: str) -> str:
    """The ending of a file's name, in small letters and one spelling; empty for none."""
    text = os.path.splitext(name)[1][1:].lower()
    return SAME.get(text, text)


def convert_imageset(flags: argparse.Namespace, root: str, list_file: str, name: str) -> None:
    """Write the images of a list with their labels into a database, keys `<line, 8 digits>_<file>`.

    A file that is no image is logged and left out, as in the original.
    """
    check_backend(flags.backend, "-backend")
    lines = read_list(list_file, "<file> <label>")
    if flags.shuffle:
        glog.info("Shuffling data")
        random.Random(flags.seed).shuffle(lines)
    glog.info(f"A total of {len(lines)} images.")
    size = (flags.resize_height, flags.resize_width)
    check((size[0] > 0) == (size[1] > 0), "-resize_height, -resize_width", "both or none", f"{size[0]} and {size[1]}")
    shape, count = None, 0
    with new_database(name) as put:
        for number, (file, label) in enumerate(lines):
            path = root + file
            try:
                image = read_image(path, not flags.gray, "image")
            except CaffeError as error:
                glog.error(str(error))
                continue
            datum = image_datum(image, path, size, flags.encoded, flags.encode_type)
            datum.label = label
            if flags.check_size and not datum.encoded:
                found = (datum.channels, datum.height, datum.width)
                shape = shape or found
                check(found == shape, path, f"an image of shape {shape}, as the first", found)
            put(f"{number:08}_{file}", datum)
            count += 1
            if count % TOGETHER == 0:
                glog.info(f"Processed {count} files.")
    if count % TOGETHER:
        glog.info(f"Processed {count} files.")


def image_datum(
    image: np.ndarray, path: str, size: tuple[int, int], encoded: bool, encode_type: str
) -> caffe_pb2.Datum:
    """The Datum of an image (H, W, channels) read from `path`, in another size unless that is (0, 0).

    Its numbers, or (`encoded`) a file of the format that the ending encode_type or that of the path names: the file
    itself where nothing changes.
    """
    if size[0]:
        image = resize(image, *size, path)
    if not encoded and not encode_type:
        height, width, channels = image.shape
        planes = np.ascontiguousarray(image.transpose(2, 0, 1))
        return caffe_pb2.Datum(channels=channels, height=height, width=width, data=planes.tobytes())
    kind = ending(f"x.{encode_type}") if encode_type else ending(path)
    if size[0] or kind != ending(path):
        return caffe_pb2.Datum(data=encode(image, kind, path), encoded=True)
    with CaffeError.of_files():
        return caffe_pb2.Datum(data=read_bytes(path, "an image file"), encoded=True)


def encode(image: np.ndarray, kind: str, path: str) -> bytes:
    """An image (H, W, 1 or 3; blue first) in the format that the ending `kind` names; JPEG of quality 95."""
    from PIL import Image

    stream = io.BytesIO()
    pixels = image[..., 0] if image.shape[2] == 1 else image[..., ::-1]
    try:
        Image.fromarray(pixels).save(stream, {"jpg": "jpeg"}.get(kind, kind) or None, quality=95)
    except (KeyError, ValueError, OSError):
        raise CaffeError(path, "-encode_type, an ending of image files such as png or jpg", repr(kind)) from None
    return stream.getvalue()


def compute_image_mean(flags: argparse.Namespace, source: str, output: str = "") -> None:
    """Write the mean of all images of a database as a BlobProto, and say the mean of each channel."""
    check_backend(flags.backend, "-backend")
    total, count = None, 0
    glog.info("Starting iteration")
    for place, datum in entries(source):
        image = datum_image(datum, None, place)
        if total is None:
            total = np.zeros(image.shape, np.float32)
        check(image.shape == total.shape, place, f"an image of shape {total.shape}, as the first", image.shape)
        total += image
        count += 1
        if count % (10 * TOGETHER) == 0:
            glog.info(f"Processed {count} files.")
    check(count, source, "a database with entries", "an empty one")
    if count % (10 * TOGETHER):
        glog.info(f"Processed {count} files.")
    total /= np.float32(count)
    blob = array_to_blobproto(total[None])
    blob.ClearField("shape")
    blob.num, blob.channels, blob.height, blob.width = 1, *total.shape
    if output:
        glog.info(f"Write to {output}")
        write_message(output, blob)
    glog.info(f"Number of channels: {len(total)}")
    for channel, values in enumerate(total):
        glog.info(f"mean_value channel [{channel}]: {glog.g(values.mean(dtype=np.float64))}")


def resize_and_crop_images(flags: argparse.Namespace) -> None:
    """Write the images of a list resized so that the shorter side is `output_side_length`, and cut to a square."""
    side = flags.output_side_length
    check(side > 0, "-output_side_length", "a positive number", side)
    with CaffeError.of_files():
        names = read_text(flags.input_file_list, "a list of image files").split("\n")
    for name in filter(None, (line.strip() for line in names)):
        plain = os.path.normpath(name)
        leaves = os.path.isabs(plain) or plain.split(os.sep)[0] == os.pardir
        check(not leaves, flags.input_file_list, "names of files in -output_folder", repr(name))
        path = os.path.join(flags.input_folder, name)
        image = read_image(path, True, "image")
        height, width = image.shape[:2]
        sizes = (side, side * width // height) if height < width else (side * height // width, side)
        image = resize(image, *sizes, path)
        top, left = (sizes[0] - side) // 2, (sizes[1] - side) // 2
        target = os.path.join(flags.output_folder, name)
        make_folder(os.path.dirname(target) or ".")
        write_file(target, encode(image[top : top + side, left : left + side], ending(name), path))
