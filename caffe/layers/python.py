"""Layers that users write in Python: `python_param { module layer param_str }` (docs/engine.md section 6.5)."""

import importlib

from caffe.errors import CaffeError
from caffe.layer import Layer, register


@register
class Python(Layer):
    """Makes an instance of the user's class, which derives from caffe.Layer."""

    @staticmethod
    def make(layer_param, phase):
        """The user's layer for `layer_param`; errors inside the user's module keep their own type."""
        param = layer_param.python_param
        where = f"layer '{layer_param.name}' (Python)"
        try:
            module = importlib.import_module(param.module)
        except ModuleNotFoundError as error:
            if error.name != param.module:
                raise
            raise CaffeError(f"{where}: module '{param.module}' was not found on sys.path") from None
        cls = getattr(module, param.layer, None)
        if cls is None:
            raise CaffeError(f"{where}: module '{param.module}' has no class '{param.layer}'")
        if not (isinstance(cls, type) and issubclass(cls, Layer)):
            raise CaffeError(f"{where}: '{param.module}.{param.layer}' is no class derived from caffe.Layer")
        layer = cls(layer_param, phase)
        layer.param_str = param.param_str
        layer.bottoms = layer.tops = (0, None)
        return layer
