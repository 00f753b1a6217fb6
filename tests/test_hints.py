"""Public functions of caffe, caffe_proto and lrp say what they take and give: type hints and docstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("caffe", "caffe_proto", "lrp")
GENERATED = {"caffe_proto/caffe_pb2.py"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Place = tuple[str, str]  # (dotted name of a module, name in it)


def sources() -> list[str]:
    """The files that are looked at, relative to the root."""
    files = {path.relative_to(ROOT).as_posix() for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    return sorted(files - GENERATED)


def module_of(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def tree_of(module: str) -> ast.Module | None:
    """The syntax of one of our modules, None for what is not ours."""
    stem = ROOT / module.replace(".", "/")
    for path in (stem / "__init__.py", stem.with_suffix(".py")):
        if module.split(".")[0] in PACKAGES and path.is_file():
            return ast.parse(path.read_text(encoding="utf-8"))
    return None


@cache
def imported(module: str) -> dict[str, Place]:
    """{name in `module`: where it comes from}, of what is imported at the top level."""
    found = {}
    for node in tree_of(module).body:
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    return found


def find_class(module: str, name: str) -> tuple[str, ast.ClassDef] | None:
    """(module, class) that `name` (`Class` or `module.Class`) means in a module of ours; None if it is not ours."""
    tree = tree_of(module)
    if tree is None:
        return None
    owner, _, last = name.rpartition(".")
    if owner:
        return find_class(".".join(imported(module)[owner]), last) if owner in imported(module) else None
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
    return find_class(*imported(module)[name]) if name in imported(module) else None


def methods(cls: ast.ClassDef) -> list[Function]:
    return [node for node in cls.body if isinstance(node, FUNCTIONS)]


def inherited(module: str, cls: ast.ClassDef) -> set[str]:
    """Names of the methods of all base classes in the same package."""
    found = set()
    for base in cls.bases:
        place = find_class(module, ast.unparse(base))
        if place and place[0].split(".")[0] == module.split(".")[0]:
            found |= {node.name for node in methods(place[1])} | inherited(*place)
    return found


def decorators(function: Function) -> set[str]:
    """The last names of a function's decorators: `property`, `setter`, ..."""
    plain = (node.func if isinstance(node, ast.Call) else node for node in function.decorator_list)
    return {ast.unparse(node).rpartition(".")[2] for node in plain}


def public(module: str) -> Iterator[tuple[str, Function, bool, bool]]:
    """(name, function, has a first parameter that needs no hint, is documented elsewhere) of all that is looked at."""
    for node in tree_of(module).body:
        if isinstance(node, FUNCTIONS) and not node.name.startswith("_"):
            yield node.name, node, False, False
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            above = inherited(module, node)
            for method in methods(node):
                kinds = decorators(method)
                made = method.name == "__init__"  # what it takes stands in the docstring of the class
                if made or not method.name.startswith("_"):
                    elsewhere = method.name in above or "setter" in kinds or (made and ast.get_docstring(node))
                    yield f"{node.name}.{method.name}", method, "staticmethod" not in kinds, bool(elsewhere)


def parameters(function: Function, bound: bool) -> list[ast.arg]:
    """The parameters of a function but for `self` or `cls`."""
    given = function.args
    named = [*given.posonlyargs, *given.args][bound:]
    return [*named, *given.kwonlyargs, *(one for one in (given.vararg, given.kwarg) if one)]


@pytest.mark.parametrize("name", sources())
def test_public_functions_have_hints(name):
    missing = []
    for label, function, bound, _ in public(module_of(name)):
        lacks = [one.arg for one in parameters(function, bound) if one.annotation is None]
        lacks += ["return"] if function.returns is None and function.name != "__init__" else []
        missing += [f"{name}:{function.lineno} {label}: no hint for {', '.join(lacks)}"] if lacks else []
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("name", sources())
def test_public_functions_have_docstrings(name):
    missing = [
        f"{name}:{function.lineno} {label}: no docstring"
        for label, function, _, elsewhere in public(module_of(name))
        if not elsewhere and not ast.get_docstring(function)
    ]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize(
    "base, found",
    [("Layer", "caffe.layer"), ("net.Net", "caffe.net"), ("Exception", None), ("functional.Nothing", None)],
)
def test_base_classes_are_found_through_imports(base, found):
    module = {"Layer": "caffe.layers.pooling", "functional.Nothing": "caffe.layers.pooling"}.get(base, "caffe.pycaffe")
    place = find_class(module, base)
    assert (place and place[0]) == found


def test_what_lacks_hints_or_docstrings_is_seen(monkeypatch):
    tree = ast.parse(
        "class A:\n    def f(self, x, *y: int) -> int: ...\nclass B(A):\n    def f(self): ...\ndef g(): 'x'"
    )
    monkeypatch.setattr(f"{__name__}.tree_of", lambda module: tree if module == "caffe.made" else None)
    found = {label: (function, bound, elsewhere) for label, function, bound, elsewhere in public("caffe.made")}
    assert {label: elsewhere for label, (_, _, elsewhere) in found.items()} == {"A.f": False, "B.f": True, "g": False}
    function, bound, _ = found["A.f"]
    assert [one.arg for one in parameters(function, bound) if one.annotation is None] == ["x"]
