"""One forward and backward pass of a whole net on whichever Caffe `import caffe` finds; Python 3.9 too.

As a program (beside the original: tests/bvlc.sh python3 tests/parity/network_pass.py NET WEIGHTS OUT.npz) it saves all
blobs, their gradients and the gradients of all parameters.
"""

import sys

import numpy as np


def run(net_path, weights):
    """{"data/BLOB", "diff/BLOB", "param_diff/LAYER/I": float32 array} of the net in phase TRAIN."""
    import caffe

    net = caffe.Net(net_path, weights, caffe.TRAIN)
    net._forward(0, len(net.layers) - 1)
    found = {"data/" + name: np.array(blob.data) for name, blob in net.blobs.items()}
    net._backward(len(net.layers) - 1, 0)
    found.update(("diff/" + name, np.array(blob.diff)) for name, blob in net.blobs.items())
    for layer, blobs in net.params.items():
        found.update((f"param_diff/{layer}/{i}", np.array(blob.diff)) for i, blob in enumerate(blobs))
    return found


if __name__ == "__main__":
    np.savez(sys.argv[3], **run(sys.argv[1], sys.argv[2]))
