"""Solver parity: a small net trained by every solver type, on whichever Caffe `import caffe` finds.

Read by Python 3.9 too. As a program (beside the original: tests/bvlc.sh python3 tests/parity/solver_cases.py OUT.npz
train|resume FOLDER) it saves the results of every case.
"""

import os
import sys

import numpy as np

if __name__ == "__main__":  # the original's own package is found first: the project's folder comes last
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tests.parity import values

STEPS = 12

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" top: "label" top: "target"
        input_param { shape { dim: 4 dim: 2 dim: 7 dim: 6 } shape { dim: 4 } shape { dim: 4 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        convolution_param { num_output: 4 kernel_size: 3 group: 2 } }
layer { name: "relu1" type: "ReLU" bottom: "conv" top: "conv" relu_param { negative_slope: 0.1 } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "norm" }
layer { name: "scale" type: "Scale" bottom: "norm" top: "norm" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "norm" top: "norm" }
layer { name: "pool" type: "Pooling" bottom: "norm" top: "pool"
        pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool" top: "ip1" param { name: "shared" } inner_product_param {
        num_output: 5 bias_term: false } }
layer { name: "ip2" type: "InnerProduct" bottom: "pool" top: "ip2" param { name: "shared" } param { lr_mult: 0 }
        inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip1" bottom: "label" top: "loss" }
layer { name: "other" type: "EuclideanLoss" bottom: "ip2" bottom: "target" top: "other" loss_weight: 0.1 }
"""

TYPES = {  # solver type: fields that every case of it has
    "SGD": "base_lr: 0.05 momentum: 0.9",
    "Nesterov": "base_lr: 0.05 momentum: 0.9",
    "AdaGrad": "base_lr: 0.05",
    "RMSProp": "base_lr: 0.02 rms_decay: 0.9",
    "AdaDelta": "base_lr: 1 momentum: 0.95 delta: 1e-4",
    "Adam": "base_lr: 0.02 momentum: 0.9 momentum2: 0.99 delta: 1e-3",
}
STEP = 'lr_policy: "step" stepsize: 5 gamma: 0.3 '
SETTINGS = {
    "plain": 'lr_policy: "fixed"',
    "step": STEP,
    "L2": STEP + "weight_decay: 0.1",
    "L1": STEP + 'weight_decay: 0.05 regularization_type: "L1"',
    "clip": STEP + "clip_gradients: 0.5",
    "iter_size": STEP + "iter_size: 3 weight_decay: 0.1 clip_gradients: 0.5",
    "hdf5": STEP + "snapshot_format: HDF5",
}
POLICIES = {
    "exp": 'lr_policy: "exp" gamma: 0.9',
    "inv": 'lr_policy: "inv" gamma: 0.2 power: 0.75',
    "multistep": 'lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 3 stepvalue: 9',
    "poly": 'lr_policy: "poly" power: 1.5 max_iter: 30',
    "sigmoid": 'lr_policy: "sigmoid" gamma: 0.5 stepsize: 6',
}

CASES = {
    f"{kind}/{name}": f'type: "{kind}" {always} {setting}'
    for kind, always in TYPES.items()
    for name, setting in SETTINGS.items()
}
CASES.update(("SGD/" + name, f'type: "SGD" {TYPES["SGD"]} {setting}') for name, setting in POLICIES.items())
CASES["SGD/default momentum"] = 'type: "SGD" base_lr: 0.05 lr_policy: "fixed"'
CASES["Adam/default delta"] = 'type: "Adam" base_lr: 0.02 momentum: 0.9 lr_policy: "fixed"'
CASES["AdaDelta/no momentum"] = 'type: "AdaDelta" base_lr: 1 lr_policy: "fixed" delta: 1e-4'
CASES["AdaGrad/delta"] = 'type: "AdaGrad" base_lr: 0.05 lr_policy: "fixed" delta: 0.01'


def make_solver(case, folder):
    """The solver of a case, its weights set to numbers that depend on nothing but their place."""
    import caffe

    with open(os.path.join(folder, "net.prototxt"), "w") as file:
        file.write(NET)
    path = os.path.join(folder, "solver.prototxt")
    with open(path, "w") as file:
        file.write(f'net: "{folder}/net.prototxt" snapshot_prefix: "{folder}/run" {CASES[case]}\n')
    solver = caffe.get_solver(path)
    for layer in ("conv", "scale", "ip1", "ip2"):
        for i, blob in enumerate(solver.net.params[layer]):
            blob.data[...] = values.make("normal:0.5", blob.data.shape, layer, i)
    return solver


def step(solver, first, count):
    """Train `count` iterations from iteration `first`, each on its own numbers; [(loss, other loss), ...]."""
    losses = []
    for i in range(first, first + count):
        for name, kind in (("data", "normal"), ("label", "integers:0,5"), ("target", "normal")):
            blob = solver.net.blobs[name]
            blob.data[...] = values.make(kind, blob.data.shape, name, i)
        solver.step(1)
        losses.append([float(solver.net.blobs["loss"].data), float(solver.net.blobs["other"].data)])
    return losses


def history(path):
    """The solver's state arrays in the order of the file (.solverstate or .solverstate.h5), and its iteration."""
    if path.endswith(".h5"):
        import h5py

        with h5py.File(path, "r") as file:
            count = len(file["history"])
            return [file["history"][str(i)][...] for i in range(count)], int(np.ravel(file["iter"])[0])
    from caffe.proto import caffe_pb2

    state = caffe_pb2.SolverState()
    with open(path, "rb") as file:
        state.ParseFromString(file.read())
    arrays = [np.array(b.data, np.float32).reshape(tuple(b.shape.dim)) for b in state.history]
    return arrays, state.iter


def state_path(case, folder, iteration):
    """Where the solver of a case writes its state."""
    return os.path.join(folder, f"run_iter_{iteration}.solverstate") + (".h5" if "HDF5" in CASES[case] else "")


def observe(solver, case, folder, losses):
    """{name: array}: losses, weights and history of a solver that has just been trained."""
    solver.snapshot()
    arrays, iteration = history(state_path(case, folder, solver.iter))
    found = {"losses": np.array(losses), "iter": np.array(iteration)}
    found.update((f"history/{i}", array) for i, array in enumerate(arrays))
    for layer, blobs in solver.net.params.items():
        found.update((f"weights/{layer}/{i}", np.array(blob.data)) for i, blob in enumerate(blobs))
    return found


def train(case, folder):
    """(what the case shows after STEPS iterations, after twice as many); the first state stays in `folder`."""
    solver = make_solver(case, folder)
    return tuple(observe(solver, case, folder, step(solver, first, STEPS)) for first in (0, STEPS))


def resume(case, folder):
    """What the case shows when a new solver goes on for STEPS iterations from the first state in `folder`."""
    solver = make_solver(case, folder)
    solver.restore(state_path(case, folder, STEPS))
    return observe(solver, case, folder, step(solver, STEPS, STEPS))


def run_all(action, states):
    """{case/when/name: array} of all cases; "train" leaves states in folders of `states`, "resume" reads them."""
    results = {}
    for number, case in enumerate(CASES):
        folder = os.path.join(states, str(number))
        os.makedirs(folder, exist_ok=True)
        parts = train(case, folder) if action == "train" else (None, resume(case, folder))
        for when, found in zip(("first", "second"), parts):  # noqa: B905  # Python 3.9 has no strict
            results.update((f"{case}/{when}/{name}", array) for name, array in (found or {}).items())
    return results


def main(out, action, states):
    """Save the results of run_all in the npz file `out`."""
    np.savez_compressed(out, **run_all(action, states))


if __name__ == "__main__":
    main(*sys.argv[1:])
