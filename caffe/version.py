"""The version of BVLC Caffe whose behaviour this runtime has."""

__version__ = "1.0.0"
