"""Solvers: training and test nets, iterations, logs, snapshots (docs/engine.md section 4)."""

import enum
import json
import os
import tempfile
import time

import h5py
import numpy as np
import torch
from google.protobuf import text_format

from caffe import glog, mode
from caffe.blob import Blob
from caffe.errors import CaffeError, check
from caffe.pycaffe import Net
from caffe.update_rules import RULES, check_policy, learning_rate
from caffe_proto import (
    CaffeFileError,
    array_to_blobproto,
    atomic_hdf5,
    blobproto_to_array,
    caffe_pb2,
    check_finite,
    read_net,
    read_solver,
    read_solver_state,
    write_file,
    write_message,
)
from caffe_proto.files import is_hdf5


class Action(enum.Enum):
    """What an action function may ask of a running solver."""

    NONE = 0
    STOP = 1
    SNAPSHOT = 2


class Solver:
    """Trains `net`, tests `test_nets`; `iter` counts the updates done.

    `param` is a SolverParameter; `rule` an update rule's name (default: the parameter's type). `action_function`
    returns an Action and is polled after every update and before every test batch. `listeners` have the methods
    trained(solver, loss, rate), tested(solver, test net index, scores), snapshotted(solver) for progress and curves.
    """

    def __init__(self, param, rule=None):
        self.param = param
        rule = rule or param.type
        if rule not in RULES:
            raise CaffeError(f"Unknown solver type: {rule} (known types: {', '.join(sorted(RULES))})")
        if mode.root_solver():
            glog.info("Initializing solver from parameters: \n" + text_format.MessageToString(param))
        check(param.average_loss >= 1, "average_loss should be non-negative.")
        check(param.iter_size >= 1, f"solver: found iter_size {param.iter_size}; wanted a positive one")
        if param.snapshot:
            self._check_snapshot_writable()
        if param.random_seed >= 0:
            mode.random.seed(param.random_seed + mode.solver_rank(), order=param.random_seed)
        self.rule = RULES[rule](param)
        self.iter = 0
        self.current_step = 0
        self.action_function = lambda: Action.NONE
        self.agree = lambda action: action  # solvers that train together replace it by the root's action
        self.listeners = []
        self._on_start, self._on_gradients_ready = [], []
        self._stop = False
        self._losses, self._smoothed, self._started = [], 0.0, 0
        self.replay, self.test_replays = None, {}  # caffe.graph.accelerate sets them (test net index: Replay)
        self._launched = []  # (iteration, rate, multistep's step if it was reached) of replays not read back
        self._make_train_net()
        self._make_test_nets()
        self._make_history()
        if mode.root_solver():
            glog.info("Solver scaffolding done.")

    # -- construction --------------------------------------------------------------------------------------------
    def _check_snapshot_writable(self):
        param = self.param
        if not mode.root_solver():
            return
        check(param.snapshot_prefix, "solver: snapshot is set; wanted snapshot_prefix as well")
        stem = f"{param.snapshot_prefix}_iter_{param.max_iter}."
        try:  # a new file, whose name is as long as that of the longest snapshot (.solverstate.h5)
            handle, probe = tempfile.mkstemp(".probe", os.path.basename(stem), os.path.dirname(stem) or os.curdir)
            os.close(handle)
            os.unlink(probe)
        except OSError as error:
            raise CaffeError(
                f"Cannot write to snapshot prefix '{param.snapshot_prefix}'.  Make sure that the "
                f"directory exists and is writable: {error.strerror}"
            ) from None

    def _load(self, source, base, *states):
        """A net from a file name or NetParameter, its state: `base`, then the prototxt's own, then `states`."""
        param = caffe_pb2.NetParameter()
        param.CopyFrom(read_net(source) if isinstance(source, str) else source)
        state = caffe_pb2.NetState(phase=base)
        for other in (param.state, *states):
            state.MergeFrom(other)
        param.state.CopyFrom(state)
        net = Net.from_param(param)
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
            f"SolverParameter must specify a train net using one of these fields: "
            f"{', '.join(fields)}; found {given or 'none'}",
        )
        source = getattr(param, given[0])
        if mode.root_solver():
            if isinstance(source, str):
                what = "train_net file" if given[0] == "train_net" else "net file"
                glog.info(f"Creating training net from {what}: {source}")
            else:
                glog.info(f"Creating training net specified in {given[0]}.")
        self.net = self._load(source, caffe_pb2.TRAIN, param.train_state)

    def _make_test_nets(self):
        param = self.param
        sources = [("test_net_param", p) for p in param.test_net_param] + [("test_net file", f) for f in param.test_net]
        generic = "net_param" if param.HasField("net_param") else "net" if param.HasField("net") else None
        if generic is None:
            check(
                len(param.test_iter) == len(sources),
                f"test_iter must be specified for each test network: found {len(param.test_iter)} for {len(sources)}",
            )
        else:
            check(
                len(param.test_iter) >= len(sources),
                f"test_iter must be specified for each test network: found {len(param.test_iter)} for {len(sources)}",
            )
            left = len(param.test_iter) - len(sources)
            sources += [("net_param" if generic == "net_param" else "net file", getattr(param, generic))] * left
        check(
            len(param.test_state) in (0, len(sources)),
            f"test_state must be unspecified or specified once per test net: found {len(param.test_state)} for "
            f"{len(sources)}",
        )
        check(
            not sources or param.test_interval > 0,
            f"test_interval: found {param.test_interval}; wanted a positive one because there are test nets",
        )
        self.test_nets = []
        for i, (kind, source) in enumerate(sources):
            if not mode.root_solver():
                break  # only the root tests
            glog.info(f"Creating test net (#{i}) specified by {kind}" + (f": {source}" if "file" in kind else ""))
            states = [param.test_state[i]] if len(param.test_state) else []
            self.test_nets.append(self._load(source, caffe_pb2.TEST, *states))

    def _make_history(self):
        params = self.net.learnable_params
        self.history = [Blob(tuple(p.shape)) for _ in range(self.rule.histories) for p in params]
        for blob, p in zip(self.history, params * self.rule.histories, strict=True):
            blob.value = torch.zeros_like(p.value)  # in the memory format of the parameter

    # -- training ------------------------------------------------------------------------------------------------
    def step(self, iterations):
        """Do this many training iterations (docs/engine.md section 4.2)."""
        param = self.param
        check_policy(param)
        stop, self._started = self.iter + iterations, self.iter
        self._losses, self._smoothed = [], 0.0
        self._timer, self._timed_from = time.monotonic(), self.iter
        while self.iter < stop:
            if (
                param.test_interval
                and self.iter % param.test_interval == 0
                and (self.iter > 0 or param.test_initialization)
            ):
                if mode.root_solver():
                    self.test_all()
                if self.agree(Action.STOP if self._stop else Action.NONE) is Action.STOP:
                    self._stop = True
                    break
            if self.replay is None:
                self._iterate()
            else:
                self._launch()
            action = self.agree(self.action_function())
            if mode.root_solver() and (
                (param.snapshot and self.iter % param.snapshot == 0) or action is Action.SNAPSHOT
            ):
                self.snapshot()
            if action is Action.STOP:
                self._stop = True
                break
        self._settle()

    @property
    def _displays(self):
        return bool(self.param.display and self.iter % self.param.display == 0)

    def _iterate(self):
        """One iteration, layer by layer."""
        for callback in self._on_start:
            callback()
        self.net.debug_info = self._displays and self.param.debug_info
        loss = float(self._gradients())
        self._account(loss)
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
            loss = loss + self.net.forward_tensors()
            self.net.run_backward()
        return loss

    def _account(self, loss):
        """Check, smooth and display the sum of an iteration's losses (a float)."""
        loss /= self.param.iter_size
        self._check_finite(loss)
        self._smooth(loss)
        if self._displays:
            self._check_weights()
            self._display()

    # -- training by replays of a graph --------------------------------------------------------------------------
    def obstacle(self):
        """Why an iteration cannot be captured as a graph although its net can (a text), or None."""
        if mode.solver_count() > 1:
            return "several solvers train together"
        if self._on_start or self._on_gradients_ready:
            return "callbacks are called in every iteration"
        if self.param.debug_info:
            return "debug_info looks at every blob"
        return None

    def iteration(self, rates):
        """An iteration on the device alone, with 0-d tensors as _rates' numbers; returns its loss and norm, (2,)."""
        loss = self._gradients()
        norm = self._update(rates)
        zero = torch.zeros((), device=mode.device())
        return torch.stack((zero + loss, zero if norm is None else norm))

    def _launch(self):
        """Start the replay of one iteration; what it computes is read back when somebody wants to know."""
        stepped = self._reach_step()
        rate = learning_rate(self.param, self.iter, self.current_step)
        self.replay.launch(self._rates(rate))
        self._launched.append((self.iter, rate, self.current_step if stepped else None))
        displays = self._displays
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
                self._log_step(step)
            self._log_rate(rate)
            self._log_clipping(norm)
            self.iter += 1
            for listener in self.listeners:
                listener.trained(self, loss / self.param.iter_size, rate)
        assert self.iter == reached

    def _check_finite(self, loss):
        if np.isfinite(loss):
            return
        if self.replay is not None:
            raise CaffeError(
                f"Iteration {self.iter}: the training loss is {glog.g(loss)}; a finite number was wanted "
                "(no snapshot was written since; earlier ones are untouched). Look at learning rate and "
                "input data; CAFFE_CUDA_GRAPH=0 names the first blob that is not finite."
            )
        raise CaffeError(
            f"Iteration {self.iter}: the training loss is {glog.g(loss)}; a finite number was wanted "
            "(weights were not updated and no snapshot was written; earlier snapshots are untouched). "
            + self._first_not_finite()
        )

    def _check_weights(self, history=False):
        """Raise CaffeError naming the first parameter (or, if asked, history blob) that holds NaN or infinite numbers.

        The loss alone does not show them: a convolution that oneDNN rectifies as it writes makes NaN 0 (caffe.fusion).
        """
        blobs = {
            f"param {j} of layer '{self.net._layer_names[i]}'": blob
            for (_, _, i, j), blob in zip(self.net.owned_params(), self.net.learnable_params, strict=True)
        }
        if history:
            blobs |= {f"history blob {k}": blob for k, blob in enumerate(self.history)}
        # a sum shows each of them at a fraction of the cost; finite numbers may overflow it, so that we look again
        if not blobs or bool(torch.stack([blob.value.sum() for blob in blobs.values()]).isfinite().all()):
            return
        for name, blob in blobs.items():
            wrong = blob.count - int(blob.value.isfinite().sum())
            check(
                not wrong,
                f"Iteration {self.iter}: {name} holds NaN or infinite numbers ({wrong} of {blob.count}); "
                "no snapshot was written (earlier ones are untouched): look at learning rate and data",
            )

    def _first_not_finite(self):
        """Names the first blob that is not finite, from another forward pass over the same data."""
        net = self.net
        for i, (layer, bottom, top) in enumerate(zip(net.layers, net.bottom_vecs, net.top_vecs, strict=True)):
            if bottom:
                layer.forward(bottom, top)
            for k, blob in zip(net.top_ids[i], top, strict=True):
                if not bool(torch.isfinite(blob.value).all()):
                    return (
                        f"The first blob that is not finite is '{net._blob_names[k]}' of layer "
                        f"'{net._layer_names[i]}': look at its weights, the learning rate and the input data."
                    )
        return "All blobs are finite: look at the loss weights."

    def _smooth(self, loss):
        window = self.param.average_loss
        if len(self._losses) < window:
            self._losses.append(loss)
            count = len(self._losses)
            self._smoothed = (self._smoothed * (count - 1) + loss) / count
        else:
            index = (self.iter - self._started) % window
            self._smoothed += (loss - self._losses[index]) / window
            self._losses[index] = loss

    def _display(self):
        if not mode.root_solver():
            return
        seconds = time.monotonic() - self._timer
        done = self.iter - self._timed_from
        glog.info(
            f"Iteration {self.iter} ({glog.g(done / (seconds or 1))} iter/s, "
            f"{glog.g(seconds)}s/{self.param.display} iters), loss = {glog.g(self._smoothed)}"
        )
        self._timer, self._timed_from = time.monotonic(), self.iter
        self._log_scores("Train", self.net.output_scores())

    def _log_scores(self, kind, scores):
        """Log the outputs [(name, weight, values)] of a net; raises CaffeError if one is not finite."""
        number = 0
        for name, weight, values in scores:
            for value in values:
                suffix = f" (* {glog.g(weight)} = {glog.g(weight * value)} loss)" if weight else ""
                glog.info(f"    {kind} net output #{number}: {name} = {glog.g(value)}{suffix}")
                number += 1
        for name, _, values in scores:
            self._check_output(f"{kind.lower()} net output {name}", values)

    def _check_output(self, name, values):
        for value in np.ravel(values):
            check(
                np.isfinite(value),
                f"Iteration {self.iter}: {name} is {glog.g(value)}; a finite number was wanted "
                "(earlier snapshots are untouched): look at learning rate and data",
            )

    @property
    def lr(self):
        """The current learning rate; evaluating `multistep` may advance its step."""
        if self._reach_step():
            self._log_step(self.current_step)
        return learning_rate(self.param, self.iter, self.current_step)

    def _reach_step(self):
        """Go on to multistep's next rate if its iteration has come; True if so."""
        param = self.param
        reached = (
            param.lr_policy == "multistep"
            and self.current_step < len(param.stepvalue)
            and self.iter >= param.stepvalue[self.current_step]
        )
        self.current_step += reached
        return reached

    def _log_step(self, step):
        glog.info(f"MultiStep Status: Iteration {self.iter}, step = {step}")

    def _log_rate(self, rate):
        if self._displays and mode.root_solver():
            glog.info(f"Iteration {self.iter}, lr = {glog.g(rate)}")

    def _rates(self, rate):
        """What the update rule makes of a learning rate in this iteration, for each of _rate_groups."""
        factor = self.rule.begin(rate, self.iter)
        return [factor * mult for mult in self._rate_groups()]

    def _rate_groups(self):
        """{lr_mult: indices of the parameters that have it}."""
        groups = {}
        for i, mult in enumerate(self.net.lr_mults):
            groups.setdefault(mult, []).append(i)
        return groups

    def apply_update(self):
        """Clip, normalise, regularise, update (docs/engine.md section 4.3); returns the learning rate."""
        rate = self.lr
        self._log_rate(rate)
        norm = self._update(self._rates(rate))
        if norm is not None:
            self._log_clipping(float(norm))
        self.iter += 1
        return rate

    def _update(self, rates):
        """Clip, normalise, regularise, update on the device alone; returns the gradients' norm if they are clipped.

        `rates`: a number or a 0-d tensor for each of _rate_groups.
        """
        param, net = self.param, self.net
        grads, values = [p.grad for p in net.learnable_params], [p.value for p in net.learnable_params]
        if not grads:
            return None
        norm = self._clip(grads)
        if param.iter_size != 1:
            torch._foreach_mul_(grads, 1.0 / param.iter_size)
        for g, value, mult in zip(grads, values, net.decay_mults, strict=True):
            self._regularise(g, value, param.weight_decay * mult)
        for rate, group in zip(rates, self._rate_groups().values(), strict=True):
            history = [[self.history[i + k * len(grads)].value for i in group] for k in range(self.rule.histories)]
            self.rule.step([grads[i] for i in group], history, rate)
        torch._foreach_sub_(values, grads)
        return norm

    def _clip(self, grads):
        """Scale gradients of a greater L2 norm than clip_gradients down to it; returns the norm before (0-d tensor)."""
        clip = self.param.clip_gradients
        if clip < 0:
            return None
        norm = torch.sqrt(sum(torch.dot(g.reshape(-1), g.reshape(-1)) for g in grads))
        exact = norm.double()
        scale = torch.where(exact > clip, torch.full_like(exact, clip) / exact, 1.0).float()
        torch._foreach_mul_(grads, scale)
        return norm

    def _log_clipping(self, norm):
        clip = self.param.clip_gradients
        if mode.root_solver() and 0 <= clip < norm:
            glog.info(
                f"Gradient clipping: scaling down gradients (L2 norm {glog.g(norm)} > {glog.g(clip)}) by "
                f"scale factor {glog.g(clip / norm)}"
            )

    def _regularise(self, g, data, decay):
        kind = self.param.regularization_type
        if not decay:
            return
        if kind == "L2":
            g.add_(data, alpha=decay)
        elif kind == "L1":
            g.add_(data.sign(), alpha=decay)
        else:
            raise CaffeError(f"Unknown regularization type: {kind} (known types: L1, L2)")

    # -- testing -------------------------------------------------------------------------------------------------
    def test_all(self):
        """Run every test net over its test_iter batches and log the mean outputs."""
        self._settle()
        self._check_weights()
        for i in range(len(self.test_nets)):
            if self._stop:
                break
            self._test(i)

    def _test(self, i):
        param, net = self.param, self.test_nets[i]
        glog.info(f"Iteration {self.iter}, Testing net (#{i})")
        net.share_with(self.net)
        net.debug_info = param.debug_info
        replay = self.test_replays.get(i)
        total, sums, loss = param.test_iter[i], None, 0.0
        for batch in range(total):
            while (action := self.action_function()) is not Action.NONE:
                if action is Action.SNAPSHOT:
                    self.snapshot()
                else:
                    self._stop = True
                    break
            if self._stop:
                if replay is not None:
                    replay.read()  # and forget
                glog.info("Test interrupted.")
                return
            if replay is None:
                passes = [(net.forward_tensors(), net.output_scores())]
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
            glog.info(f"Test loss: {glog.g(float(loss) / total)}")
        self._check_output(f"the loss of test net #{i}", float(loss))
        means = [(name, weight, values / total) for name, weight, values in sums or []]
        self._log_scores("Test", means)
        for listener in self.listeners:
            listener.tested(self, i, means)

    # -- the whole run -------------------------------------------------------------------------------------------
    def solve(self, resume_file=None):
        """Train to max_iter with tests and snapshots (docs/engine.md section 4.8)."""
        param = self.param
        self._stop = False
        if param.snapshot_after_train:
            self._check_snapshot_writable()  # now rather than after hours of training
        if mode.root_solver():
            glog.info(f"Solving {self.net.name}")
            glog.info(f"Learning Rate Policy: {param.lr_policy}")
        if resume_file:
            glog.info(f"Restoring previous solver status from {resume_file}")
            self.restore(resume_file)
        self.step(param.max_iter - self.iter)
        if param.snapshot_after_train and not (param.snapshot and self.iter % param.snapshot == 0):
            self.snapshot()
        if self._stop:
            glog.info("Optimization stopped early.")
            return
        if param.display and self.iter % param.display == 0:
            self._check_weights()
            loss = float(self.net.forward_tensors())
            self._check_output("the training loss", loss)
            self._smooth(loss)
            if mode.root_solver():
                glog.info(f"Iteration {self.iter}, loss = {glog.g(self._smoothed)}")
        if param.test_interval and self.iter % param.test_interval == 0 and mode.root_solver():
            self.test_all()
        if mode.root_solver():
            glog.info("Optimization Done.")

    def add_callback(self, on_start, on_gradients_ready=None):
        """Call on_start() before and on_gradients_ready() after the gradients of every iteration."""
        self._on_start.append(on_start)
        if on_gradients_ready is not None:
            self._on_gradients_ready.append(on_gradients_ready)

    def share_weights(self, net):
        """Make `net` alias the train net's parameters."""
        net.share_with(self.net)

    # -- snapshots -----------------------------------------------------------------------------------------------
    def snapshot(self):
        """Write model, solver state and resume file `<prefix>_iter_<iter>.*`; the state comes last, each atomically.

        The resume file (`.resume`, JSON) holds what BVLC Caffe's solverstate lacks: random state and data positions.
        Weights and history that are not finite are refused with CaffeError: nobody could go on from them.
        """
        self._settle()
        self._check_weights(history=True)
        param = self.param
        stem = f"{self.param.snapshot_prefix}_iter_{self.iter}"
        hdf5 = param.snapshot_format == param.HDF5
        model = stem + (".caffemodel.h5" if hdf5 else ".caffemodel")
        state = stem + (".solverstate.h5" if hdf5 else ".solverstate")
        kind = "HDF5" if hdf5 else "binary proto"
        try:
            glog.info(f"Snapshotting to {kind} file {model}")
            (self.net.save_hdf5 if hdf5 else self.net.save)(model, param.snapshot_diff)
            self._write_resume(stem + ".resume")
            glog.info(f"Snapshotting solver state to {kind} file {state}")
            (self._write_state_hdf5 if hdf5 else self._write_state)(state, model)
            for listener in self.listeners:
                listener.snapshotted(self)
        except OSError as error:
            raise CaffeError(
                f"snapshot {stem}: cannot be written ({error.strerror or error}); earlier snapshots are untouched"
            ) from None

    def _write_state(self, path, model):
        state = caffe_pb2.SolverState(iter=self.iter, learned_net=model, current_step=self.current_step)
        state.history.extend(array_to_blobproto(h.value.cpu().numpy()) for h in self.history)
        write_message(path, state)

    def _write_state_hdf5(self, path, model):
        with atomic_hdf5(path) as stream:
            file = stream.file
            file["iter"] = np.array([self.iter], np.int32)
            file["current_step"] = np.array([self.current_step], np.int32)
            # a fixed-length string, which is what BVLC Caffe reads
            file.create_dataset("learned_net", data=np.bytes_(model.encode() + b"\0"))
            history = file.create_group("history")
            for i, blob in enumerate(self.history):
                history[str(i)] = blob.value.cpu().numpy()

    def _write_resume(self, path):
        content = {
            "iter": self.iter,
            "random": mode.random.state(),
            "train": self.net.positions(),
            "test": [net.positions() for net in self.test_nets],
        }
        write_file(path, json.dumps(content, default=_plain))

    def restore(self, path):
        """Continue from a .solverstate (binary, or HDF5 if the name ends in .h5), with its resume file if there."""
        path = os.fspath(path)
        if not os.path.isfile(path):
            raise CaffeFileError(f"File not found: {path}")
        if path.endswith(".h5"):
            check(is_hdf5(path), f"{path}: not an HDF5 file; a solverstate in HDF5 form was wanted")
            iteration, model, step, history = self._read_state_hdf5(path)
        else:
            state = read_solver_state(path)
            iteration, model, step = state.iter, state.learned_net, state.current_step
            history = [blobproto_to_array(b, path) for b in state.history]
        check(
            len(history) == len(self.history),
            f"{path}: Incorrect length of history blobs.: found {len(history)}; wanted {len(self.history)}",
        )
        for i, (blob, array) in enumerate(zip(self.history, history, strict=True)):
            check(array.size == blob.count, f"{path}: history blob {i} has {array.size} numbers; wanted {blob.count}")
            check_finite(array, f"{path}: history blob {i}")
        if model:
            self.net.copy_from(model)
        self.iter, self.current_step = iteration, step
        for blob, array in zip(self.history, history, strict=True):
            blob.value.copy_(torch.from_numpy(array.reshape(blob.shape)))
        self.replay, self.test_replays = None, {}  # the random streams that graphs draw from are replaced
        self._read_resume(path.removesuffix(".h5").removesuffix(".solverstate") + ".resume")

    @staticmethod
    def _read_state_hdf5(path):
        with h5py.File(path, "r") as file:
            try:
                model = file["learned_net"][()] if "learned_net" in file else b""
                model = model.decode() if isinstance(model, bytes) else str(model)
                history = [np.asarray(file["history"][str(i)], np.float32) for i in range(len(file["history"]))]
                return int(file["iter"][0]), model.rstrip("\0"), int(file["current_step"][0]), history
            except (KeyError, OSError, TypeError, ValueError, AttributeError) as error:
                raise CaffeFileError(f"{path}: not a complete solverstate ({error})") from None

    def _read_resume(self, path):
        if not os.path.exists(path):
            glog.warning(f"{path} not found: data order and random state start anew, as after a snapshot of BVLC Caffe")
            return
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
            if content["iter"] != self.iter:
                glog.warning(f"{path} is of iteration {content['iter']}, the solverstate of {self.iter}: ignored")
                return
            mode.random.restore(content["random"])
            self.net.restore_positions(content["train"])
            for net, positions in zip(self.test_nets, content["test"], strict=False):
                net.restore_positions(positions)
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise CaffeFileError(
                f"{path}: not a readable resume file ({type(error).__name__}: {error}); without the "
                "file data order and random state start anew"
            ) from None


def _plain(value):
    """numpy values as JSON."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot write {type(value)} as JSON")


def solver_class(rule):
    """A pycaffe solver class: constructed from a prototxt file, with the update rule `rule` whatever the file says."""

    class FileSolver(Solver):
        def __init__(self, path):
            super().__init__(read_solver(os.fspath(path)), rule)

    FileSolver.__name__ = FileSolver.__qualname__ = f"{rule}Solver"
    FileSolver.__doc__ = f"A {rule} solver: {rule}Solver(solver_prototxt) with net, test_nets, iter, step(n), solve()."
    return FileSolver


SOLVERS = {rule: solver_class(rule) for rule in RULES}


def get_solver(path):
    """A solver of the class that the file's `type` names."""
    rule = read_solver(os.fspath(path)).type
    if rule not in SOLVERS:
        raise CaffeError(f"{path}: Unknown solver type: {rule} (known types: {', '.join(sorted(SOLVERS))})")
    return SOLVERS[rule](path)
