"""Layers that users write in Python: `python_param { module layer param_str }` (docs/engine.md section 6.5)."""

from __future__ import annotations

import importlib
import importlib.util
import sys

from caffe import glog
from caffe.context import Context
from caffe.errors import CaffeError
from caffe.layer import Layer, register
from caffe_proto import caffe_pb2


class PythonLayer(Layer):
    """Base of the layers that users write; to them it is caffe.Layer."""

    bottoms = tops = (0, None)
    needs_host = "is a user's Python code"


@register
class Python(Layer):
    """Makes an instance of the user's class, which derives from PythonLayer."""

    @staticmethod
    def make(layer_param: caffe_pb2.LayerParameter, phase: int, context: Context) -> PythonLayer:
        """The user's layer for `layer_param`; errors inside the user's module keep their own type.

        A module that the program has imported itself needs no leave: nothing runs that has not run already.
        """
        param = layer_param.python_param
        where = f"layer '{layer_param.name}' (Python)"
        if not param.module.isprintable() or not all(param.module.split(".")):
            raise CaffeError(where, "the name of a module on sys.path", f"module {param.module!r}")
        if param.module not in sys.modules and not context.settings.python_layers:
            raise CaffeError(
                where,
                "leave to run the code that the prototxt names, from whoever wrote it (-python_layers=allow, or "
                "caffe.allow_python_layers())",
                f"module '{param.module}', which nothing has imported",
            )
        try:
            glog.info(f"importing {param.module} from {_origin(param.module)}")
            module = importlib.import_module(param.module)
        except ModuleNotFoundError as error:
            if f"{param.module}.".startswith(f"{error.name}."):
                raise CaffeError(where, f"module '{param.module}' on sys.path", "none of this name") from None
            raise
        cls = getattr(module, param.layer, None)
        if cls is None:
            raise CaffeError(where, f"a class '{param.layer}' in module '{param.module}'", "none of this name")
        if not (isinstance(cls, type) and issubclass(cls, PythonLayer)):
            raise CaffeError(where, "a class derived from caffe.Layer", f"'{param.module}.{param.layer}'")
        layer = cls(layer_param, phase, context)
        layer.param_str = param.param_str
        return layer


def _origin(name):
    """The file that importing a module runs, or has run (what else it is, where it is none)."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None) or "memory"
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(name=name)
    return spec.origin or "a folder"
