"""Where computation happens and who this solver is: device, precision, random streams, rank, settings.

Nets and solvers are given a Context and hand it to their layers; nothing else says where and how they compute. Those of
pycaffe are given the one that caffe.set_mode_gpu() and its siblings change (caffe.mode).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from caffe import glog
from caffe.errors import CaffeError

CPU = torch.device("cpu")


# -- settings from the environment -----------------------------------------------------------------------------------
def switch(environment: Mapping[str, str], variable: str, off: str, on: str) -> bool | None:
    """True if the variable is 1, False if it is 0, None if it is empty or absent; else CaffeError.

    `off` and `on` say in a few words what 0 and 1 mean.
    """
    text = environment.get(variable, "")
    if text not in ("", "0", "1"):
        raise CaffeError(variable, f"0 ({off}) or 1 ({on})", f"'{text}'")
    return None if text == "" else text == "1"


def megabytes(environment: Mapping[str, str], variable: str) -> int | None:
    """The number of bytes that a variable gives in megabytes; None if it is absent."""
    text = environment.get(variable)
    if text is not None and not (text.isascii() and text.isdigit()):
        raise CaffeError(variable, "a number of megabytes", f"'{text}'")
    return None if text is None else int(text) * 2**20


@dataclass(frozen=True)
class Settings:
    """How to compute (docs/engine.md section 7.1); None: as the program sees fit.

    tf32: CUDA's matrix products and convolutions may round inputs to TF32. channels_last: memory format of convolutions
    on CUDA. cuda_graph: capture iterations. hdf5_cache, hdf5_device: bytes that one data layer may keep in memory and
    on the device. progress: file (a terminal) for the progress line. python_layers: a prototxt's Python layers may
    import modules that nobody has imported yet.
    """

    tf32: bool = False
    channels_last: bool | None = None
    cuda_graph: bool = True
    hdf5_cache: int | None = None
    hdf5_device: int | None = None
    progress: str | None = None
    python_layers: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """What the CAFFE_* variables say; CaffeError names one that says something unknown."""
        return cls(
            tf32=bool(switch(environment, "CAFFE_TF32", "float32", "TF32")),
            channels_last=switch(environment, "CAFFE_CHANNELS_LAST", "the plain memory format", "channels_last"),
            cuda_graph=switch(environment, "CAFFE_CUDA_GRAPH", "plain passes", "graphs") is not False,
            hdf5_cache=megabytes(environment, "CAFFE_HDF5_CACHE_MB"),
            hdf5_device=megabytes(environment, "CAFFE_HDF5_DEVICE_MB"),
            progress=environment.get("CAFFE_PROGRESS"),
            python_layers=bool(switch(environment, "CAFFE_PYTHON_LAYERS", "refused", "imported")),
        )


_settings: Settings | None = None  # of the environment, for contexts that are given none


def read_environment() -> Settings:
    """Read the settings of the environment: the command line does it once, at its start; pycaffe at the first use."""
    global _settings
    _settings = Settings.from_environment(os.environ)
    return _settings


def allow_python_layers() -> None:
    """Let Python layers import whatever module a prototxt names, from now on: it runs the code of whoever wrote it."""
    global _settings
    _settings = replace(_settings or read_environment(), python_layers=True)


# -- random streams --------------------------------------------------------------------------------------------------
class RandomState:
    """The random streams of fillers, dropout and data order: one torch generator per device, all from one seed."""

    def __init__(self):
        self.seed(int(np.random.SeedSequence().generate_state(1)[0]))

    def seed(self, seed: int, order: int | None = None) -> None:
        """Restart every stream from `seed` (an int >= 0), the one of draw_seed from `order` if given."""
        self._seed = int(seed)
        self._order = torch.Generator().manual_seed(self._seed if order is None else int(order))
        self._generators = {}

    def generator(self, on: torch.device = CPU) -> torch.Generator:
        """The torch.Generator of device `on`, made from the seed on first use."""
        key = str(on)
        if key not in self._generators:
            self._generators[key] = torch.Generator(device=on)
            self._generators[key].manual_seed(self._seed)
        return self._generators[key]

    def renew(self, on: torch.device) -> torch.Generator:
        """A new generator for device `on`, in the state that generator() gives it first.

        For a generator that took part in a capture that failed: CUDA's refuse to work after that.
        """
        self._generators.pop(str(on), None)
        return self.generator(on)

    def draw_seed(self) -> int:
        """A 63-bit seed for a stream of data order, the same for all solvers that train together."""
        return int(torch.randint(0, 2**63 - 1, (1,), generator=self._order).item())

    def state(self) -> dict[str, Any]:
        """Everything needed to continue: {device name: uint8 array of the generator's state}, and the seed."""
        return {"seed": self._seed, "generators": {k: g.get_state().numpy() for k, g in self._generators.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state() of before; generators of devices that are absent here start from the seed."""
        self.seed(state["seed"])
        for name, values in state["generators"].items():
            on = torch.device(name)
            if on.type == "cuda" and not torch.cuda.is_available():
                continue
            self.generator(on).set_state(torch.from_numpy(np.array(values, dtype=np.uint8)))


# -- contexts --------------------------------------------------------------------------------------------------------
class Context:
    """device: a torch.device. gpu: the index of the GPU that use_gpu() turns to. random: a RandomState.

    solver_count, solver_rank: of the solvers that train together; rank 0 is the root, the only one that logs, tests and
    snapshots. capturing: True while operations are recorded for a graph, when nothing may wait for the device.
    """

    def __init__(
        self,
        device: torch.device = CPU,
        random: RandomState | None = None,
        settings: Settings | None = None,
        solver_count: int = 1,
        solver_rank: int = 0,
    ):
        self.device, self.gpu = device, device.index or 0
        self.random = RandomState() if random is None else random
        self.solver_count, self.solver_rank = solver_count, solver_rank
        self.capturing = False
        self._settings = settings

    @property
    def settings(self) -> Settings:
        """Those given, or else those of the environment."""
        if self._settings is not None:
            return self._settings
        return _settings if _settings is not None else read_environment()

    @property
    def generator(self) -> torch.Generator:
        """The random stream of the device."""
        return self.random.generator(self.device)

    # -- ranks ---------------------------------------------------------------------------------------------------
    @property
    def is_root(self) -> bool:
        """True for the root: the only solver, or the one of rank 0."""
        return self.solver_rank == 0

    def say(self, message: str) -> None:
        """Log an INFO line of the caller's place (the root alone)."""
        if self.is_root:
            glog.info(message, above=1)

    # -- device and precision ------------------------------------------------------------------------------------
    def use_cpu(self) -> None:
        """Compute on the CPU from now on."""
        self.device = CPU

    def select_gpu(self, index: int) -> None:
        """Make GPU `index` the one that use_gpu() turns to; where a GPU is used already, turn to this one.

        Raises CaffeError when there is no such CUDA device.
        """
        _require_gpu(index)
        self.gpu = int(index)
        torch.cuda.set_device(self.gpu)
        if self.device.type == "cuda":
            self.device = torch.device("cuda", self.gpu)

    def use_gpu(self) -> None:
        """Compute on the selected GPU from now on; the log says in which precision.

        Raises CaffeError when there is no such CUDA device.
        """
        _require_gpu(self.gpu)
        glog.info("GPU precision: " + ("TF32 (CAFFE_TF32=1)" if self.settings.tf32 else "float32"))
        self.device = torch.device("cuda", self.gpu)

    @contextlib.contextmanager
    def precision(self) -> Iterator[None]:
        """A `with` block in which CUDA computes as the settings say; torch's own switches are as before behind it.

        Matrix products and convolutions are float32 without TF32, as Caffe's, unless the settings allow TF32. cuDNN
        uses algorithms that give the same bits every time. `allow_tf32`, the older name, is not read: that raises an
        error where a user has set `fp32_precision` otherwise.
        """
        if self.device.type == "cpu":  # where none of it means anything
            yield
            return
        products, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        before = products.fp32_precision, cudnn.conv.fp32_precision, cudnn.deterministic, cudnn.benchmark
        products.fp32_precision = cudnn.conv.fp32_precision = "tf32" if self.settings.tf32 else "ieee"
        cudnn.deterministic, cudnn.benchmark = True, False
        try:
            yield
        finally:
            products.fp32_precision, cudnn.conv.fp32_precision, cudnn.deterministic, cudnn.benchmark = before

    @property
    def channels_last(self) -> bool:
        """True if convolutions over two axes work in torch's channels_last memory format.

        On the CPU it is the quickest. Tensor cores, which TF32 uses, read it as well; float32 on CUDA prefers the plain
        format. The settings may decide otherwise on CUDA.
        """
        if self.device.type == "cpu":
            return True
        asked = self.settings.channels_last
        return self.settings.tf32 if asked is None else asked

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        """A `with` block in which capturing is True."""
        self.capturing = True
        try:
            yield
        finally:
            self.capturing = False


def _require_gpu(index):
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not 0 <= int(index) < count:
        usable = f"0..{count - 1} alone; use one of them or CPU mode" if count else "none; use CPU mode"
        raise CaffeError(f"GPU {index}", "a usable CUDA device", usable)
