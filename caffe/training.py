"""One training run from the command line: solver, signals, progress, learning curve."""

from __future__ import annotations

import signal
from collections.abc import Callable

from caffe import glog
from caffe.context import current
from caffe.curves import LearningCurve, ProgressLine, progress_stream
from caffe.fusion import fuse
from caffe.graph import KINDS, accelerate
from caffe.plan import free_memory
from caffe.solver import Action, Solver
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
    action_function: Callable[[], Action],
    snapshot: str | None = None,
    join: Callable[[Solver], None] | None = None,
) -> None:
    """Train SolverParameter `param` to its end on the current device, from solverstate `snapshot` if given.

    action_function is polled for Actions; join(solver), if given, connects the solver with others before the start.
    """
    solver = Solver(param)
    if not param.debug_info:  # which shows what blobs hold between the layers
        solver.use_plans(lambda plan: free_memory(fuse(plan)))
    solver.action_function = action_function
    if snapshot:
        glog.info(f"Resuming from {snapshot}")
        solver.restore(snapshot)
    if join:
        join(solver)
    if (kind := KINDS.get(current().device.type)) is not None:
        accelerate(solver, kind)
    curve = LearningCurve(solver) if param.snapshot_prefix and current().is_root else None
    stream = progress_stream() if current().is_root else None
    progress = ProgressLine(solver, stream) if stream else None
    solver.listeners = [listener for listener in (curve, progress) if listener]
    glog.info("Starting Optimization")
    try:
        solver.solve()
    finally:
        if progress:
            progress.close()
        if curve:
            curve.write()
