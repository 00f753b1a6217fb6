"""Image files as OpenCV, and so BVLC Caffe, gives them: uint8 arrays (H, W, channels), blue first; and their sizes.

Pillow decodes. Formats without loss give OpenCV's bytes; so does JPEG where both have the same libjpeg, and may else
differ by a step or two.
"""

from __future__ import annotations

import io
import struct

import numpy as np

from caffe.errors import CaffeError
from caffe_proto.memory import check_memory
from caffe_proto.texts import read_bytes

FORMATS = ("BMP", "JPEG", "JPEG2000", "PNG", "PPM", "SUN", "TIFF", "WEBP")  # OpenCV's; of others some start programs
# What Pillow says of damaged files
BROKEN = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error)
# Shares of red, green and blue in a grey value: libpng's of 2^15, where grey pixels stay as they are, and OpenCV's own
# of 2^14, rounded, for files of other formats (both from 0.299, 0.587 and 0.114)
PNG_GREY, OTHER_GREY = (9797, 19234, 3737), (4899, 9617, 1868)
BITS = 11  # of a weight in resize()


def read_image(path: str, color: bool | None, place: str) -> np.ndarray:
    """decode() of a file; CaffeError names `place` and the file."""
    with CaffeError.of_files(place):
        content = read_bytes(path, "an image file")
    return decode(content, color, f"{place}: {path}")


def decode(content: bytes, color: bool | None, place: str) -> np.ndarray:
    """The uint8 array (H, W, channels) of an encoded image: blue, green, red, alpha.

    color: True for three channels, False for one, None for as many as the image has (1, 3 or 4). Raises CaffeError with
    `place` for what is no image, and for 16 bits with color None, as the original does.
    """
    from PIL import Image, ImageOps

    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        png = image.format == "PNG"
        if color is False and image.format == "JPEG":
            image.draft("L", None)  # the grey values that the file holds
        if color is not None:
            image = ImageOps.exif_transpose(image)
        return _array(image, color, png, place)
    except Image.DecompressionBombError as error:
        raise CaffeError(place, "an image file", error) from None
    except BROKEN as error:
        raise CaffeError(place, "an image file", f"{type(error).__name__}: {error}") from None


def _array(image, color, png, place):
    mode = image.mode
    if mode.startswith("I;16") or mode == "I":
        if color is None:
            raise CaffeError(place, "8 bits for every value", "16")
        grey = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3 if color else 1, 2)
    if mode in ("1", "L") and not color:
        return np.asarray(image.convert("L"))[..., None]
    if color is None and (mode in ("RGBA", "LA", "PA") or "transparency" in image.info):
        return np.asarray(image.convert("RGBA"))[..., [2, 1, 0, 3]]
    bgr = np.asarray(image.convert("RGB"))[..., ::-1]
    return _grey(bgr, png) if color is False else bgr


def _grey(bgr, png):
    """(H, W, 1) from (H, W, 3), as the library has it that OpenCV reads the file with."""
    blue, green, red = np.moveaxis(bgr.astype(np.uint32), 2, 0)
    shares = PNG_GREY if png else OTHER_GREY
    mixed = red * shares[0] + green * shares[1] + blue * shares[2]
    if not png:
        return ((mixed + 2**13) >> 14).astype(np.uint8)[..., None]
    return np.where((red == green) & (green == blue), red, mixed >> 15).astype(np.uint8)[..., None]


def resize(image: np.ndarray, height: int, width: int, place: str = "image") -> np.ndarray:
    """A uint8 image (H, W, channels) in another size: bilinear without smoothing, in OpenCV's integers, to the bit.

    `place` names it in the CaffeError for what is larger than memory.
    """
    if image.shape[:2] == (height, width):
        return image
    with CaffeError.of_files():
        between = 8 * image.shape[2] * width * (image.shape[0] + height)
        check_memory(between, place, "an image on its way to its new size")
    first, share = _places(image.shape[1], width)
    share = np.where((first < 0) | (first >= image.shape[1] - 1), 0, share)  # beyond the border: its value
    first = first.clip(0, image.shape[1] - 1)
    weights = _weights(share)[..., None]
    after = np.minimum(first + 1, image.shape[1] - 1)
    rows = image[:, first].astype(np.int64) * weights[0] + image[:, after] * weights[1]
    first, share = _places(image.shape[0], height)
    weights = _weights(share)[..., None, None]
    found = 0
    for k in (0, 1):
        found = found + ((weights[k] * (rows[(first + k).clip(0, image.shape[0] - 1)] >> 4)) >> 16)
    return ((found + 2) >> 2).astype(np.uint8)


def _places(size, new):
    """Of `new` places along `size` values: the value before each (int array), and how far behind it (float32)."""
    places = ((np.arange(new) + 0.5) * (size / new) - 0.5).astype(np.float32)
    first = np.floor(places).astype(np.int64)
    return first, places - first.astype(np.float32)


def _weights(share):
    """The weights (2, n) of the values before and behind, of 2^BITS."""
    share = share.astype(np.float32)
    return np.rint(np.stack([1 - share, share]) * np.float32(2**BITS)).astype(np.int64)
