"""The shape of the house: which way imports run, how thin the doors are, and what lies where."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.needs import need

ROOT = Path(__file__).resolve().parents[1]
# From the ground up: a package imports from those before it, and from no other of ours.
FLOORS = [
    "caffe_proto",
    "lrp",
    "caffe",
    "audiomnist",  # the package itself: its version
    "audiomnist.arguments",
    "audiomnist.door",
    "audiomnist.places",
    "audiomnist.provenance",
    "audiomnist.workers",
    "audiomnist.signal",
    "audiomnist.corpus",
    "audiomnist.preprocessing",
    "audiomnist.explain",
    "audiomnist.runs",
    "audiomnist.study",
    "audiomnist.experiments",
    "audiomnist.recording",
    "audiomnist.cli",
    "audiomnist.__main__",
]
APART = [("caffe", "lrp")]  # meet in files and in pycaffe's duck-typed Net
DOORS = {"lrp/__main__.py", "lrp/view.py"}  # open what knows of recordings, pictures and sound
FOUND = {("audiomnist/study/catalogue.py", "audiomnist.experiments")}  # the folder that is searched


def room(module):
    """The floor that a module's dotted name lies on."""
    return next(floor for floor in sorted(FLOORS, key=len, reverse=True) if f"{module}.".startswith(f"{floor}."))


def imports(path):
    """The dotted names of ours that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources():
    tops = {floor.split(".")[0] for floor in FLOORS}
    return sorted(path for top in tops for path in (ROOT / top).rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_run_one_way(path):
    name = path.relative_to(ROOT).as_posix()
    own = room(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    for module in imports(path):
        if module.split(".")[0] not in {floor.split(".")[0] for floor in FLOORS} or name in DOORS:
            continue
        other = room(module)
        assert FLOORS.index(other) <= FLOORS.index(own) or (name, module) in FOUND, f"{own} imports {module}"
        assert (own, other) not in APART and (other, own) not in APART, f"{own} imports {module}"


BOUNDARIES = {  # what reads a kind of file -> the one module that asks it, and what else may, with the reason
    "h5py.File": {
        "caffe_proto/hdf5.py": "the boundary",
        "caffe_proto/atomic.py": "writes",
        "audiomnist/preprocessing/store.py": "writes",
    },
    "lmdb.open": {"caffe/tools/database.py": "writes; caffe_proto/database.py reads by the format"},
    "json.load": {},
    "json.loads": {
        "caffe_proto/texts.py": "the boundary",
        "audiomnist/explain/progress.py": "texts in HDF5 files; settings as JSON would give them back",
        "audiomnist/recording/session.py": "a log, line by line",
    },
    "tomllib.loads": {"caffe_proto/texts.py": "the boundary"},
    "tomli.loads": {},
    "text_format.Parse": {"caffe_proto/files.py": "the boundary"},
    "message.ParseFromString": {"caffe_proto/files.py": "the boundary"},
}


def called(path):
    """The dotted names that a file calls, as they stand there."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("call", BOUNDARIES)
def test_each_kind_of_file_is_read_in_one_place(call):
    """Elsewhere a damaged file would raise whatever the library under it raises."""
    callers = {path.relative_to(ROOT).as_posix() for path in sources() if call in called(path)}
    assert callers == set(BOUNDARIES[call])


CATCH_ALL = {  # where any exception is a sentence, since the library under it raises anything
    "caffe_proto/hdf5.py",
    "caffe/prefetch.py",  # handed from one thread to another, and raised there
    "audiomnist/recording/terminal.py",
    "audiomnist/recording/review.py",
    "audiomnist/recording/window.py",
}


def test_nothing_else_catches_every_exception():
    def catches_all(path):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        handlers = [node for node in nodes if isinstance(node, ast.ExceptHandler)]
        passed_on = [one for one in handlers if isinstance(one.body[-1], ast.Raise) and one.body[-1].exc is None]
        return any(
            one.type is None or ast.unparse(one.type) in ("Exception", "BaseException")
            for one in handlers
            if one not in passed_on
        )

    assert {path.relative_to(ROOT).as_posix() for path in sources() if catches_all(path)} == CATCH_ALL


def test_every_package_has_a_floor():
    tops = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in ROOT.glob("audiomnist/*/__init__.py")
    }
    assert tops <= set(FLOORS)


def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    need("git", listed.returncode == 0, "not a git checkout: what is tracked cannot be listed")
    return listed.stdout.splitlines()


def test_what_lies_at_the_top():
    there = {name.split("/")[0] for name in tracked()}
    kept = {"data", "models", "recording_scripts", "lrp", "tests", "caffe", "notebooks", "benchmarks", "docs"}
    assert there >= kept | {"preprocessing_data.py", "train_test.sh", "README.md", "requirements.txt"}


def test_data_and_models_hold_no_code():
    files = [name for name in tracked() if name.startswith(("data/", "models/"))]
    kinds = {Path(name).suffix for name in files if name != "data/download.sh"}
    assert kinds == {".json", ".md", ".prototxt"}


@pytest.mark.parametrize(
    "door, lines", [("preprocessing_data.py", 40), ("train_test.sh", 60), ("recording_scripts/record.py", 20)]
)
def test_doors_are_thin(door, lines):
    assert len((ROOT / door).read_text().splitlines()) <= lines


def test_no_path_is_edited_outside_the_tests():
    """Nothing is put on Python's path; taking the current folder off it is what keeps data from being code."""
    edits = re.compile(r"sys\.path(\[|\.insert|\.append|\.extend| *\+?=)|noqa: *E402|addsitedir")
    for name in tracked():
        if name.endswith((".py", ".ipynb")) and not name.startswith("tests/"):
            for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1):
                taken_off = "sys.path[:] = filter(None, sys.path)" in line
                assert taken_off or not edits.search(line), f"{name}:{number}: {line.strip()}"


ORIGINAL_WORDS = {": expected shape "}  # of BVLC Caffe, which our grammar would not put so


def texts(tree):
    """The string literals of a module but for docstrings, each with its line."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, documented) and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            yield node.lineno, node.value


def test_errors_have_one_grammar():
    """Messages read "place: expected Y, got X": no literal says what was wanted or found."""
    old = re.compile(r"\bwanted\b|(?<!not) found([;,(]|$)")  # not a word alone, which is a key
    for path in sources():
        for line, text in texts(ast.parse(path.read_text(encoding="utf-8"))):
            assert not old.search(text), f"{path.relative_to(ROOT)}:{line}: {text!r}"


def test_the_engine_gives_the_parts_of_a_message():
    """`sentence` alone writes the grammar: no literal of the engine holds a whole message."""
    whole = re.compile(r"(^|: )[Ee]xpected |, got( |$)|[Ff]ound( |$)")
    for path in sorted((ROOT / "caffe").rglob("*.py")):
        for line, text in texts(ast.parse(path.read_text(encoding="utf-8"))):
            assert text in ORIGINAL_WORDS or not whole.search(text), f"{path.relative_to(ROOT)}:{line}: {text!r}"
