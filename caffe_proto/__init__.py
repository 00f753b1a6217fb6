"""Caffe's message schema and its files, read and written without any engine.

`caffe` (the runtime) and `lrp` (relevance in numpy) never import each other; both know Caffe's files through here.
"""

from caffe_proto import caffe_pb2
from caffe_proto.errors import CaffeFileError
from caffe_proto.files import (
    array_to_blobproto,
    blobproto_to_array,
    check_finite,
    read_net,
    read_solver,
    read_solver_state,
    read_weights,
    write_atomically,
    write_message,
)

__all__ = [
    "CaffeFileError",
    "array_to_blobproto",
    "blobproto_to_array",
    "caffe_pb2",
    "check_finite",
    "read_net",
    "read_solver",
    "read_solver_state",
    "read_weights",
    "write_atomically",
    "write_message",
]
