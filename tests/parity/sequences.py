"""A net of recurrent layers that trains, on whichever Caffe `import caffe` finds; Python 3.9 too.

The net reads words one after the other and says of each which comes next, with an image's features beside: Embed, LSTM
with a static input, RNN, InnerProduct and loss at every step. As a program it saves what run() shows:

    tests/bvlc.sh python3 tests/parity/sequences.py tests/golden/sequences.npz [WEIGHTS]
"""

import os
import sys
import tempfile

import numpy as np

if __name__ == "__main__":  # the original's own package is found first: the project's folder comes last
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tests.parity import values

STEPS = 15
LAYERS = ("words", "lstm", "rnn", "next")

NET = """
name: "sequences"
layer { name: "data" type: "Input" top: "data" top: "cont" top: "image" top: "target"
        input_param { shape { dim: 5 dim: 3 } shape { dim: 5 dim: 3 } shape { dim: 3 dim: 4 }
                      shape { dim: 5 dim: 3 } } }
layer { name: "words" type: "Embed" bottom: "data" top: "words" propagate_down: false
        embed_param { num_output: 6 input_dim: 7 bias_term: false } }
layer { name: "lstm" type: "LSTM" bottom: "words" bottom: "cont" bottom: "image" top: "lstm"
        recurrent_param { num_output: 5 } }
layer { name: "rnn" type: "RNN" bottom: "lstm" bottom: "cont" top: "rnn" recurrent_param { num_output: 4 } }
layer { name: "next" type: "InnerProduct" bottom: "rnn" top: "next" inner_product_param { num_output: 7 axis: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "next" bottom: "target" top: "loss"
        softmax_param { axis: 2 } loss_param { ignore_label: 0 } }
"""
SOLVERS = {
    "SGD": 'base_lr: 0.2 momentum: 0.9 lr_policy: "fixed" clip_gradients: 2',
    "Adam": 'type: "Adam" base_lr: 0.02 momentum: 0.9 lr_policy: "fixed" weight_decay: 0.01',
}


def make_solver(settings, folder):
    """A solver whose weights are numbers that depend on nothing but their place."""
    import caffe

    with open(os.path.join(folder, "net.prototxt"), "w") as file:
        file.write(NET)
    path = os.path.join(folder, "solver.prototxt")
    with open(path, "w") as file:
        file.write(f'net: "{folder}/net.prototxt" snapshot_prefix: "{folder}/run" {settings}\n')
    solver = caffe.get_solver(path)
    for layer in LAYERS:
        for i, blob in enumerate(solver.net.params[layer]):
            blob.data[...] = values.make("normal:0.5", blob.data.shape, layer, i)
    return solver


def feed(net, turn):
    """Fill the inputs with the numbers of one iteration."""
    for name, kind in (("data", "integers:0,7"), ("cont", "hot"), ("image", "normal"), ("target", "integers:0,7")):
        blob = net.blobs[name]
        blob.data[...] = values.make(kind, blob.data.shape, name, turn)


def run(weights=""):
    """{name: array}: losses and weights of every solver; with weights (a file) their outputs over two passes."""
    import caffe

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in SOLVERS.items():
            solver = make_solver(settings, folder)
            losses = []
            for turn in range(STEPS):
                feed(solver.net, turn)
                solver.step(1)
                losses.append(float(solver.net.blobs["loss"].data))
            found[name + "/losses"] = np.array(losses)
            for layer in LAYERS:
                for i, blob in enumerate(solver.net.params[layer]):
                    found[f"{name}/weights/{layer}/{i}"] = np.array(blob.data)
        if weights:
            net = caffe.Net(os.path.join(folder, "net.prototxt"), weights, caffe.TEST)
            for turn in range(2):
                feed(net, turn)
                net.forward()
                found[f"loaded/{turn}"] = np.array(net.blobs["next"].data)
    return found


if __name__ == "__main__":
    np.savez_compressed(sys.argv[1], **run(*sys.argv[2:]))
