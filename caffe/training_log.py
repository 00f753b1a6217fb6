"""The log lines of training, word for word those of Caffe, which other tools parse (docs/engine.md section 4)."""

from __future__ import annotations

import os
import time

import numpy as np
from google.protobuf import text_format

from caffe import glog
from caffe.context import Context
from caffe_proto import caffe_pb2


class TrainingLog:
    """Writes the lines of one solver with SolverParameter `param`, and smooths the loss that they show.

    Of several solvers that train together only the root writes, as `context` says.
    """

    def __init__(self, param: caffe_pb2.SolverParameter, context: Context):
        self.param, self.context = param, context
        self.losses, self.smoothed, self.started = [], 0.0, 0
        self._debug_info = None

    # -- construction --------------------------------------------------------------------------------------------
    def parameters(self) -> None:
        """The SolverParameter as text."""
        self.context.say("Initializing solver from parameters: \n" + text_format.MessageToString(self.param))

    def train_net(self, field: str, source: str | caffe_pb2.NetParameter) -> None:
        """`source`: a file name or a NetParameter, found in SolverParameter's `field`."""
        if isinstance(source, str):
            what = "train_net file" if field == "train_net" else "net file"
            self.context.say(f"Creating training net from {what}: {source}")
        else:
            self.context.say(f"Creating training net specified in {field}.")

    def test_net(self, i: int, kind: str, source: str | caffe_pb2.NetParameter) -> None:
        """Test net number `i` is made; `kind`: the field that specifies it, and `file` if `source` is a file name."""
        self.context.say(f"Creating test net (#{i}) specified by {kind}" + (f": {source}" if "file" in kind else ""))

    def scaffolding_done(self) -> None:
        """The solver is complete."""
        self.context.say("Solver scaffolding done.")

    # -- iterations ----------------------------------------------------------------------------------------------
    def begin(self, iteration: int) -> None:
        """Smooth and time anew from `iteration` on."""
        self.losses, self.smoothed, self.started = [], 0.0, iteration
        self.timer, self.timed_from = time.monotonic(), iteration

    def enter(self, iteration: int) -> None:
        """This iteration is the present one."""
        self._debug_info = self.displays(iteration) and self.param.debug_info

    def shows_blobs(self) -> bool | None:
        """True if the passes of the present iteration log what they compute; None before the first."""
        return self._debug_info

    def displays(self, iteration: int) -> bool:
        """True if this iteration is one of those that are shown."""
        return bool(self.param.display and iteration % self.param.display == 0)

    def smooth(self, iteration: int, loss: float) -> None:
        """Take the loss of an iteration into the mean over average_loss iterations."""
        window = self.param.average_loss
        if len(self.losses) < window:
            self.losses.append(loss)
            count = len(self.losses)
            self.smoothed = (self.smoothed * (count - 1) + loss) / count
        else:
            index = (iteration - self.started) % window
            self.smoothed += (loss - self.losses[index]) / window
            self.losses[index] = loss

    def iteration(self, iteration: int) -> None:
        """`Iteration 20 (5.1 iter/s, 3.9s/20 iters), loss = 0.5`."""
        seconds = time.monotonic() - self.timer
        done = iteration - self.timed_from
        self.context.say(
            f"Iteration {iteration} ({glog.g(done / (seconds or 1))} iter/s, "
            f"{glog.g(seconds)}s/{self.param.display} iters), loss = {glog.g(self.smoothed)}"
        )
        self.timer, self.timed_from = time.monotonic(), iteration

    def rate(self, iteration: int, rate: float) -> None:
        """The learning rate, if this iteration is one of those that are shown."""
        if self.displays(iteration):
            self.context.say(f"Iteration {iteration}, lr = {glog.g(rate)}")

    def step(self, iteration: int, step: int) -> None:
        """Multistep has come to its step number `step`; every solver says so, as in Caffe."""
        glog.info(f"MultiStep Status: Iteration {iteration}, step = {step}")

    def clipping(self, norm: float) -> None:
        """`norm`: of the gradients, before they were clipped."""
        clip = self.param.clip_gradients
        if 0 <= clip < norm:
            self.context.say(
                f"Gradient clipping: scaling down gradients (L2 norm {glog.g(norm)} > {glog.g(clip)}) by "
                f"scale factor {glog.g(clip / norm)}"
            )

    def scores(self, kind: str, scores: list[tuple[str, float, np.ndarray]]) -> None:
        """The outputs [(name, weight, values)] of a net; `kind`: Train or Test."""
        number = 0
        for name, weight, values in scores:
            for value in values:
                suffix = f" (* {glog.g(weight)} = {glog.g(weight * value)} loss)" if weight else ""
                self.context.say(f"    {kind} net output #{number}: {name} = {glog.g(value)}{suffix}")
                number += 1

    # -- tests ---------------------------------------------------------------------------------------------------
    def testing(self, iteration: int, i: int) -> None:
        """Test net number `i` is about to run."""
        self.context.say(f"Iteration {iteration}, Testing net (#{i})")

    def test_interrupted(self) -> None:
        """The action function stopped a test."""
        self.context.say("Test interrupted.")

    def test_loss(self, loss: float) -> None:
        """The mean loss of a test."""
        self.context.say(f"Test loss: {glog.g(loss)}")

    # -- the whole run -------------------------------------------------------------------------------------------
    def solving(self, name: str) -> None:
        """Training of the net of this name begins."""
        self.context.say(f"Solving {name}")
        self.context.say(f"Learning Rate Policy: {self.param.lr_policy}")

    def restoring(self, path: str | os.PathLike) -> None:
        """Training goes on from the solverstate `path`; every solver says so, as in Caffe."""
        glog.info(f"Restoring previous solver status from {path}")

    def last_loss(self, iteration: int) -> None:
        """The smoothed loss after the last iteration."""
        self.context.say(f"Iteration {iteration}, loss = {glog.g(self.smoothed)}")

    def stopped(self) -> None:
        """The action function stopped the training; every solver says so, as in Caffe."""
        glog.info("Optimization stopped early.")

    def done(self) -> None:
        """Training has come to max_iter."""
        self.context.say("Optimization Done.")
