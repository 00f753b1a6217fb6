"""Files of an exported net: a torch module as text (.py and .pt), a program of torch.export (.pt2), ONNX (.onnx)."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from caffe.errors import CaffeError, check
from caffe.export.proof import Run, prove
from caffe.export.source import Source, write_source
from caffe.net import Net
from caffe.version import __version__
from caffe_proto import write_file

Made = tuple[dict[str, bytes], Run]  # {ending: content} of the files, and what computes the outputs with them


def export_net(net: Net, path: str | os.PathLike, origin: str = "") -> float:
    """Write a net in phase TEST, with its weights, in the format that the ending of `path` names (`FORMATS`).

    origin: what the text of a module says of where it is from. Returns the largest difference from the engine on seeded
    inputs, as a share of the largest value of the blob. Raises CaffeError for a layer that cannot be exported, and
    where the export computes anything else; nothing is written then.
    """
    path = Path(path)
    check(path.suffix in FORMATS, f"-output {path}", f"a file that ends in {', '.join(FORMATS)}", path.suffix or "none")
    origin = origin or f"Net '{net.name}'"
    source = write_source(net, f"{origin}, written by caffe export {__version__}.".replace("\\", "/").replace('"', "'"))
    check(source.outputs, str(path), "a net with outputs", "none")
    files, run = FORMATS[path.suffix](source)
    worst = prove(net, source, runs(module_of(source, source.whole)), run, str(path))
    for ending, content in files.items():
        write_file(path.with_suffix(ending), content)
    return worst


def module_of(source: Source, text: str, state: dict[str, torch.Tensor] | None = None) -> nn.Module:
    """The torch module of a source's text, with its state or another one, in eval mode."""
    names = {"__file__": f"{source.class_name}.py", "__name__": source.class_name}
    exec(compile(text, names["__file__"], "exec"), names)
    module = names[source.class_name]()
    module.load_state_dict(source.state if state is None else state)
    return module.eval()


def runs(module: nn.Module) -> Run:
    """What computes the results of a torch module."""

    def run(inputs):
        with torch.no_grad():
            found = module(*map(torch.from_numpy, inputs.values()))
        return [one.detach().numpy() for one in (found if isinstance(found, tuple) else (found,))]

    return run


def as_text(source: Source) -> Made:
    """The text of a module, and its state beside it."""
    state = io.BytesIO()
    torch.save(source.state, state)
    state.seek(0)
    module = module_of(source, source.text, torch.load(state, weights_only=True))
    return {".pt": state.getvalue(), ".py": source.text.encode()}, runs(module)


@contextmanager
def named(what: str) -> Iterator[None]:
    """Context in which an exporter says nothing, and its refusal is one sentence."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (torch.onnx.OnnxExporterError, torch._dynamo.exc.TorchDynamoException, NotImplementedError) as error:
        raise CaffeError(f"{what} cannot say this net: {str(error).strip().splitlines()[0]}") from error
    finally:
        logging.disable(level)


def example(source: Source) -> tuple[torch.Tensor, ...]:
    """Inputs of the shapes that programs are made for."""
    return tuple(torch.zeros(shape) for shape in source.inputs.values())


def as_program(source: Source) -> Made:
    """A program of torch.export."""
    with named("torch.export"):
        program = torch.export.export(module_of(source, source.text), example(source))
        content = io.BytesIO()
        torch.export.save(program, content)
        content.seek(0)
        return {".pt2": content.getvalue()}, runs(torch.export.load(content).module())


def as_onnx(source: Source) -> Made:
    """An ONNX model, run by onnxruntime."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # torch writes ONNX with it
    except ImportError as error:
        raise CaffeError("-output: ONNX", "the packages onnxscript and onnxruntime (pip install 'audiomnist[onnx]')",
                         f"no {error.name}") from None  # fmt: skip
    names = list(source.inputs)
    results = [f"{name}_out" if name in names else name for name in source.outputs]  # a layer in place on an input
    with named("ONNX"):
        program = torch.onnx.export(
            module_of(source, source.text), example(source), dynamo=True, verbose=False,
            input_names=names, output_names=results,
        )  # fmt: skip
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return {".onnx": content}, lambda inputs: session.run(None, inputs)


FORMATS: dict[str, Callable[[Source], Made]] = {".onnx": as_onnx, ".pt2": as_program, ".py": as_text}
