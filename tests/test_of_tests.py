"""Rules of the tests themselves: each asserts something about values, and a quick run leaves no package out."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "tests").rglob("test_*.py"))
PACKAGES = [
    "caffe",
    "caffe_proto",
    "lrp",
    *(f"audiomnist/{p.parent.name}" for p in ROOT.glob("audiomnist/*/__init__.py")),
]
ELSEWHERE = {"bvlc", "cuda", "slow"}  # marks of what a quick run on any machine leaves out


def functions(path):
    return {node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def assertions(function, known, deep=3):
    """What a test asserts: conditions, and calls that assert; also in functions of its file that it calls."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            yield node.test
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.split(".")[-1].startswith(("assert", "raises", "fail")):
                yield node
            elif name in known and known[name] is not function and deep:
                yield from assertions(known[name], known, deep - 1)


def says_little(condition):
    """That something is there, has a shape or ended well: no value that a wrong result could miss."""
    text = ast.unparse(condition)
    match condition:
        case ast.Call(func=ast.Attribute(attr="exists" | "is_file" | "is_dir")):
            return True
        case ast.Compare(left=left, comparators=[ast.Constant(0)]):
            return ast.unparse(left).endswith("returncode") or "main(" in text
        case ast.Compare(left=ast.Attribute(attr="shape")):
            return True
        case ast.BoolOp(values=values):
            return all(map(says_little, values))
    return False


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_test_asserts_values(path):
    known = functions(path)
    for name, function in known.items():
        if name.startswith("test_"):
            found = list(assertions(function, known))
            assert not all(map(says_little, found)), (
                f"{path}:{function.lineno}: {name}: expected an assertion on values"
            )


@pytest.mark.parametrize("condition", ["path.exists()", "x.shape == (1, 2)", "done.returncode == 0", "main([]) == 0"])
def test_what_says_little_is_known_as_such(condition):
    assert says_little(ast.parse(condition, mode="eval").body)
    assert not says_little(ast.parse(f"{condition} and y == 3", mode="eval").body)


def marks(nodes):
    """The names of pytest.mark.NAME in these nodes."""
    found = (node for top in nodes for node in ast.walk(top) if isinstance(node, ast.Attribute))
    return {node.attr for node in found if ast.unparse(node.value) == "pytest.mark"}


def quick_tests(path):
    """The tests of a file that `tests/run.sh --quick` runs on any machine."""
    tops = [
        n
        for n in ast.parse(path.read_text()).body
        if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "pytestmark"
    ]
    if marks(tops) & ELSEWHERE:
        return []
    return [n for n, f in functions(path).items() if n.startswith("test_") and not marks(f.decorator_list) & ELSEWHERE]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_quick_run_covers_every_package(package):
    """Two thirds of each package's tests at least are quick."""
    paths = sorted((ROOT / "tests" / package).glob("test_*.py"))
    everything = [name for path in paths for name in functions(path) if name.startswith("test_")]
    quick = [name for path in paths for name in quick_tests(path)]
    assert everything and len(quick) >= 2 / 3 * len(everything), (len(quick), len(everything))
