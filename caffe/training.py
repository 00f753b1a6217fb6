"""One training run from the command line: solver, signals, progress, learning curve."""

from __future__ import annotations

import signal
from collections.abc import Callable

from caffe import glog
from caffe.context import Context
from caffe.curves import LearningCurve, ProgressLine, progress_stream
from caffe.fusion import fuse
from caffe.graph import KINDS, accelerate
from caffe.plan import free_memory
from caffe.solver import Action, Peers, Solver
from caffe_proto import caffe_pb2


class SignalAction:
    """Turns SIGINT and SIGHUP into the actions a solver polls; SIGHUP is looked at first, each is cleared when read."""

    EFFECTS = {"stop": Action.STOP, "snapshot": Action.SNAPSHOT, "none": Action.NONE}

    def __init__(self, sigint_effect: str, sighup_effect: str):
        self.effects = {signal.SIGHUP: self.EFFECTS[sighup_effect], signal.SIGINT: self.EFFECTS[sigint_effect]}
        self.got = dict.fromkeys(self.effects, False)
        for number in self.effects:
            signal.signal(number, self._set)

    def _set(self, number, frame):
        self.got[number] = True

    def __call__(self):
        for number, effect in self.effects.items():
            if self.got[number]:
                self.got[number] = False
                return effect
        return Action.NONE


def train(
    param: caffe_pb2.SolverParameter,
    context: Context,
    action_function: Callable[[], Action],
    snapshot: str | None = None,
    peers: Peers | None = None,
) -> None:
    """Train SolverParameter `param` to its end in `context`, from solverstate `snapshot` if given.

    action_function is polled for Actions; peers: the solvers that train together with this one.
    """
    curve = LearningCurve(param) if param.snapshot_prefix and context.is_root else None
    stream = progress_stream(context.settings) if context.is_root else None
    progress = ProgressLine(stream) if stream else None
    listeners = [listener for listener in (curve, progress) if listener]
    solver = Solver(param, context, action_function=action_function, listeners=listeners, peers=peers)
    if not param.debug_info:  # which shows what blobs hold between the layers
        solver.use_plans(lambda plan: free_memory(fuse(plan)))
    if snapshot:
        glog.info(f"Resuming from {snapshot}")
        solver.restore(snapshot)
    if (kind := KINDS.get(context.device.type)) is not None:
        accelerate(solver, kind)
    glog.info("Starting Optimization")
    try:
        solver.solve()
    finally:
        if progress:
            progress.close()
        if curve:
            curve.write()
