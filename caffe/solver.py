"""The training loop: iterations, tests, snapshots (docs/engine.md section 4).

The loop is Solver.step. How parameters change is in caffe.update, what is logged in caffe.training_log, what is checked
in caffe.finite, what is kept on disk in caffe.snapshots.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from caffe import glog, snapshots
from caffe.blob import Blob
from caffe.context import Context
from caffe.errors import CaffeError, check
from caffe.finite import check_loss, check_output, check_scores, check_weights
from caffe.net import Net
from caffe.plan import Plan
from caffe.training_log import TrainingLog
from caffe.update import Update
from caffe.update_rules import RULES, check_policy
from caffe_proto import caffe_pb2, read_net

if TYPE_CHECKING:
    from caffe.replay import Replay


class Action(enum.Enum):
    """What an action function may ask of a running solver."""

    NONE = 0
    STOP = 1
    SNAPSHOT = 2


class Listener(Protocol):
    """Whom a solver tells what it has done: progress, curves."""

    def started(self, solver: Solver) -> None:
        """solve() begins; the solver is complete and restored."""

    def trained(self, solver: Solver, loss: float, rate: float) -> None:
        """An iteration is done: its loss and learning rate."""

    def tested(self, solver: Solver, index: int, means: list[tuple[str, float, np.ndarray]]) -> None:
        """Test net number `index` is done: the mean outputs [(name, loss weight, values)]."""

    def snapshotted(self, solver: Solver) -> None:
        """The files of a snapshot are written, but for the state, which comes last."""


class Peers(Protocol):
    """The other solvers that train the same net together with this one."""

    def connect(self, net: Net) -> None:
        """Give the net the weights of the root."""

    def average(self, net: Net) -> None:
        """Make the gradients of the net the mean over all solvers."""

    def agree(self, action: Action) -> Action:
        """The root's action, which all take."""


class Solver:
    """Trains `net`, tests `test_nets`; `iter` counts the updates done.

    `param` is a SolverParameter, `context` the caffe.context.Context to compute in; `rule` an update rule's name
    (default: the parameter's type). `action_function` returns an Action and is polled after every update and before
    every test batch. `listeners` are told what was done. `peers`: the solvers that train together with this one.
    """

    net_type = Net  # pycaffe's solvers make pycaffe's nets

    def __init__(
        self,
        param: caffe_pb2.SolverParameter,
        context: Context,
        rule: str | None = None,
        *,
        action_function: Callable[[], Action] = lambda: Action.NONE,
        listeners: Sequence[Listener] = (),
        peers: Peers | None = None,
    ):
        self.param, self.context = param, context
        self.action_function, self.listeners, self.peers = action_function, listeners, peers
        rule = rule or param.type
        if rule not in RULES:
            raise CaffeError(f"Unknown solver type: {rule} (known types: {', '.join(sorted(RULES))})")
        self.log = TrainingLog(param, context)
        self.log.parameters()
        check(param.average_loss >= 1, "average_loss should be non-negative.")
        check(param.iter_size >= 1, "solver", "a positive iter_size", param.iter_size)
        if param.snapshot and context.is_root:
            snapshots.check_writable(param)
        if param.random_seed >= 0:
            context.random.seed(param.random_seed + context.solver_rank, order=param.random_seed)
        rule = RULES[rule](param)
        self.iter = 0
        self._on_start, self._on_gradients_ready = [], []
        self._stop = False
        self.replay, self.test_replays = None, {}  # see use_replays
        self._launched = []  # (iteration, rate, multistep's step if it was reached) of replays not read back
        self.net = self._make_train_net()
        self.test_nets = self._make_test_nets()
        self.plan, self.test_plans = self.net.plan, [net.plan for net in self.test_nets]  # see use_plans
        self.update = Update(param, rule, self.net)
        if peers is not None:
            peers.connect(self.net)
        self.log.scaffolding_done()

    # -- training ------------------------------------------------------------------------------------------------
    def step(self, iterations: int) -> None:
        """Do this many training iterations (docs/engine.md section 4.2)."""
        param = self.param
        check_policy(param)
        stop = self.iter + iterations
        self.log.begin(self.iter)
        while self.iter < stop:
            if self._is_test_due() and (self.iter > 0 or param.test_initialization):
                if self.context.is_root:
                    self.test_all()
                if self._agreed(Action.STOP if self._stop else Action.NONE) is Action.STOP:
                    self._stop = True
                    break
            if self.replay is None:
                self._iterate()
            else:
                self._launch()
            action = self._agreed(self.action_function())
            if self.context.is_root and (self._is_snapshot_due() or action is Action.SNAPSHOT):
                self.snapshot()
            if action is Action.STOP:
                self._stop = True
                break
        self._settle()

    def solve(self, resume_file: str | os.PathLike | None = None) -> None:
        """Train to max_iter with tests and snapshots (docs/engine.md section 4.8)."""
        param = self.param
        self._stop = False
        if param.snapshot_after_train and self.context.is_root:
            snapshots.check_writable(param)  # now rather than after hours of training
        self.log.solving(self.net.name)
        if resume_file:
            self.log.restoring(resume_file)
            self.restore(resume_file)
        for listener in self.listeners:
            listener.started(self)
        self.step(param.max_iter - self.iter)
        if param.snapshot_after_train and not self._is_snapshot_due():
            self.snapshot()
        if self._stop:
            self.log.stopped()
            return
        if self.log.displays(self.iter):
            check_weights(self.iter, self.net)
            loss = float(self.plan.forward())
            check_output(self.iter, "the training loss", loss)
            self.log.smooth(self.iter, loss)
            self.log.last_loss(self.iter)
        if self._is_test_due() and self.context.is_root:
            self.test_all()
        self.log.done()

    def _agreed(self, action):
        """The action that all solvers that train together take, where this one would take `action`."""
        return action if self.peers is None else self.peers.agree(action)

    def _is_test_due(self):
        return bool(self.param.test_interval) and self.iter % self.param.test_interval == 0

    def _is_snapshot_due(self):
        return bool(self.param.snapshot) and self.iter % self.param.snapshot == 0

    # -- an iteration --------------------------------------------------------------------------------------------
    def _iterate(self):
        """One iteration, layer by layer."""
        for callback in self._on_start:
            callback()
        self.log.enter(self.iter)
        loss = float(self._gradients())
        self._account(loss)
        if self.peers is not None:
            self.peers.average(self.net)
        for callback in self._on_gradients_ready:
            callback()
        rate = self.apply_update()
        for listener in self.listeners:
            listener.trained(self, loss / self.param.iter_size, rate)

    def _gradients(self):
        """The gradients of iter_size batches together; returns the sum of their losses (0-d tensor or number)."""
        self.net.clear_param_diffs()
        loss = 0.0
        for _ in range(self.param.iter_size):
            loss = loss + self.plan.forward()
            self.plan.run_backward()
        return loss

    def _account(self, loss):
        """Check, smooth and display the sum of an iteration's losses (a float)."""
        loss /= self.param.iter_size
        check_loss(self.iter, loss, self.net, self.replay is not None)
        self.log.smooth(self.iter, loss)
        if self.log.displays(self.iter):
            check_weights(self.iter, self.net)
            if self.context.is_root:
                self.log.iteration(self.iter)
                scores = self.net.output_scores()
                self.log.scores("Train", scores)
                check_scores(self.iter, "Train", scores)

    @property
    def lr(self) -> float:
        """The current learning rate; evaluating `multistep` may advance its step."""
        if self.update.reach_step(self.iter):
            self.log.step(self.iter, self.update.current_step)
        return self.update.rate(self.iter)

    @property
    def history(self) -> list[Blob]:
        """The history Blobs of the update rule, as snapshots hold them."""
        return self.update.history

    def apply_update(self) -> float:
        """Clip, normalise, regularise, update (docs/engine.md section 4.3); returns the learning rate."""
        rate = self.lr
        self.log.rate(self.iter, rate)
        norm = self.update.apply(self.update.rates(rate, self.iter))
        if norm is not None:
            self.log.clipping(float(norm))
        self.iter += 1
        return rate

    # -- iterations that are replays of a graph ------------------------------------------------------------------
    def obstacle(self) -> str | None:
        """Why an iteration cannot be captured as a graph although its net can (a text), or None."""
        if self.context.solver_count > 1:
            return "several solvers train together"
        if self._on_start or self._on_gradients_ready:
            return "callbacks are called in every iteration"
        if self.param.debug_info:
            return "debug_info looks at every blob"
        return None

    def iteration(self, rates: Sequence[torch.Tensor]) -> torch.Tensor:
        """An iteration on the device alone, with 0-d tensors as rates; returns its loss and norm, (2,)."""
        loss = self._gradients()
        norm = self.update.apply(rates)
        zero = torch.zeros((), device=self.context.device)
        return torch.stack((zero + loss, zero if norm is None else norm))

    def _launch(self):
        """Start the replay of one iteration; what it computes is read back when somebody wants to know."""
        update = self.update
        stepped = update.reach_step(self.iter)
        rate = update.rate(self.iter)
        self.replay.launch(update.rates(rate, self.iter))
        self._launched.append((self.iter, rate, update.current_step if stepped else None))
        displays = self.log.displays(self.iter)
        self.iter += 1
        if displays or self.replay.full:
            self._settle()

    def _settle(self):
        """Read back what the launched iterations computed; log and count them as if each had just been done."""
        if not self._launched:
            return
        reached, launched, self._launched = self.iter, self._launched, []
        results = self.replay.read().tolist()
        for (self.iter, rate, step), (loss, norm) in zip(launched, results, strict=True):
            self._account(loss)
            if step is not None:
                self.log.step(self.iter, step)
            self.log.rate(self.iter, rate)
            self.log.clipping(norm)
            self.iter += 1
            for listener in self.listeners:
                listener.trained(self, loss / self.param.iter_size, rate)
        assert self.iter == reached

    # -- testing -------------------------------------------------------------------------------------------------
    def test_all(self) -> None:
        """Run every test net over its test_iter batches and log the mean outputs."""
        self._settle()
        check_weights(self.iter, self.net)
        for i in range(len(self.test_nets)):
            if self._stop:
                break
            self._test(i)

    def _test(self, i):
        param, net = self.param, self.test_nets[i]
        self.log.testing(self.iter, i)
        net.share_with(self.net)
        replay = self.test_replays.get(i)
        total, sums, loss = param.test_iter[i], None, 0.0
        for batch in range(total):
            if not self._goes_on():
                if replay is not None:
                    replay.read()  # and forget
                self.log.test_interrupted()
                return
            if replay is None:
                passes = [(self.test_plans[i].forward(), net.output_scores())]
            else:
                replay.launch()
                passes = replay.read_tests() if replay.full or batch == total - 1 else []
            for batch_loss, scores in passes:
                loss = loss + batch_loss
                if sums is None:
                    sums = [(name, weight, values.copy()) for name, weight, values in scores]
                else:
                    for (_, _, into), (_, _, values) in zip(sums, scores, strict=True):
                        into += values
        if param.test_compute_loss:
            self.log.test_loss(float(loss) / total)
        check_output(self.iter, f"the loss of test net #{i}", float(loss))
        means = [(name, weight, values / total) for name, weight, values in sums or []]
        self.log.scores("Test", means)
        check_scores(self.iter, "Test", means)
        for listener in self.listeners:
            listener.tested(self, i, means)

    def _goes_on(self):
        """Do what the action function asks for between test batches; False if it asks to stop."""
        while (action := self.action_function()) is not Action.NONE:
            if action is Action.STOP:
                self._stop = True
                return False
            self.snapshot()
        return True

    # -- snapshots -----------------------------------------------------------------------------------------------
    def snapshot(self) -> None:
        """Write model, resume file and solver state `<prefix>_iter_<iter>.*` (see snapshots.write)."""
        self._settle()
        snapshots.write(self)

    def restore(self, path: str | os.PathLike) -> None:
        """Continue from a .solverstate (binary, or HDF5 if the name ends in .h5), with its resume file if there."""
        self.iter = snapshots.read(path, self.update, self.net)
        self.replay, self.test_replays = None, {}  # the random streams that graphs draw from are replaced
        snapshots.read_resume(path, self.iter, self.net, self.test_nets)

    # -- how the passes are done ---------------------------------------------------------------------------------
    def use_plans(self, change: Callable[[Plan], Plan]) -> None:
        """Let change(plan) -> Plan decide how the passes of all nets are done."""
        self.plan = change(self.net.plan)
        self.test_plans = [change(net.plan) for net in self.test_nets]

    def use_replays(self, replay: Replay | None, test_replays: Mapping[int, Replay | None]) -> None:
        """Do iterations and tests by these replay.Replays (None: by plans), {test net index: Replay}."""
        self.replay, self.test_replays = replay, test_replays

    # -- others --------------------------------------------------------------------------------------------------
    def add_callback(
        self, on_start: Callable[[], object], on_gradients_ready: Callable[[], object] | None = None
    ) -> None:
        """Call on_start() before and on_gradients_ready() after the gradients of every iteration."""
        self._on_start.append(on_start)
        if on_gradients_ready is not None:
            self._on_gradients_ready.append(on_gradients_ready)

    def share_weights(self, net: Net) -> None:
        """Make `net` alias the train net's parameters."""
        net.share_with(self.net)

    # -- construction --------------------------------------------------------------------------------------------
    def _load(self, source, debug_info, base, *states):
        """A net from a file name or NetParameter, its state: `base`, then the prototxt's own, then `states`."""
        param = caffe_pb2.NetParameter()
        param.CopyFrom(read_net(source) if isinstance(source, str) else source)
        state = caffe_pb2.NetState(phase=base)
        for other in (param.state, *states):
            state.MergeFrom(other)
        param.state.CopyFrom(state)
        net = self.net_type.from_param(param, self.context, debug_info)
        for files in self.param.weights:
            for path in files.split(","):
                glog.info(f"Finetuning from {path.strip()}")
                net.copy_from(path.strip())
        return net

    def _make_train_net(self):
        param = self.param
        fields = ("net", "net_param", "train_net", "train_net_param")
        given = [field for field in fields if param.HasField(field)]
        check(
            len(given) == 1,
            "SolverParameter must specify a train net using one of these fields",
            f"one of {', '.join(fields)}",
            " and ".join(given) or "none",
        )
        source = getattr(param, given[0])
        self.log.train_net(given[0], source)
        return self._load(source, self.log.shows_blobs, caffe_pb2.TRAIN, param.train_state)

    def _make_test_nets(self):
        param = self.param
        sources = [("test_net_param", p) for p in param.test_net_param] + [("test_net file", f) for f in param.test_net]
        generic = "net_param" if param.HasField("net_param") else "net" if param.HasField("net") else None
        if generic is None:
            check(
                len(param.test_iter) == len(sources),
                "test_iter must be specified for each test network",
                f"{len(sources)} of them",
                len(param.test_iter),
            )
        else:
            check(
                len(param.test_iter) >= len(sources),
                "test_iter must be specified for each test network",
                f"at least {len(sources)} of them",
                len(param.test_iter),
            )
            left = len(param.test_iter) - len(sources)
            sources += [("net_param" if generic == "net_param" else "net file", getattr(param, generic))] * left
        check(
            len(param.test_state) in (0, len(sources)),
            "test_state must be unspecified or specified once per test net",
            f"0 or {len(sources)}",
            len(param.test_state),
        )
        check(
            not sources or param.test_interval > 0,
            "test_interval",
            "a positive number because there are test nets",
            param.test_interval,
        )
        check(min(param.test_iter, default=1) > 0, "test_iter", "a positive number of batches", list(param.test_iter))
        if not self.context.is_root:
            return []  # only the root tests
        nets = []
        for i, (kind, source) in enumerate(sources):
            self.log.test_net(i, kind, source)
            states = [param.test_state[i]] if len(param.test_state) else []
            nets.append(self._load(source, lambda: param.debug_info, caffe_pb2.TEST, *states))
        return nets
