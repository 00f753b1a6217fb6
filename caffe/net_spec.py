"""Networks written as Python expressions.

    from caffe import layers as L, params as P
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 1, 28, 28]))
    n.conv1 = L.Convolution(n.data, num_output=20, kernel_size=5)
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    print(n.to_proto())

A call such as L.Convolution(...) makes a `Function` (one layer) and returns its `Top`s (the blobs that it produces),
which are the arguments of further calls. Assigning a Top to an attribute of a NetSpec names it. `to_proto` walks from
the named tops back to the inputs and emits each layer once, bottoms first.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

from caffe_proto import caffe_pb2, sentence


def param_name_dict() -> dict[str, str]:
    """{layer type: stem of its `<stem>_param` field in LayerParameter}, read off the schema.

    The type is the field's message type without `Parameter`: ConvolutionParameter convolution_param gives
    Convolution -> convolution.
    """
    return {
        field.message_type.name.removesuffix("Parameter"): field.name.removesuffix("_param")
        for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields
        if field.name.endswith("_param")
    }


_param_names = param_name_dict()


def assign_proto(proto: Message, name: str, val: Any) -> None:
    """Set field `name` of message `proto`: dicts fill messages, sequences repeated fields, anything else scalars.

    A single value for a repeated field is its only element. Raises AttributeError for an unknown field.
    """
    field = getattr(proto, name)
    if hasattr(field, "extend"):
        items = list(val) if hasattr(val, "__iter__") and not isinstance(val, (str, bytes, dict)) else [val]
        for item in items:
            if isinstance(item, dict):
                element = field.add()
                for key, value in item.items():
                    assign_proto(element, key, value)
            else:
                field.append(item)
    elif isinstance(val, dict):
        for key, value in val.items():
            assign_proto(field, key, value)
    else:
        setattr(proto, name, val)


class Top:
    """Output `n` of the layer `fn`; may be the bottom of other layers."""

    def __init__(self, fn: Function, n: int):
        self.fn = fn
        self.n = n

    def to_proto(self) -> caffe_pb2.NetParameter:
        """A NetParameter of this top and all that it needs, with automatic names."""
        return to_proto(self)

    def _to_proto(self, layers, names, autonames):
        return self.fn._to_proto(layers, names, autonames)


class Function:
    """One layer: its type, its bottoms (`inputs`: Tops) and its settings (`params`).

    The settings `ntop` (number of tops, 1) and `in_place` (tops are the bottoms, False) describe the call; all others
    go into the LayerParameter.
    """

    def __init__(self, type_name: str, inputs: Sequence[Top], params: Mapping[str, Any]):
        for index, bottom in enumerate(inputs):
            if not isinstance(bottom, Top):
                raise TypeError(f"{type_name} input {index} is not a Top (type is {type(bottom)})")
        self.type_name = type_name
        self.inputs = inputs
        self.params = dict(params)
        self.ntop = self.params.pop("ntop", 1)
        self.in_place = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def _autoname(self, autonames):
        autonames[self.type_name] += 1
        return f"{self.type_name}{autonames[self.type_name]}"

    def _top_name(self, top, names, autonames):
        if top not in names:
            names[top] = self._autoname(autonames)
        return names[top]

    def _name(self, names, autonames):
        """A layer is called like its first top; one without tops like its type."""
        if self.ntop > 0:
            return self._top_name(self.tops[0], names, autonames)
        if self not in names:
            names[self] = self._autoname(autonames)
        return names[self]

    def _to_proto(self, layers, names, autonames):
        """Add this layer's LayerParameter, after those of its inputs, to `layers` ({Function: LayerParameter})."""
        if self in layers:
            return
        bottoms = []
        for top in self.inputs:
            top._to_proto(layers, names, autonames)
            bottoms.append(layers[top.fn].top[top.n])
        layer = caffe_pb2.LayerParameter(type=self.type_name, bottom=bottoms)
        if self.in_place:
            layer.top.extend(bottoms)
        else:
            layer.top.extend([self._top_name(top, names, autonames) for top in self.tops])
        layer.name = self._name(names, autonames)
        for key, value in self.params.items():
            assign_proto(self._home(layer, key), key, value)
        layers[self] = layer

    def _home(self, layer, key):
        """The message that setting `key` belongs to: the type's own parameters, or else the layer itself."""
        own = f"{_param_names.get(self.type_name)}_param"
        if not key.endswith("param") and own in layer.DESCRIPTOR.fields_by_name:
            fields = layer.DESCRIPTOR.fields_by_name[own].message_type.fields_by_name
            if key in fields:
                return getattr(layer, own)
            if key not in layer.DESCRIPTOR.fields_by_name:
                raise AttributeError(sentence(self.type_name, f"one of the settings {', '.join(fields)}", f"'{key}'"))
        return layer


class NetSpec:
    """A set of named Tops: attributes or items, in the order of assignment."""

    def __init__(self):
        super().__setattr__("tops", OrderedDict())

    def __setattr__(self, name, value):
        self.tops[name] = value

    def __getattr__(self, name):
        if name.startswith("__"):  # copy and pickle ask for these before __init__ has run
            raise AttributeError(name)
        try:
            return self.tops[name]
        except KeyError:
            raise AttributeError(
                sentence("NetSpec", f"one of its tops, {', '.join(self.tops) or 'none'}", f"'{name}'")
            ) from None

    def __setitem__(self, key, value):
        self.tops[key] = value

    def __getitem__(self, item):
        return self.tops[item]

    def __delitem__(self, item):
        del self.tops[item]

    def to_proto(self) -> caffe_pb2.NetParameter:
        """The NetParameter of all named tops and what they need; unnamed blobs and layers get `<Type><k>`."""
        names = {top: name for name, top in self.tops.items()}
        return _net_of(self.tops.values(), names)


def to_proto(*tops: Top | Function) -> caffe_pb2.NetParameter:
    """The NetParameter that produces `tops` (Tops, or Functions without tops), with automatic names."""
    return _net_of(tops, {})


def _net_of(tops, names):
    layers, autonames = OrderedDict(), Counter()
    for top in tops:
        top._to_proto(layers, names, autonames)
    return caffe_pb2.NetParameter(layer=layers.values())


class Layers:
    """`layers.<Type>(*bottoms, **settings)` makes a layer; returns its Top (ntop=0: the Function, ntop>1: a tuple)."""

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)

        def layer_fn(*args, **kwargs):
            function = Function(name, args, kwargs)
            if function.ntop == 0:
                return function
            return function.tops[0] if function.ntop == 1 else function.tops

        layer_fn.__name__ = name
        return layer_fn


class Parameters:
    """`params.<Name>.<ENUM>` is the value of an enum constant of `<Name>Parameter`, e.g. params.Pooling.MAX."""

    def __getattr__(self, name):
        message = getattr(caffe_pb2, f"{name}Parameter", None)
        if message is None:
            raise AttributeError(sentence("params", "the name of a message, such as Pooling or Eltwise", name))

        class Param:
            def __getattr__(self, constant):
                return getattr(message, constant)

        return Param()


layers = Layers()
params = Parameters()
