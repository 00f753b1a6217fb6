"""All layer types; importing this package registers them (caffe.layer.LAYERS).

In pycaffe `caffe.layers` makes layers of a NetSpec (`from caffe import layers as L; L.Convolution(...)`), so every name
that is no submodule here is one of caffe.net_spec's.
"""

from caffe.layers import (  # noqa: F401
    convolution,
    crop,
    data,
    database,
    eltwise,
    hdf5,
    images,
    indexing,
    inner_product,
    loss,
    neuron,
    normalization,
    parameter,
    pooling,
    python,
    recurrent,
    reduction,
    reshape,
    split,
)


def __getattr__(name):
    from caffe.net_spec import layers

    return getattr(layers, name)
