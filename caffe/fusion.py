"""Element-wise work done where the data is at hand, for runs in which nobody looks between the layers.

A ReLU in place behind a convolution costs a pass over memory forward and another one backward. Forward, the convolution
can rectify its result as it writes it. Backward, where a MAX pooling alone reads the ReLU, the gradient arrives at
winners only, and a winner's value is the pooled value: masking the pooled gradient, a fraction of the size, does the
same. Results are bit-identical; what changes is what a blob holds *between* two layers of one pass.
"""

from caffe.layers.neuron import ReLU
from caffe.layers.vision import Convolution, Pooling


def fuse(net):
    """Let convolutions and MAX poolings of `net` do the work of the ReLUs between them (CPU and CUDA)."""
    for i, layer in enumerate(net.layers):
        if not (isinstance(layer, ReLU) and layer.slope == 0 and net.bottom_ids[i] == net.top_ids[i]):
            continue
        blob = net.top_ids[i][0]
        producers = [j for j in range(i) if blob in net.top_ids[j]]
        consumers = [j for j in range(i + 1, len(net.layers)) if blob in net.bottom_ids[j]]
        producer = net.layers[producers[-1]]
        if type(producer) is Convolution and producer.axes > 0 and len(net.top_ids[producers[-1]]) == 1:
            producer.rectifies, layer.rectified = True, True
        if len(consumers) == 1:
            consumer = net.layers[consumers[0]]
            if isinstance(consumer, Pooling) and consumer.is_max and len(net.top_ids[consumers[0]]) == 1:
                consumer.masks, layer.masked = True, True
