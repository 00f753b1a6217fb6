"""Runs parity cases on whichever Caffe `import caffe` finds: the project's, or the original under Python 3.9.

As a program (beside the original: tests/bvlc.sh python3 tests/parity/engine.py OUT.npz [golden|live] [TYPE...]) it
writes the results of all cases of these types; a case that makes the engine abort leaves the array `<case>/refused`.
"""

import os
import sys
import tempfile

import numpy as np

if __name__ == "__main__":  # the original's own package is found first: the project's folder comes last
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tests.parity import values
from tests.parity.cases import cases_of


def store(blob, array, field):
    """Write `array` into the data or diff (`field`) of a blob."""
    getattr(blob, field)[...] = array


def run(case, store=store):
    """{"data/BLOB", "diff/BLOB", "param/I", "param_diff/I": float32 array} of a Case on the engine that is imported.

    `store` writes the values of inputs and the gradients of tops.
    """
    import caffe
    from caffe.proto import caffe_pb2

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.prototxt")
        with open(path, "w") as file:
            file.write(case.net(folder))
        for name, shape in case.files:
            blob = caffe_pb2.BlobProto(data=values.make("uniform", shape, case.key, name).ravel())
            blob.shape.dim.extend(shape)
            with open(os.path.join(folder, name), "wb") as file:
                file.write(blob.SerializeToString())
        net = caffe.Net(path, case.phase)
    last = len(net.layers) - 1
    params = list(net.params["layer"]) if "layer" in net.params else []
    for i, blob in enumerate(params):
        kind = case.params[i] if case.params else "normal:0.5"
        if kind != "as filled":
            blob.data[...] = values.make(kind, blob.data.shape, case.key, "param", i)
    for turn in range(case.forwards):
        for i, (shape, kind) in enumerate(case.inputs):
            name = f"in{i}"
            source = net.params[name][0] if name in net.params else net.blobs[name]
            store(source, values.make(kind, shape, case.key, "input", i, turn), "data")
        net._forward(0, last)
    found = {"data/" + name: np.array(net.blobs[name].data) for name in case.top_names}
    for i, blob in enumerate(params):
        found[f"param/{i}"] = np.array(blob.data)
    if case.down is not None:
        for i, name in enumerate(case.top_names):
            blob = net.blobs[name]
            store(blob, values.make(case.top_diff, blob.data.shape, case.key, "top", i), "diff")
        net._backward(last, 0)
        for i, down in enumerate(case.down):
            if down:
                found[f"diff/in{i}"] = np.array(net.blobs[f"in{i}"].diff)
        for i, blob in enumerate(params):
            found[f"param_diff/{i}"] = np.array(blob.diff)
    return found


def run_apart(case, path):
    """Run a case in a process of its own, for an engine that aborts the process, and save the result in `path`."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            np.savez(path, **run(case))
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return status


def main(out, scope, types):
    """Run all cases of `types` (all if empty) and save their results."""
    import caffe  # noqa: F401  # once, for all the children

    results = {}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "result.npz")
        for case in cases_of(scope, types):
            status = run_apart(case, path)
            if os.WIFSIGNALED(status):
                results[case.key + "/refused"] = np.array(os.WTERMSIG(status))
            elif status:
                raise SystemExit(f"{case.key}: the case itself failed (its traceback is above)")
            else:
                with np.load(path) as found:
                    results.update((case.key + "/" + name, found[name]) for name in found.files)
    np.savez_compressed(out, **results)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "live", sys.argv[3:])
