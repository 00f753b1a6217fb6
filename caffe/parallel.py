"""Data-parallel training as `caffe train -gpu 0,1` does it (docs/engine.md section 4.11).

One process per device, each with its own solver on its own share of the rows; after the backward pass gradients are
averaged over the devices, so that one update is that of a single device with the devices' batches joined. The root
(rank 0) alone logs, tests and snapshots; its initial weights are everyone's.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.multiprocessing as processes

from caffe import glog
from caffe.context import Context, read_environment
from caffe.errors import CaffeError, check
from caffe.net import Net
from caffe.solver import Action
from caffe.training import SignalAction, train
from caffe_proto import CaffeFileError, caffe_pb2

FAILED = 1  # exit status of a worker whose failure has been logged


def train_on(
    param: caffe_pb2.SolverParameter, devices: Sequence[str], snapshot: str, sigint_effect: str, sighup_effect: str
) -> None:
    """Train SolverParameter `param` on `devices` (torch device names, e.g. ["cuda:0", "cuda:1"]) until it is done.

    Raises CaffeError if a device fails; the reason has been logged by its process.
    """
    param = _copy(param)
    if param.random_seed < 0:  # the ranks must agree on the order of the data
        param.random_seed = int(torch.randint(0, 2**31 - 1, (1,)))
    with tempfile.TemporaryDirectory() as folder:
        context = processes.get_context("spawn")
        workers = [
            context.Process(
                target=_work,
                args=(
                    rank,
                    devices,
                    os.path.join(folder, "meeting"),
                    param.SerializeToString(),
                    snapshot,
                    sigint_effect,
                    sighup_effect,
                ),
            )
            for rank in range(len(devices))
        ]
        before = SignalAction("none", "none")  # the workers get the terminal's signals themselves
        for worker in workers:
            worker.start()
        failed = None
        while failed is None and any(worker.is_alive() for worker in workers):
            for rank, worker in enumerate(workers):
                worker.join(0.2)
                if worker.exitcode:
                    failed = rank
            before()
        for worker in workers:
            if failed is not None:
                worker.terminate()
            worker.join()
    if failed is not None:
        raise CaffeError(
            f"{devices[failed]} (rank {failed})", "iterations to the end", "a failure: see the lines above"
        )


def _copy(param):
    result = caffe_pb2.SolverParameter()
    result.CopyFrom(param)
    return result


def _work(rank, devices, meeting, serialized, snapshot, sigint_effect, sighup_effect):
    device = torch.device(devices[rank])
    context = Context(settings=read_environment(), solver_count=len(devices), solver_rank=rank)
    if rank:
        glog.set_minimum(2)
    try:
        if device.type == "cuda":
            context.select_gpu(device.index)
            context.use_gpu()
        else:
            torch.set_num_threads(max(1, torch.get_num_threads() // len(devices)))
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=f"file://{meeting}",
            rank=rank,
            world_size=len(devices),
        )
        param = caffe_pb2.SolverParameter.FromString(serialized)
        actions = SignalAction(sigint_effect, sighup_effect)
        train(
            param,
            context,
            actions if rank == 0 else lambda: Action.NONE,
            snapshot,
            Ranks(context, layer_wise=param.layer_wise_reduce),
        )
        dist.destroy_process_group()
    except (CaffeError, CaffeFileError) as error:
        glog.fatal(f"rank {rank} ({devices[rank]}): {error}")
        sys.exit(FAILED)


class Ranks:
    """The solvers of the other processes (solver.Peers): same weights at the start, averaged gradients, one will.

    layer_wise: as SolverParameter.layer_wise_reduce; gradients are averaged when all are there, whatever it says.
    """

    def __init__(self, context: Context, layer_wise: bool):
        self.context, self.layer_wise = context, layer_wise

    def connect(self, net: Net) -> None:
        """Give `net` the root's weights."""
        shared = any(one.owner is not None for one in net.parameters)
        check(
            not (self.layer_wise and shared),
            "Layer-wise reduce is not supported for nets with shared weights.",
        )
        for blob in net.learnable_params:
            _in_memory_order(blob.value, lambda flat: dist.broadcast(flat, src=0))

    def average(self, net: Net) -> None:
        """Make the gradients of `net` the mean over all ranks."""
        share = 1 / self.context.solver_count
        for blob in net.learnable_params:
            _in_memory_order(blob.grad, lambda flat: dist.all_reduce(flat.mul_(share)))

    def agree(self, action: Action) -> Action:
        """The action of the root."""
        number = torch.tensor([action.value], device=self.context.device)
        dist.broadcast(number, src=0)
        return Action(int(number))


def _in_memory_order(tensor, function):
    """Apply `function` to a flat view of a dense tensor of any memory format."""
    order = sorted(range(tensor.dim()), key=lambda axis: -tensor.stride(axis))
    function(tensor.permute(order).view(-1))
