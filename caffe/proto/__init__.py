"""Caffe's messages under pycaffe's name: `from caffe.proto import caffe_pb2`."""

import sys

from caffe_proto import caffe_pb2

# one module object under both names: a second copy would register every message twice
sys.modules[f"{__name__}.caffe_pb2"] = caffe_pb2

__all__ = ["caffe_pb2"]
