"""Makes layers of the types that there are: all that caffe.layers holds, and those that are registered later."""

from __future__ import annotations

import caffe.layers  # noqa: F401  # its modules register their types
from caffe.context import Context
from caffe.errors import CaffeError
from caffe.layer import LAYERS, Layer
from caffe_proto import caffe_pb2


def layer_type_list() -> list[str]:
    """Sorted list of the known layer types (byte order), as pycaffe's function of that name."""
    return sorted(LAYERS)


def make_layer(layer_param: caffe_pb2.LayerParameter, phase: int, context: Context) -> Layer:
    """Create the layer that `layer_param` describes, which computes in `context`; unknown types list the known ones."""
    cls = LAYERS.get(layer_param.type)
    if cls is None:
        raise CaffeError(
            f"Unknown layer type: {layer_param.type} (known types: {', '.join(layer_type_list())}) "
            f"(layer '{layer_param.name}')"
        )
    return cls.make(layer_param, phase, context) if hasattr(cls, "make") else cls(layer_param, phase, context)
