"""Caffe's message schema and its files, read and written without any engine.

`caffe` (the runtime) and `lrp` (relevance in numpy) never import each other; both know Caffe's files through here.
"""

from caffe_proto import caffe_pb2
from caffe_proto.atomic import (
    WriteError,
    atomic_file,
    atomic_hdf5,
    make_folder,
    remove_leftovers,
    write_error,
    write_file,
)
from caffe_proto.errors import CaffeFileError, UserError, sentence
from caffe_proto.files import (
    array_to_blobproto,
    blobproto_to_array,
    check_finite,
    read_net,
    read_solver,
    read_solver_state,
    read_weights,
    write_message,
)
from caffe_proto.filtering import filter_net, is_kept, net_state

__all__ = [
    "CaffeFileError",
    "UserError",
    "WriteError",
    "array_to_blobproto",
    "atomic_file",
    "atomic_hdf5",
    "blobproto_to_array",
    "caffe_pb2",
    "check_finite",
    "filter_net",
    "is_kept",
    "make_folder",
    "net_state",
    "read_net",
    "read_solver",
    "read_solver_state",
    "read_weights",
    "remove_leftovers",
    "sentence",
    "write_error",
    "write_file",
    "write_message",
]
