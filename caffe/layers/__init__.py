"""All layer types; importing this package registers them (caffe.layer.LAYERS)."""

from caffe.layers import common, data, loss, neuron, python, spatial, vision  # noqa: F401
