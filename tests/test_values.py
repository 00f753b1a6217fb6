"""Values are frozen: what one part of the program was given, no other part changes under its hands."""

import dataclasses
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# what is filled step by step while it is made
FILLED = {
    "audiomnist.experiments.faithfulness.Measured", "audiomnist.experiments.sanity.Measured",
    "audiomnist.explain.faithfulness.Mean", "audiomnist.explain.progress.Part", "audiomnist.study.outcome.Outcome",
    "lrp.explanation.Explanation", "lrp.structure.Node", "lrp.structure.Structure",
}  # fmt: skip


def modules():
    for package in ("audiomnist", "caffe", "caffe_proto", "lrp"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.stem not in ("__main__", "caffe_pb2"):
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("package", ["audiomnist", "caffe", "caffe_proto", "lrp"])
def test_dataclasses_are_frozen_but_for_those_that_are_filled(package):
    changed = set()
    for name in filter(lambda name: name.split(".")[0] == package, modules()):
        for one in vars(importlib.import_module(name)).values():
            if not (isinstance(one, type) and dataclasses.is_dataclass(one) and one.__module__ == name):
                continue
            value = object.__new__(one)
            try:
                value.anything = None
                changed.add(f"{name}.{one.__qualname__}")
            except dataclasses.FrozenInstanceError:
                pass
    assert changed == {name for name in FILLED if name.split(".")[0] == package}
