"""A net as the text of a torch module, with its state."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from caffe.build import Node
from caffe.errors import CaffeError
from caffe.layer import Layer
from caffe.net import Net

# names that a blob must not hide
LOCALS = ("self", "torch", "nn", "F", "Path", "Tensor", "float", "largest", "lstm_cell")
WRITERS: dict[str, Callable[[Draft], None]] = {}


@dataclass(frozen=True)
class Source:
    """A net as a torch module: its text, and what the text leaves open."""

    class_name: str
    text: str  # of a Python file
    whole: str  # the same, but its module returns all of `blobs`
    state: dict[str, torch.Tensor]  # the module's state_dict
    inputs: dict[str, tuple[int, ...]]  # argument -> shape, in order
    outputs: tuple[str, ...]  # blobs, in order
    blobs: tuple[str, ...]  # all that layers compute, in order
    below: dict[str, int]  # arguments that hold integers, which are less than this


@dataclass(frozen=True)
class Draft:
    """One layer while it is written: `x` are the expressions of its bottoms, `y` the variables of its tops."""

    node: Node
    name: str  # as an attribute of the module
    x: list[str]
    y: list[str]
    modules: list[str] = field(default_factory=list)  # lines of __init__
    lines: list[str] = field(default_factory=list)  # of forward
    state: dict[str, torch.Tensor] = field(default_factory=dict)
    classes: list[object] = field(default_factory=list)  # classes and functions whose text is needed
    aliases: dict[int, str] = field(default_factory=dict)  # number of a top -> expression that it is
    below: dict[str, int] = field(default_factory=dict)

    @property
    def layer(self) -> Layer:
        """The engine's layer."""
        return self.node.layer

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of bottom 0."""
        return tuple(self.node.bottoms[0].shape)

    @property
    def top_shape(self) -> tuple[int, ...]:
        """The shape of top 0."""
        return tuple(self.node.tops[0].shape)

    @property
    def params(self) -> list[torch.Tensor]:
        """The values of the parameters."""
        return [blob.value.detach().cpu() for blob in self.layer.blobs]

    def assign(self, expression: str) -> None:
        """Top 0 is `expression`."""
        self.lines.append(f"{self.y[0]} = {expression}")

    def is_bottom(self) -> None:
        """All tops are bottom 0."""
        self.aliases.update(dict.fromkeys(range(len(self.y)), self.x[0]))

    def refuse(self, why: str) -> None:
        """Raise CaffeError: the layer cannot be exported."""
        raise CaffeError(self.layer.where, "a layer that can be exported", why)

    def module(self, text: str, **state: torch.Tensor) -> str:
        """A submodule `text` with this state; returns the expression that names it."""
        self.modules.append(f"self.{self.name} = {text}")
        self.state.update({f"{self.name}.{key}": value for key, value in state.items()})
        return f"self.{self.name}"

    def tensor(self, key: str, value: torch.Tensor, learned: bool = True) -> str:
        """A parameter of the module, or a buffer unless it was `learned`; returns the expression that names it."""
        name = f"{self.name}_{key}" if key else self.name
        empty = f"torch.empty({', '.join(map(str, value.shape))})" if value.dim() else "torch.empty(())"
        self.modules.append(
            f"self.{name} = nn.Parameter({empty})" if learned else f'self.register_buffer("{name}", {empty})'
        )
        self.state[name] = value
        return f"self.{name}"

    def integers(self, bottom: int, below: int) -> None:
        """Bottom number `bottom` holds integers from 0 to below - 1."""
        self.below[self.x[bottom]] = below


def writes(*types: str) -> Callable[[Callable[[Draft], None]], Callable[[Draft], None]]:
    """Decorator: the function writes layers of these types."""

    def register(function: Callable[[Draft], None]) -> Callable[[Draft], None]:
        WRITERS.update(dict.fromkeys(types, function))
        return function

    return register


def number(value: float) -> str:
    """A float32 in its shortest form."""
    return repr(float(str(np.float32(value))))


def sized(values: Sequence[int]) -> str:
    """Sizes along axes as torch takes them: one number if they are equal."""
    return str(values[0]) if len(set(values)) == 1 else str(tuple(values))


class Names:
    """Names of layers or blobs as identifiers of Python, none twice."""

    def __init__(self, taken: Callable[[str], bool]):
        self.taken, self.given = taken, {}

    def __getitem__(self, name: str) -> str:
        if name not in self.given:
            plain = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
            plain = f"_{plain}" if plain[0].isdigit() else plain
            found, count = plain, 1
            while found in self.given.values() or keyword.iskeyword(found) or self.taken(found):
                found, count = f"{plain}_{count}", count + 1
            self.given[name] = found
        return self.given[name]


def write_source(net: Net, origin: str) -> Source:
    """The torch module of a net in phase TEST, with its weights. `origin` says in the text where it is from.

    Raises CaffeError for a layer that cannot be exported.
    """
    from caffe.export import layer_types  # noqa: F401  # fills WRITERS

    attributes = Names(lambda name: hasattr(nn.Module(), name))
    variables = Names(lambda name: name in LOCALS)
    blobs = [one.name for one in net.named_blobs]
    expressions = {i: variables[name] for i, name in enumerate(blobs)}
    drafts = []
    for node in net.nodes:
        kind = node.layer.type
        if kind == "Input":
            continue
        tops = [variables[blobs[i]] for i in node.top_ids]
        draft = Draft(node, attributes[node.name], [expressions[i] for i in node.bottom_ids], tops)
        if kind not in WRITERS:
            draft.refuse(f"the type {kind}, which has no form in torch")
        WRITERS[kind](draft)
        for place, blob in enumerate(node.top_ids):
            expressions[blob] = draft.aliases.get(place, draft.y[place])
        drafts.append(draft)
    inputs = {expressions[i]: tuple(net.named_blobs[i].blob.shape) for i in net._inputs}
    class_name = Names(lambda name: name in LOCALS)[(net.name or "Net")]
    classes = list(dict.fromkeys(one for draft in drafts for one in draft.classes))
    while class_name in [one.__name__ for one in classes]:
        class_name += "_"
    computed = list(dict.fromkeys(i for draft in drafts for i in draft.node.top_ids))

    def returning(wanted: Sequence[int]) -> str:
        return _text(class_name, origin, inputs, [expressions[i] for i in wanted], drafts, classes)

    below = {name: limit for draft in drafts for name, limit in draft.below.items() if name in inputs}
    state = {key: value for draft in drafts for key, value in draft.state.items()}
    return Source(
        class_name, returning(net._outputs), returning(computed), state, inputs,
        tuple(blobs[i] for i in net._outputs), tuple(blobs[i] for i in computed), below,
    )  # fmt: skip


def _text(class_name, origin, inputs, outputs, drafts, classes) -> str:
    shapes = ", ".join(f"{name} {shape}" for name, shape in inputs.items())
    modules = [line for draft in drafts for line in draft.modules]
    lines = [line for draft in drafts for line in draft.lines]
    uses = "\n".join(lines + modules + [inspect.getsource(one) for one in classes])
    body = "\n".join(f"        {line}" for line in lines + [f"return {', '.join(outputs)}".rstrip()])
    init = "\n".join(f"        {line}" for line in ["super().__init__()", *modules])
    tensors = "Tensor, " if classes else ""
    imports = ["from pathlib import Path", "", "import torch", f"from torch import {tensors}nn"]
    imports += ["from torch.nn import functional as F"] if re.search(r"\bF\.", uses) else []
    needed = "".join(f"{inspect.getsource(one)}\n\n" for one in classes)
    return f'''"""{origin}

Inputs (float32): {shapes or "none"}.
"""

{chr(10).join(imports)}


{needed}class {class_name}(nn.Module):
    def __init__(self):
{init}

    def forward(self{"".join(f", {name}" for name in inputs)}):
{body}


def load(path=Path(__file__).with_suffix(".pt")):
    """The module with its weights, to compute with (eval mode)."""
    module = {class_name}()
    module.load_state_dict(torch.load(path, weights_only=True))
    return module.eval()
'''
