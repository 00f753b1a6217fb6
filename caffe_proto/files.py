"""Reading and writing Caffe's files: prototxt (text), caffemodel and solverstate (binary or HDF5).

Every reader upgrades legacy forms (`caffe_proto.upgrade`) and raises `CaffeFileError`, one sentence that names the
file, what was expected and what there is.
"""

from __future__ import annotations

import math
import os
import re
from typing import TypeVar

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message

from caffe_proto import caffe_pb2
from caffe_proto.atomic import write_file
from caffe_proto.errors import CaffeFileError
from caffe_proto.hdf5 import open_hdf5
from caffe_proto.texts import read_bytes, read_text
from caffe_proto.upgrade import upgrade_net, upgrade_solver

Kind = TypeVar("Kind", bound=Message)
MAX_AXES = 32  # of a blob
MOST = 2**31 - 1  # numbers of a blob
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BLOB_NUMBER = re.compile(r"0|[1-9][0-9]{0,2}")  # a layer has a handful of blobs


def _check_found(path):
    if not os.path.exists(path):
        raise CaffeFileError(f"File not found: {path}")  # BVLC Caffe's words


def _parse_text(path, message, kind):
    _check_found(path)
    place = f"Failed to parse {kind} file: {path}"
    try:
        text_format.Parse(read_text(path, f"a text prototxt ({kind})"), message)
    except text_format.ParseError as error:
        raise CaffeFileError(f"{place}: {error}") from None
    for setting, value in _numbers(message):
        if not math.isfinite(value):
            raise CaffeFileError(f"{path}: {setting}", "a finite number", value)
    return message


def _numbers(message, place=""):
    """(where it stands, number) of every setting that is a float; blobs are looked at as they are loaded."""
    for field, value in message.ListFields():
        many = not isinstance(value, (Message, float))
        if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
            yield from ((place + field.name, number) for number in (value if many else [value]))
        elif field.message_type is not None and field.message_type.name != "BlobProto":
            for index, inner in enumerate(value if many else [value]):
                name = f"{field.name} '{inner.name}': " if field.name == "layer" else f"{field.name}[{index}]."
                yield from _numbers(inner, place + (name if many else f"{field.name}."))


def read_binary(path: str | os.PathLike, message: Kind) -> Kind:
    """A binary protobuf file, read into the message, which is returned. Raises CaffeFileError."""
    _check_found(path)
    what = f"a binary {type(message).__name__}"
    content = read_bytes(path, what)
    try:
        message.ParseFromString(content)
    except DecodeError:
        got = f"{len(content)} bytes that are not a complete one (truncated, or another kind of file)"
        raise CaffeFileError(path, what, got) from None
    if not _is_text(message):
        raise CaffeFileError(path, what, "a text in it that is no UTF-8")
    return message


def _is_text(message):
    """Whether all texts of a message are UTF-8; those that are not are bytes."""
    for field, value in message.ListFields():
        values = [value] if isinstance(value, (Message, str, bytes)) else value
        if field.type == field.TYPE_MESSAGE and not all(map(_is_text, values)):
            return False
        if field.type == field.TYPE_STRING and any(isinstance(one, bytes) for one in values):
            return False
    return True


def is_hdf5(path: str | os.PathLike) -> bool:
    """True if the file at `path` starts with the HDF5 signature (Caffe looks at the content, not the extension).

    Raises CaffeFileError for one that cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE
    except OSError as error:
        raise CaffeFileError(path, "a file that can be read", error.strerror or error) from None


def read_net(path: str | os.PathLike) -> caffe_pb2.NetParameter:
    """Read a network definition from a prototxt text file, upgraded to the current form.

    Returns a `caffe_pb2.NetParameter`. Raises CaffeFileError if the file is missing, does not parse (unknown field,
    wrong type, singular field given twice: the message has line and column) or mixes legacy and current layers.
    """
    net = _parse_text(path, caffe_pb2.NetParameter(), "NetParameter")
    upgrade_net(net, path)
    return net


def read_solver(path: str | os.PathLike) -> caffe_pb2.SolverParameter:
    """Read a solver definition from a prototxt text file, upgraded; returns a `caffe_pb2.SolverParameter`."""
    solver = _parse_text(path, caffe_pb2.SolverParameter(), "SolverParameter")
    upgrade_solver(solver, path)
    return solver


def read_solver_state(path: str | os.PathLike) -> caffe_pb2.SolverState:
    """Read a binary .solverstate; returns a `caffe_pb2.SolverState`."""
    return read_binary(path, caffe_pb2.SolverState())


def read_binary_net(path: str | os.PathLike) -> caffe_pb2.NetParameter:
    """Read a binary .caffemodel, upgraded; returns a `caffe_pb2.NetParameter` with blobs."""
    net = read_binary(path, caffe_pb2.NetParameter())
    upgrade_net(net, path)
    return net


def read_weights(path: str | os.PathLike) -> dict[str, list[np.ndarray | None]]:
    """Read the weights of a trained network, binary .caffemodel or HDF5 (told apart by content).

    Returns a dict {layer name: [float32 arrays]} in the file's order; binary arrays have the stored shape (legacy
    4-axis dims stay 4-axis). HDF5 files hold `/data/<layer>/<index>`; a blob that the file leaves out because it is
    shared from another layer is returned as None. Raises CaffeFileError, also for numbers that are not finite: some
    layers make ordinary values of them (oneDNN's convolution with a ReLU makes NaN 0), and nobody would notice.
    """
    if not os.path.isfile(path):
        raise CaffeFileError(f"File not found: {path}")
    with np.errstate(over="ignore"):  # a double that is too large for float32 becomes infinite, which is refused below
        weights = _read_hdf5_weights(path) if is_hdf5(path) else _read_binary_weights(path)
    for layer, arrays in weights.items():
        for index, array in enumerate(arrays):
            if array is not None:
                check_finite(array, f"{path}: layer {layer}: blob {index}")
    return weights


def check_finite(array: np.ndarray, where: str) -> None:
    """Raise CaffeFileError, which says how many of its numbers are wrong, unless all of `array` are finite."""
    wrong = array.size - np.count_nonzero(np.isfinite(array))
    if wrong:
        raise CaffeFileError(where, "finite numbers", f"{wrong} of {array.size} that are NaN or infinite")


def _read_binary_weights(path):
    net = read_binary_net(path)
    if not net.layer:
        raise CaffeFileError(path, "trained weights (a NetParameter with blobs)", "no layers")
    return {
        layer.name: [blobproto_to_array(blob, f"{path}: layer {layer.name}") for blob in layer.blobs]
        for layer in net.layer
    }


def _read_hdf5_weights(path):
    weights = {}
    with open_hdf5(path, "HDF5 weights of a Caffe net") as content:
        for layer in content.names("data"):
            names = content.names(f"data/{layer}")
            wrong = [name for name in names if not _BLOB_NUMBER.fullmatch(name)]
            if wrong:
                expected = "blobs numbered from 0 to 999"
                raise CaffeFileError(f"{path}: layer {layer}", expected, repr(wrong[0]))
            count = 1 + max(map(int, names), default=-1)
            weights[layer] = [content.floats(f"data/{layer}/{i}") if str(i) in names else None for i in range(count)]
    return weights


def blobproto_shape(blob: caffe_pb2.BlobProto) -> tuple[int, ...]:
    """Shape of a BlobProto as a tuple: the legacy num/channels/height/width if any is present, else `shape`."""
    if any(blob.HasField(field) for field in ("num", "channels", "height", "width")):
        return (blob.num, blob.channels, blob.height, blob.width)
    return tuple(blob.shape.dim)


def blobproto_to_array(
    blob: caffe_pb2.BlobProto, where: str | os.PathLike = "BlobProto", diff: bool = False
) -> np.ndarray:
    """The float32 array of a BlobProto (its `diff` if asked), in its stored shape; double data is converted.

    Raises CaffeFileError for what is no shape, and if the number of elements does not fit it.
    """
    single, double = (blob.diff, blob.double_diff) if diff else (blob.data, blob.double_data)
    values = np.array(double if len(double) else single, dtype=np.float32)
    shape = blobproto_shape(blob)
    if len(shape) > MAX_AXES or min(shape, default=0) < 0:
        raise CaffeFileError(where, f"a blob of at most {MAX_AXES} axes of length >= 0", f"shape {shape}")
    if values.size != math.prod(shape):
        raise CaffeFileError(where, f"the numbers of a blob of shape {shape}", f"{values.size} numbers")
    if math.prod(max(length, 1) for length in shape) > MOST:  # numpy refuses huge lengths beside one of 0 too
        raise CaffeFileError(where, f"a blob of at most {MOST} numbers", f"shape {shape}")
    return values.reshape(shape)


def array_to_blobproto(array: np.ndarray, diff: np.ndarray | None = None) -> caffe_pb2.BlobProto:
    """A BlobProto with `shape` and float32 `data` (and `diff`) of the given arrays."""
    blob = caffe_pb2.BlobProto()
    array = np.asarray(array)
    blob.shape.dim.extend(array.shape)
    _set_packed(blob, "data", array)
    if diff is not None:
        _set_packed(blob, "diff", diff)
    return blob


def _set_packed(blob, field, array):
    """Set an empty packed float field from its bytes on the wire; one number at a time takes seconds for a network."""
    content = np.ascontiguousarray(array, dtype="<f4").tobytes()
    number, length = blob.DESCRIPTOR.fields_by_name[field].number, len(content)
    header = bytearray([number << 3 | 2])  # wire type 2: a length and as many bytes
    while length > 127:
        header.append(length & 127 | 128)
        length >>= 7
    header.append(length)
    blob.MergeFromString(bytes(header) + content)


def write_message(path: str | os.PathLike, message: Message) -> None:
    """Write a protobuf message in binary form, atomically and fsynced."""
    write_file(path, message.SerializeToString())
