"""Training runs that are compared with the original's; read by Python 3.9 beside the original Caffe too.

SOLVERS maps a name to the lines of a solver prototxt; `observe` trains it on whichever Caffe `import caffe` finds.
All runs share one small net over three HDF5 files whose rows no batch size divides.
"""

import os

import h5py
import numpy as np

FEATURES, CLASSES = 6, 3
TRAIN_ROWS, TEST_ROWS = (7, 5, 1), (6, 3)
BODY = """
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1" param { lr_mult: 1 decay_mult: 1 }
  param { lr_mult: 2 decay_mult: 0 } inner_product_param { num_output: 5 } }
layer { name: "tanh" type: "TanH" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy" include { phase: TEST } }
"""
DATA = """
layer { name: "data" type: "HDF5Data" top: "data" top: "label" include { phase: TRAIN }
  hdf5_data_param { source: "train.txt" batch_size: 4 } }
layer { name: "data" type: "HDF5Data" top: "data" top: "label" include { phase: TEST }
  hdf5_data_param { source: "test.txt" batch_size: 5 } }
"""
COMMON = 'net: "net.prototxt" max_iter: 24 display: 5 snapshot_prefix: "s" solver_mode: CPU '
FIXED = COMMON + 'base_lr: 0.1 lr_policy: "fixed" '
TESTED = FIXED + "test_iter: 3 test_interval: 8 momentum: 0.9 "
SOLVERS = {
    "sgd": FIXED,
    "momentum_across_a_step": COMMON + 'base_lr: 0.2 lr_policy: "step" stepsize: 9 gamma: 0.1 momentum: 0.9',
    "decay_l2": FIXED + "momentum: 0.9 weight_decay: 0.05",
    "decay_l1": FIXED + 'momentum: 0.5 weight_decay: 0.01 regularization_type: "L1"',
    "clipped": FIXED + "momentum: 0.9 weight_decay: 0.05 clip_gradients: 0.35",
    "iter_size": FIXED + "momentum: 0.9 weight_decay: 0.05 iter_size: 3",
    "iter_size_clipped": FIXED + "momentum: 0.9 weight_decay: 0.05 iter_size: 3 clip_gradients: 0.8",
    "average_loss": FIXED + "momentum: 0.9 average_loss: 3 display: 1".replace("display: 1", ""),
    "nesterov": COMMON + 'base_lr: 0.1 lr_policy: "step" stepsize: 9 gamma: 0.1 momentum: 0.9 type: "Nesterov"',
    "adagrad": FIXED + 'type: "AdaGrad" weight_decay: 0.01',
    "rmsprop": COMMON + 'base_lr: 0.01 lr_policy: "inv" gamma: 0.1 power: 0.75 type: "RMSProp" rms_decay: 0.9',
    "adadelta": COMMON + 'base_lr: 1 lr_policy: "fixed" momentum: 0.95 delta: 1e-6 type: "AdaDelta"',
    "adam": COMMON + 'base_lr: 0.02 lr_policy: "exp" gamma: 0.95 momentum: 0.9 momentum2: 0.99 type: "Adam" '
    "weight_decay: 0.01",
    "adam_iter_size": FIXED + 'momentum: 0.9 type: "Adam" delta: 0.1 iter_size: 2',
    "multistep": COMMON + 'base_lr: 0.1 lr_policy: "multistep" gamma: 0.5 stepvalue: 4 stepvalue: 4 stepvalue: 15',
    "poly": COMMON + 'base_lr: 0.1 lr_policy: "poly" power: 1.5 momentum: 0.5',
    "sigmoid": COMMON + 'base_lr: 0.1 lr_policy: "sigmoid" gamma: 0.5 stepsize: 12',
    "tested": TESTED,
    "tested_without_initialization": TESTED + "test_initialization: false",
    "tested_with_loss": TESTED + "test_compute_loss: true",
    "last_iteration_displayed_and_tested": TESTED + "average_loss: 4",
    "two_test_nets": FIXED + 'test_iter: 1 test_iter: 2 test_interval: 12 test_state { stage: "a" } test_state { }',
    "snapshots": FIXED + "momentum: 0.9 snapshot: 10",
    "snapshots_that_divide": FIXED + "momentum: 0.9 snapshot: 12",
    "snapshots_hdf5": FIXED + "momentum: 0.9 snapshot: 10 snapshot_format: HDF5",
    "snapshot_diff": FIXED + "snapshot: 20 snapshot_diff: true",
    "no_snapshot_after_train": FIXED + "snapshot: 10 snapshot_after_train: false",
    "debug_info": FIXED + "debug_info: true test_iter: 1 test_interval: 20",
}
SOLVERS["last_iteration_displayed_and_tested"] = SOLVERS["last_iteration_displayed_and_tested"].replace(
    "display: 5", "display: 6"
)
SOLVERS["average_loss"] = SOLVERS["average_loss"].replace("display: 5", "display: 1")


def write_corpus(folder):
    """The HDF5 files, their lists (relative to `folder`) and net.prototxt; labels follow the features."""
    state = np.random.RandomState(3)
    truth = state.standard_normal((FEATURES, CLASSES))
    for split, rows in (("train", TRAIN_ROWS), ("test", TEST_ROWS)):
        names = []
        for i, n in enumerate(rows):
            data = state.standard_normal((n, FEATURES)).astype(np.float32)
            names.append(f"{split}{i}.hdf5")
            with h5py.File(os.path.join(folder, names[-1]), "w") as file:
                file["data"], file["label"] = data, np.argmax(data @ truth, 1).astype(np.float32)
        with open(os.path.join(folder, split + ".txt"), "w") as file:
            file.write("\n".join(names) + "\n")
    with open(os.path.join(folder, "net.prototxt"), "w") as file:
        file.write('name: "small"' + DATA + BODY)


def fill(net):
    """Fixed weights."""
    state = np.random.RandomState(5)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = 0.5 * state.standard_normal(blob.data.shape)


def make_solver(text, folder):
    """A solver of the corpus in `folder` (made the working directory) with fixed initial weights."""
    import caffe

    write_corpus(folder)
    os.chdir(folder)
    with open("solver.prototxt", "w") as file:
        file.write(text + "\n")
    solver = caffe.get_solver("solver.prototxt")
    fill(solver.net)
    return solver


def observe(name, folder):
    """Trains a case; {"weights": {layer: [nested lists]}, "history": [...], "made": [file names], "iter": n}."""
    solver = make_solver(SOLVERS[name], folder)
    before = set(os.listdir("."))
    solver.solve()
    made = sorted(set(os.listdir(".")) - before)
    solver.snapshot()
    suffix = ".solverstate.h5" if "HDF5" in SOLVERS[name] else ".solverstate"
    return {
        "weights": {layer: [blob.data.tolist() for blob in blobs] for layer, blobs in solver.net.params.items()},
        "history": read_history(f"s_iter_{solver.iter}{suffix}"),
        "made": made,
        "iter": solver.iter,
    }


def read_history(path):
    """The history of a solverstate as flat lists."""
    if path.endswith(".h5"):
        with h5py.File(path, "r") as file:
            return [file["history"][str(i)][...].ravel().tolist() for i in range(len(file["history"]))]
    from caffe.proto import caffe_pb2

    state = caffe_pb2.SolverState()
    with open(path, "rb") as file:
        state.ParseFromString(file.read())
    return [list(blob.data) for blob in state.history]
