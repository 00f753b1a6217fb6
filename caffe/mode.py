"""Where computation happens and who this solver is: Caffe's thread-local mode, device, ranks and random seed."""

import contextlib
import os
import threading

import numpy as np
import torch

from caffe import glog
from caffe.errors import CaffeError

_CPU = torch.device("cpu")


class _State(threading.local):
    """Every thread starts on the CPU as the only solver, as Caffe's thread-local context does."""

    def __init__(self):
        self.device = _CPU
        self.gpu = 0
        self.solver_count = 1
        self.solver_rank = 0
        self.multiprocess = False
        self.capturing = False


_state = _State()


def device():
    """The torch.device that layers of existing and new nets compute on."""
    return _state.device


def set_mode_cpu():
    """Compute on the CPU from now on (this thread)."""
    _state.device = _CPU


def set_mode_gpu():
    """Compute on the selected GPU from now on (this thread); raises CaffeError when there is no CUDA device.

    Matrix products and convolutions are float32 without TF32, as Caffe's; CAFFE_TF32=1 in the environment allows TF32.
    cuDNN uses algorithms that give the same bits every time. The log says which precision is in force.
    """
    _require_gpu(_state.gpu)
    set_precision(tf32_wanted())
    _state.device = torch.device("cuda", _state.gpu)


def switch(variable, off, on, default=False):
    """True if the environment variable is 1, False if it is 0, `default` if it is empty or absent; else CaffeError.

    `off` and `on` say in a few words what 0 and 1 mean.
    """
    text = os.environ.get(variable, "")
    if text not in ("", "0", "1"):
        raise CaffeError(f"{variable}: found '{text}'; wanted 0 ({off}) or 1 ({on})")
    return default if text == "" else text == "1"


def tf32_wanted():
    """True if the environment variable CAFFE_TF32 is 1."""
    return switch("CAFFE_TF32", "float32", "TF32")


def set_precision(tf32):
    """Let CUDA's matrix products and convolutions round their inputs to TF32, or not; results are reproducible."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    glog.info("GPU precision: " + ("TF32 (CAFFE_TF32=1)" if tf32 else "float32"))


def channels_last(on):
    """True if convolutions over two axes on torch.device `on` work in torch's channels_last memory format.

    On the CPU it is the quickest. Tensor cores, which TF32 uses, read it as well; float32 on CUDA prefers the plain
    format. CAFFE_CHANNELS_LAST=0 or 1 decides otherwise on CUDA.
    """
    return on.type == "cpu" or switch(
        "CAFFE_CHANNELS_LAST", "the plain memory format", "channels_last", default=torch.backends.cuda.matmul.allow_tf32
    )


def set_device(index):
    """Select the GPU that set_mode_gpu uses; if the GPU mode is on already, switch to it."""
    _require_gpu(index)
    _state.gpu = int(index)
    torch.cuda.set_device(_state.gpu)
    if _state.device.type == "cuda":
        _state.device = torch.device("cuda", _state.gpu)


def _require_gpu(index):
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not 0 <= int(index) < count:
        raise CaffeError(
            f"GPU {index}: found {count} usable CUDA devices; use CPU mode or one of 0..{count - 1}"
            if count
            else f"GPU {index}: no usable CUDA device was found; use CPU mode"
        )


def solver_count():
    """Number of solvers that train this net together (1 unless set)."""
    return _state.solver_count


def set_solver_count(count):
    _state.solver_count = int(count)


def solver_rank():
    """Rank of this solver; 0 is the root, the only one that logs, tests and snapshots."""
    return _state.solver_rank


def set_solver_rank(rank):
    _state.solver_rank = int(rank)


def set_multiprocess(value):
    _state.multiprocess = bool(value)


def root_solver():
    """True for the solver of rank 0."""
    return _state.solver_rank == 0


def capturing():
    """True while operations are recorded for a graph: nothing may wait for the device or look at its numbers."""
    return _state.capturing


@contextlib.contextmanager
def capture():
    """Context in which capturing() is true (this thread)."""
    _state.capturing = True
    try:
        yield
    finally:
        _state.capturing = False


class RandomState:
    """The random streams of fillers, dropout and data order: one torch generator per device, all from one seed."""

    def __init__(self):
        self.seed(int(np.random.SeedSequence().generate_state(1)[0]))

    def seed(self, seed, order=None):
        """Restart every stream from `seed` (an int >= 0), the one of draw_seed from `order` if given."""
        self._seed = int(seed)
        self._order = torch.Generator().manual_seed(self._seed if order is None else int(order))
        self._generators = {}

    def generator(self, on=_CPU):
        """The torch.Generator of device `on`, made from the seed on first use."""
        key = str(on)
        if key not in self._generators:
            self._generators[key] = torch.Generator(device=on)
            self._generators[key].manual_seed(self._seed)
        return self._generators[key]

    def renew(self, on):
        """A new generator for device `on`, in the state that generator() gives it first.

        For a generator that took part in a capture that failed: CUDA's refuse to work after that.
        """
        self._generators.pop(str(on), None)
        return self.generator(on)

    def draw_seed(self):
        """A 63-bit seed for a stream of data order, the same for all solvers that train together."""
        return int(torch.randint(0, 2**63 - 1, (1,), generator=self._order).item())

    def state(self):
        """Everything needed to continue: {device name: uint8 array of the generator's state}, and the seed."""
        return {"seed": self._seed, "generators": {k: g.get_state().numpy() for k, g in self._generators.items()}}

    def restore(self, state):
        """Continue from a state() of before; generators of devices that are absent here start from the seed."""
        self.seed(state["seed"])
        for name, values in state["generators"].items():
            on = torch.device(name)
            if on.type == "cuda" and not torch.cuda.is_available():
                continue
            self.generator(on).set_state(torch.from_numpy(np.array(values, dtype=np.uint8)))


random = RandomState()


def set_random_seed(seed):
    """Seed all random streams of the runtime (fillers, dropout, data order)."""
    if seed < 0:
        raise CaffeError(f"random seed: found {seed}; wanted an integer >= 0")
    random.seed(seed)
