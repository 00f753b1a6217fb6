"""benchmarks/mutation.py: its mutants are valid and other programs, and it tells noticed ones from survivors."""

import ast
import json
import subprocess
import sys

import pytest
from scipy.stats import binomtest

from benchmarks import mutation

CODE = '''\
"""Two functions, of which one is tested."""

LIMIT = 3


def within(x: int = 2, *, half: bool = False) -> bool:
    """Whether x is within the limit."""
    if x < 0:
        raise ValueError(f"{x + 1}")
    return x <= LIMIT and not half


def größer(x):
    x += 1  # ü is two bytes
    return "ü", max(x, 2) - 1
'''
CHANGES = [
    ("", "3 -> 4"), ("within", "2 -> 3"), ("within", "False -> True"), ("within", "x < 0 -> x <= 0"),
    ("within", "0 -> 1"), ("within", "x <= LIMIT and (not half) -> x <= LIMIT or not half"),
    ("within", "x <= LIMIT -> x < LIMIT"), ("within", "not half -> half"), ("größer", "x += 1 -> x = 1"),
    ("größer", "1 -> 2"), ("größer", "max(x, 2) - 1 -> max(x, 2) + 1"), ("größer", "max(x, 2) -> min(x, 2)"),
    ("größer", "2 -> 3"), ("größer", "1 -> 2"),
]  # fmt: skip
TESTS = """\
import pytest

from small import within


def test_within():
    assert within(3) and within() and not within(4) and not within(0, half=True) and within(0)
    with pytest.raises(ValueError, match="-1"):
        within(-2)
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A repository with one file and its test, in place of this project."""
    for name, text in (("small.py", CODE), ("tests/test_small.py", TESTS)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "benchmarks").mkdir()
    for name in ("mutation_plugin.py", "mutation_server.py"):
        (tmp_path / "benchmarks" / name).write_bytes((mutation.ROOT / "benchmarks" / name).read_bytes())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow\n    bvlc\n    cuda\n")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    monkeypatch.setattr(mutation, "CALLS", tmp_path / ".git/calls")
    monkeypatch.setattr(mutation, "RESULTS", tmp_path / ".git/results.json")
    monkeypatch.setattr(mutation, "EVERYWHERE", [])
    monkeypatch.setattr(mutation, "PACKAGES", {"small": (["small.py"], ["tests"])})
    return tmp_path


def test_the_mutants_of_a_file(small):
    """Each changes what it says and nothing else; messages, annotations and docstrings are left alone."""
    found = mutation.mutants("small.py")
    assert sorted((m.function, m.change) for m in found) == sorted(CHANGES)
    assert len({m.key for m in found}) == len(found)
    source = (small / "small.py").read_bytes()
    for mutant in found:
        changed = mutant.apply(source)
        was, became = ast.unparse(ast.parse(source)), ast.unparse(ast.parse(changed))
        lines = [(a, b) for a, b in zip(was.splitlines(), became.splitlines(), strict=True) if a != b]
        assert len(lines) == 1, mutant


@pytest.mark.slow
def test_noticed_or_survived(small, capsys):
    """The tested function's mutants are noticed, but for those that its test cannot tell; the other's survive."""
    assert mutation.main(["measure", "--sample", "100", "--jobs", "1"]) == 0
    results = {row["key"]: row["result"] for row in json.loads(mutation.RESULTS.read_text())}
    survivors = {key.removeprefix("small.py:") for key, result in results.items() if result == "survived"}
    assert len(results) == len(CHANGES) and set(results.values()) == {"survived", "killed"}
    assert {key for key in survivors if key.startswith("größer")} == {
        f"größer: {change}" for function, change in CHANGES if function == "größer"
    } | {"größer: 1 -> 2 [1]"}
    assert survivors - {key for key in survivors if key.startswith("größer")} == {"within: 2 -> 3"}
    assert (small / "small.py").read_text(encoding="utf-8") == CODE
    page = mutation.page(mutation.load())
    assert "| small (14) | 0 | 14 | 7 | 0 | 50 % (27 to 73) | 0 | 7 |" in page and "`small.py:within: 2 -> 3`" in page


@pytest.mark.slow
def test_survivors_tried_again_leave_the_score_and_an_interrupted_sample_goes_on(small, monkeypatch):
    """The new test of größer notices its mutants; the score stays that of the sample when it was drawn."""
    assert mutation.main(["measure", "--sample", "5", "--jobs", "1"]) == 0
    first = mutation.load()
    (small / "tests/test_more.py").write_text(
        "from small import größer\n\n\ndef test_größer():\n    assert größer(0) == ('ü', 1) and größer(5)[1] == 5\n"
    )
    assert mutation.main(["measure", "--sample", "14", "--jobs", "1"]) == 0
    then = mutation.load()
    assert len(first) == 5 and len(then) == 14 and all(then[key] == row for key, row in first.items())
    assert mutation.main(["again", "--jobs", "1", "--tests", "tests/test_small.py"]) == 0
    assert mutation.load().keys() == then.keys()
    assert all(row["result"] == then[key]["result"] for key, row in mutation.load().items())
    assert mutation.main(["again", "--jobs", "1", "--tests", "tests/test_more.py"]) == 0
    after = mutation.load()
    assert {k: r["at first"] for k, r in after.items()} == {k: r["result"] for k, r in then.items()}
    assert {k for k, r in after.items() if r["result"] == "survived"} == {"small.py:within: 2 -> 3"}
    before = sum(row["result"] == "survived" for row in then.values())
    assert f"| small (14) | 0 | 14 | {14 - before} | 0 | " in mutation.page(after) and "| 0 | 1 |" in mutation.page(
        after
    )


def test_a_mutant_that_never_ends_is_told_from_a_slow_machine(small, monkeypatch):
    """Beyond the limit the same tests run without the mutant: what they need then is the measure."""
    mutant = next(m for m in mutation.mutants("small.py") if m.change == "x <= LIMIT -> x < LIMIT")
    answers, asked = [("timeout", 60.0), ("passed", 40.0), ("passed", 100.0)], []

    class Tree:
        folder = small

        def study(self, package):
            return {}

        def run(self, arguments, limit, **variables):
            asked.append((limit, (small / "small.py").read_text(encoding="utf-8") == CODE))
            return answers[len(asked) - 1]

    recorded = {"tests/test_small.py::test_within": {"seconds": 1.0, "calls": [f"small.py:{mutant.scope}"]}}
    assert mutation.judge(mutant, "small", recorded, Tree())["result"] == "survived"
    assert asked == [(63.0, False), (3600, True), (180.0, False)]
    answers[2], asked[:] = ("timeout", 180.0), []
    assert mutation.judge(mutant, "small", recorded, Tree())["result"] == "timeout"


@pytest.mark.parametrize("count, total", [(0, 1), (0, 10), (9, 10), (10, 10), (37, 60), (200, 219)])
def test_the_interval_of_wilson_is_that_of_scipy(count, total):
    wanted = binomtest(count, total).proportion_ci(method="wilson")
    assert mutation.wilson(count, total) == pytest.approx((wanted.low, wanted.high), abs=1e-6)
    for end in (wanted.low, wanted.high):  # where the score test of that share is just not rejected
        assert (count / total - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / total, abs=1e-6)


def test_a_sample_is_a_function_of_the_seed():
    first = [m.key for m in mutation.drawn("preprocessing", 20, 0)]
    assert first == [m.key for m in mutation.drawn("preprocessing", 40, 0)][:20] and len(set(first)) == 20
    assert first != [m.key for m in mutation.drawn("preprocessing", 20, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("package", mutation.PACKAGES)
def test_every_mutant_of_the_project_is_a_program(package):
    for mutant in mutation.drawn(package, 40, 2):
        source = (mutation.ROOT / mutant.file).read_bytes()
        changed = mutant.apply(source)
        compile(changed, mutant.file, "exec")
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source)), mutant


def test_an_unknown_package_is_misuse():
    command = [sys.executable, "-m", "benchmarks.mutation", "show", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=mutation.ROOT)
    assert done.returncode == 2 and "package: expected some of lrp, caffe, " in done.stderr
