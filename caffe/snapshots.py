"""Snapshots: the model, the solver's state and what else a run needs to go on (docs/engine.md section 4.9)."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from caffe import glog
from caffe.errors import CaffeError, check
from caffe.finite import check_weights
from caffe.net import Net
from caffe.update import Update
from caffe_proto import (
    CaffeFileError,
    array_to_blobproto,
    atomic_hdf5,
    blobproto_to_array,
    caffe_pb2,
    check_finite,
    read_solver_state,
    write_file,
    write_message,
)
from caffe_proto.files import is_hdf5
from caffe_proto.hdf5 import open_hdf5
from caffe_proto.texts import read_record

if TYPE_CHECKING:
    from caffe.solver import Solver


def check_writable(param: caffe_pb2.SolverParameter) -> None:
    """Raise CaffeError unless files can be made where SolverParameter `param` wants its snapshots."""
    check(param.snapshot_prefix, "solver", "a snapshot_prefix because snapshot is set", "none")
    longest = f"{param.snapshot_prefix}_iter_{param.max_iter}.solverstate.h5"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.lstat(longest)  # a name that is too long
        tempfile.TemporaryFile(dir=os.path.dirname(longest) or os.curdir).close()  # without a name, which a kill leaves
    except OSError as error:
        raise CaffeError(
            f"Cannot write to snapshot prefix '{param.snapshot_prefix}'.  Make sure that the "
            f"directory exists and is writable: {error.strerror}"
        ) from None
    except ValueError:  # a NUL
        raise CaffeError("snapshot_prefix", "a name that a file can have", repr(param.snapshot_prefix)) from None


# -- writing ---------------------------------------------------------------------------------------------------------
def write(solver: Solver) -> None:
    """Write model, resume file, what the listeners keep, and solver state of `solver`, in this order, each atomically.

    The state is last: what a run goes on from has everything that belongs to it.

    The resume file (`.resume`, JSON) holds what BVLC Caffe's solverstate lacks: random state and data positions.
    Weights and history that are not finite are refused with CaffeError: nobody could go on from them.
    """
    param, net, update = solver.param, solver.net, solver.update
    check_weights(solver.iter, net, update.history)
    stem = f"{param.snapshot_prefix}_iter_{solver.iter}"
    hdf5 = param.snapshot_format == param.HDF5
    model = stem + (".caffemodel.h5" if hdf5 else ".caffemodel")
    state = stem + (".solverstate.h5" if hdf5 else ".solverstate")
    kind = "HDF5" if hdf5 else "binary proto"
    try:
        glog.info(f"Snapshotting to {kind} file {model}")
        (net.save_hdf5 if hdf5 else net.save)(model, param.snapshot_diff)
        _write_resume(stem + ".resume", solver)
        for listener in solver.listeners:
            listener.snapshotted(solver)
        glog.info(f"Snapshotting solver state to {kind} file {state}")
        (_write_state_hdf5 if hdf5 else _write_state)(state, model, solver.iter, update)
    except OSError as error:
        raise CaffeError(
            f"snapshot {stem}",
            "files that can be written",
            f"{error.strerror or error}; earlier snapshots are untouched",
        ) from None


def _write_state(path, model, iteration, update):
    state = caffe_pb2.SolverState(iter=iteration, learned_net=model, current_step=update.current_step)
    state.history.extend(array_to_blobproto(h.value.cpu().numpy()) for h in update.history)
    write_message(path, state)


def _write_state_hdf5(path, model, iteration, update):
    with atomic_hdf5(path) as stream:
        file = stream.file
        file["iter"] = np.array([iteration], np.int32)
        file["current_step"] = np.array([update.current_step], np.int32)
        # a fixed-length string, which is what BVLC Caffe reads
        file.create_dataset("learned_net", data=np.bytes_(model.encode() + b"\0"))
        history = file.create_group("history")
        for i, blob in enumerate(update.history):
            history[str(i)] = blob.value.cpu().numpy()


def _write_resume(path, solver):
    content = {
        "iter": solver.iter,
        "random": solver.context.random.state(),
        "train": solver.net.positions(),
        "test": [net.positions() for net in solver.test_nets],
    }
    write_file(path, json.dumps(content, default=_plain))


def _plain(value):
    """numpy values as JSON."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot write {type(value)} as JSON")


# -- reading ---------------------------------------------------------------------------------------------------------
def read(path: str | os.PathLike, update: Update, net: Net) -> int:
    """Load a .solverstate (HDF5 if the name ends in .h5) into `update` and the model it names into `net`.

    Returns the number of updates done. Nothing is changed unless history and model fit.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise CaffeFileError(f"File not found: {path}")
    if path.endswith(".h5"):
        check(is_hdf5(path), path, "a solverstate in HDF5 form", "what is not an HDF5 file")
        iteration, model, step, history = _read_state_hdf5(path)
    else:
        state = read_solver_state(path)
        iteration, model, step = state.iter, state.learned_net, state.current_step
        history = [blobproto_to_array(b, path) for b in state.history]
    check(
        len(history) == len(update.history),
        f"{path}: Incorrect length of history blobs",
        len(update.history),
        len(history),
    )
    for i, (blob, array) in enumerate(zip(update.history, history, strict=True)):
        check(array.size == blob.count, path, f"{blob.count} numbers in history blob {i}", array.size)
        check_finite(array, f"{path}: history blob {i}")
    if model:
        net.copy_from(model)
    update.restore(step, history)
    return iteration


def _read_state_hdf5(path):
    """(iterations, model, multistep's steps, history arrays) of a solverstate in HDF5 form."""
    with open_hdf5(path, "a solverstate in HDF5 form") as content:
        model = content.text("learned_net").rstrip("\0") if "learned_net" in content else ""
        history = [content.floats(f"history/{i}") for i in range(len(content.names("history")))]
        iteration, step = content.numbers("iter"), content.numbers("current_step")
    for name, number in (("iter", iteration), ("current_step", step)):
        if number.size != 1 or number.dtype.kind not in "iu" or number.item() < 0:
            raise CaffeFileError(path, f"a count in dataset {name}", f"{number.dtype} of shape {number.shape}")
    return iteration.item(), model, step.item(), history


def read_resume(path: str | os.PathLike, iteration: int, net: Net, test_nets: Sequence[Net]) -> None:
    """Restore random state and data positions from the resume file beside solverstate `path`, if there is one.

    A file of another iteration than `iteration` is ignored; the log says so.
    """
    path = os.fspath(path).removesuffix(".h5").removesuffix(".solverstate") + ".resume"
    if not os.path.exists(path):
        glog.warning(f"{path} not found: data order and random state start anew, as after a snapshot of BVLC Caffe")
        return
    what = "a resume file (without it data order and random state start anew)"
    content = read_record(path, what, iter=int, random=dict, train=dict, test=list)
    if content["iter"] != iteration:
        glog.warning(f"{path} is of iteration {content['iter']}, the solverstate of {iteration}: ignored")
        return
    try:
        net.context.random.restore(content["random"])
        net.restore_positions(content["train"])
        for test_net, positions in zip(test_nets, content["test"], strict=False):
            test_net.restore_positions(positions)
    except CaffeError as error:
        raise CaffeFileError.at(path, error) from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        # what numpy and torch say of states that are none
        raise CaffeFileError(path, what, f"{type(error).__name__}: {error}") from None
