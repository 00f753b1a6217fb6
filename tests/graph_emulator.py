"""CUDA graphs on the CPU: operations recorded with their addresses and done again in place, without Python.

Has the interface of caffe.graph.CudaGraph and its rules: what waits for the device, looks at its numbers or brings
host memory there is refused while capturing; randomness comes from registered generators only; replays write to the
addresses of the capture and read those of memory made before it, which must still be alive.
"""

import contextlib

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
REFUSED = {  # packets of operations that need the device's numbers on the host, or host memory on the device
    aten._local_scalar_dense,
    aten.nonzero,
    aten.equal,
    aten.is_nonzero,
    aten.masked_select,
    aten.lift_fresh,
    aten._unique2,
    aten.unique_consecutive,
    aten.unique_dim,
    aten.bincount,
}


class NotPermitted(RuntimeError):
    """What CUDA answers to an operation that cannot be captured."""


def is_refused(packet, tensors):
    """True for an operation that waits for the device: one of REFUSED, or indexing by a mask."""
    masked = packet in (aten.index, aten.index_put_) and any(tensor.dtype == torch.bool for tensor in tensors)
    return masked or packet in REFUSED


class Refuser(TorchDispatchMode):
    """Raises where an operation is not permitted in a capture."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if is_refused(function.overloadpacket, given):
            raise NotPermitted(f"{function}: called a synchronizing operation")
        return function(*args, **(kwargs or {}))


class Place:
    """A tensor by its address: storage (weakly, if it was made before the capture) and geometry."""

    def __init__(self, tensor, inside):
        storage = tensor.untyped_storage()
        self.storage = storage if storage._cdata in inside else None
        self.weak = StorageWeakRef(storage)
        self.dtype, self.geometry = tensor.dtype, (tensor.storage_offset(), tuple(tensor.shape), tensor.stride())

    def tensor(self):
        storage = self.storage or torch.UntypedStorage._new_with_weak_ptr(self.weak.cdata)
        if storage is None:
            raise AssertionError("a replay reads memory that was made before the capture and is freed")
        return torch.empty(0, dtype=self.dtype).set_(storage, *self.geometry)


class Recorder(TorchDispatchMode):
    """Records the operations done while it is active in `operations`; `inside` holds the storages that they make."""

    def __init__(self, generators):
        super().__init__()
        self.generators, self.operations, self.inside = generators, [], {}

    def is_registered(self, generator):
        """True for a generator of the list (dispatch hands out other Python objects for it: states are compared)."""
        return generator is not None and any(
            torch.equal(generator.get_state(), known.get_state()) for known in self.generators
        )

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        packet = function.overloadpacket
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if is_refused(packet, given):
            raise NotPermitted(f"{function}: operation not permitted when stream is capturing")
        if torch.Tag.nondeterministic_seeded in function.tags and not self.is_registered(kwargs.get("generator")):
            raise NotPermitted(f"{function}: draws from a generator that is not registered with the graph")
        result = function(*args, **kwargs)
        writes = any(a.alias_info is not None and a.alias_info.is_write for a in function._schema.arguments)
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        known = {tensor.untyped_storage()._cdata for tensor in given}
        if not writes:
            made = [tensor for tensor in made if tensor.untyped_storage()._cdata not in known]
            if not made:
                return result  # a view
            for tensor in made:
                self.inside[tensor.untyped_storage()._cdata] = tensor.untyped_storage()

        def place(leaf):
            return Place(leaf, self.inside) if isinstance(leaf, torch.Tensor) else leaf

        places = None if writes else tree_map(place, result)
        self.operations.append((function, *tree_map(place, (args, kwargs)), places))
        return result


class EmulatedGraph:
    """See caffe.graph.CudaGraph; what the capture has computed is spoilt, so that only a replay can make it right."""

    def __init__(self, function, generators):
        recorder = Recorder(generators)
        states = [generator.get_state() for generator in generators]
        with recorder:
            function()
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        self.operations, self.inside = recorder.operations, recorder.inside
        for storage in self.inside.values():
            torch.empty(0, dtype=torch.uint8).set_(storage, 0, (storage.nbytes(),), (1,)).fill_(255)  # NaN, or -1

    def replay(self):
        def tensor(leaf):
            return leaf.tensor() if isinstance(leaf, Place) else leaf

        for function, args, kwargs, places in self.operations:
            result = function(*tree_map(tensor, args), **tree_map(tensor, kwargs))
            if places is not None:
                for place, fresh in zip(tree_leaves(places), tree_leaves(result), strict=True):
                    if isinstance(place, Place):
                        place.tensor().copy_(fresh)

    @staticmethod
    def warm_up(function, strict):
        with Refuser() if strict else contextlib.nullcontext():
            function()
