"""Do the tests notice? One small change to the code at a time, and the tests that reach it: red, or a survivor.

    python -m benchmarks.mutation measure [PACKAGE ...] [--sample 60] [--seed 0] [--minutes 60] [--jobs 2]
    python -m benchmarks.mutation again [PACKAGE ...] [--tests PATH ...]   the survivors only, after tests were added
    python -m benchmarks.mutation show [PACKAGE ...]      the survivors as diffs
    python -m benchmarks.mutation write                   docs/reliability.md from the results

Results lie in benchmarks/mutation.json. `measure` draws `--sample` mutants of each package with a seed; a mutant is
known by its package, file, function and change, so its result outlives lines that move. The tests of its package that
called its function (outside functions: any of its file) run, quickest first; if these are green, those that start
processes, in which nobody looks, as far as 120 s go. Tests that need the original Caffe or a GPU, or are marked slow,
take no part: the score is a lower bound.
A mutant that does not end is noticed too: in three times the time that the same tests took without it, measured once
more beside it before it counts, for the machine may be busy with something else.

An interrupted `measure` goes on where it was; benchmarks/mutation_server.py runs the tests.

Why no mutation tester from a package index (tried on Python 3.11): mutmut 3.8 puts an import of itself into every
file, and our tests of what may be imported are red before anything is mutated; cosmic-ray 8.7 makes 7,369 mutants of
`lrp` alone, runs all tests for each of them, and edits the files of the working tree.

A mutant that computes the same (equivalent) is named in benchmarks/mutation_equivalent.json with the reason, and does
not count.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import contextlib
import copy
import datetime
import difflib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/mutation.json"
CALLS = ROOT / ".cache/mutation"
EQUIVALENT = ROOT / "benchmarks/mutation_equivalent.json"  # {mutant's key: why no test can tell it from the original}
PAGE = ROOT / "docs/reliability.md"
FINDINGS = "## What it found"  # the part of the page that people write
AIM = 90  # percent

PREPROCESSING_TESTS = ["tests/audiomnist/signal", "tests/audiomnist/preprocessing", "tests/test_facts.py"]
EXPERIMENTS_TESTS = ["tests/audiomnist/experiments", "tests/audiomnist/study", "tests/test_facts.py"]
# package -> its files, and the tests that concern it
PACKAGES = {
    "lrp": (["lrp/*.py"], ["tests/lrp"]),
    "caffe": (
        [
            "caffe/layers/*.py", "caffe/solver.py", "caffe/update.py", "caffe/update_rules.py", "caffe/snapshots.py",
            "caffe/fillers.py", "caffe/convolution.py", "caffe/fusion.py", "caffe/net.py", "caffe/layer.py",
            "caffe/build.py", "caffe/blob.py",
        ],
        ["tests/caffe"],
    ),
    "caffe_proto": (["caffe_proto/*.py"], ["tests/caffe_proto"]),
    "signal": (["audiomnist/signal/*.py"], PREPROCESSING_TESTS),
    "preprocessing": (["audiomnist/preprocessing/*.py"], PREPROCESSING_TESTS),
    "corpus": (["audiomnist/corpus/*.py"], ["tests/audiomnist/corpus", "tests/test_facts.py"]),
    "runs": (["audiomnist/runs/*.py"], ["tests/audiomnist/runs"]),
    "explain": (["audiomnist/explain/*.py"], ["tests/audiomnist/explain"]),
    "study": (["audiomnist/study/*.py"], EXPERIMENTS_TESTS),
    "experiments": (["audiomnist/experiments/*.py"], EXPERIMENTS_TESTS),
    "recording": (["audiomnist/recording/*.py"], ["tests/audiomnist/recording", "tests/test_facts.py"]),
}  # fmt: skip
EVERYWHERE = ["tests/test_values.py", "tests/audiomnist/test_options.py"]  # tests that concern every package
STUDIED = {"study", "experiments", "explain"}  # the small study is made by no code of theirs: once for all mutants
GENERATED = {"caffe_proto/caffe_pb2.py"}
ELSEWHERE = 120  # seconds of tests that start processes of their own, where it is not seen what they reach
LEFT_OUT = "not bvlc and not cuda and not slow"

COMPARED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
COMPUTED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.MatMult: ast.Mult,
}  # fmt: skip
SWAPPED = {"min": "max", "any": "all", "floor": "ceil", "argmin": "argmax", "minimum": "maximum", "first": "last"}
SWAPPED |= {new: old for old, new in SWAPPED.items()}
WORDS_ONLY = {"help", "metavar", "description", "prog", "desc", "unit", "encoding", "formatter_class", "epilog"}


@dataclass(frozen=True)
class Mutant:
    """One change: lines and columns (bytes) of what is replaced, by what; `scope` is the function's first line."""

    file: str
    function: str
    scope: int
    line: int
    change: str  # "what was -> what became"
    begin: tuple[int, int]
    end: tuple[int, int]
    text: str
    number: int = 0  # among equal changes to the function

    @property
    def key(self) -> str:
        return f"{self.file}:{self.function}: {self.change}" + (f" [{self.number}]" if self.number else "")

    def apply(self, source: bytes) -> bytes:
        lines = source.splitlines(keepends=True)
        (first, left), (last, right) = self.begin, self.end
        head, tail = b"".join(lines[: first - 1]), b"".join(lines[last:])
        return head + lines[first - 1][:left] + self.text.encode() + lines[last - 1][right:] + tail


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """The node with one change each, as new nodes."""

    def changed(**fields: object) -> ast.AST:
        other = copy.copy(node)
        for name, value in fields.items():
            setattr(other, name, value)
        return other

    match node:
        case ast.Compare(ops=[operator, *rest]) if type(operator) in COMPARED:
            yield changed(ops=[COMPARED[type(operator)](), *rest])
        case ast.BinOp(op=operator) if type(operator) in COMPUTED:
            yield changed(op=COMPUTED[type(operator)]())
        case ast.BoolOp(op=operator):
            yield changed(op=ast.Or() if isinstance(operator, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield changed(body=orelse, orelse=body)
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(value * 2 if value else 1.0)
        case ast.Call(func=func, keywords=keywords):
            for keyword in keywords:
                if keyword.arg and keyword.arg not in WORDS_ONLY:
                    yield changed(keywords=[other for other in keywords if other is not keyword])
            if isinstance(func, ast.Name) and func.id in SWAPPED:
                yield changed(func=ast.Name(SWAPPED[func.id], ast.Load()))
            elif isinstance(func, ast.Attribute) and func.attr in SWAPPED:
                yield changed(func=ast.Attribute(func.value, SWAPPED[func.attr], ast.Load()))
        case ast.AugAssign(target=target, value=value):
            yield ast.Assign([target], value, lineno=0)
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.If(test=test) if not isinstance(test, (ast.Compare, ast.BoolOp, ast.UnaryOp)):
            yield ast.UnaryOp(ast.Not(), test)  # of the condition alone: see `mutants`


def worth_it(node: ast.AST) -> bool:
    """Not what only people read or type checkers do: messages, annotations, docstrings, and what is never true."""
    if isinstance(node, (ast.JoinedStr, ast.Raise, ast.Import, ast.ImportFrom, ast.Assert)):
        return False
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return False
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return ast.unparse(node.value.func) not in {"print", "warnings.warn"}
    return True


def mutants(file: str) -> list[Mutant]:
    """All mutants of a file of the repository, in the order of its text."""
    found: list[Mutant] = []
    tree = ast.parse((ROOT / file).read_bytes())

    def visit(node: ast.AST, function: str, scope: int) -> None:
        if not worth_it(node):
            return
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            function = f"{function}.{node.name}" if function else node.name
            if isinstance(node, ast.FunctionDef):
                scope = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        for other in variants(node):
            place = node.test if isinstance(node, ast.If) else node
            was, became = ast.unparse(place), ast.unparse(ast.fix_missing_locations(other))
            if was == became:
                continue
            text = became if isinstance(node, ast.stmt) and place is node else f"({became})"
            begin, end = (place.lineno, place.col_offset), (place.end_lineno, place.end_col_offset)
            change = f"{short(was, became)} -> {short(became, was)}"
            found.append(Mutant(file, function, scope, place.lineno, change, begin, end, text))
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child, function, scope)

    visit(tree, "", 0)
    seen: Counter[tuple[str, str]] = Counter()
    numbered = []
    for mutant in found:
        seen[mutant.function, mutant.change] += 1
        numbered.append(Mutant(**asdict(mutant) | {"number": seen[mutant.function, mutant.change] - 1}))
    return numbered


def short(text: str, other: str) -> str:
    """The text, or what is around its first difference from `other` when it is long."""
    if len(text) <= 70:
        return text
    place = len(os.path.commonprefix([text, other]))
    return text[max(0, place - 30) : place + 40].strip()


def files(package: str) -> list[str]:
    """The package's files, relative to the repository."""
    found = {path.relative_to(ROOT).as_posix() for pattern in PACKAGES[package][0] for path in ROOT.glob(pattern)}
    return sorted(found - GENERATED)


def drawn(package: str, sample: int, seed: int) -> list[Mutant]:
    """The sample of a package: chosen by each mutant's key alone, so that new code moves as little of it as can be."""
    everything = [mutant for file in files(package) for mutant in mutants(file)]
    order = {m: hashlib.sha256(f"{seed}:{m.key}".encode()).hexdigest() for m in everything}
    return sorted(everything, key=order.__getitem__)[:sample]


# ---------------------------------------------------------------------------------------------------------------------
# running tests


class Tree:
    """A copy of what git knows, or would know, of the working tree, and a server that runs pytest in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.log = folder.with_suffix(".log")
        folder.mkdir()
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True, text=True,
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        # a mutant has another time stamp than its original, which gets its own back: what is compiled stays valid
        compileall.compile_dir(folder, quiet=1)
        variables = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "PYTHONPATH": str(folder)}
        self.server = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.mutation_server"], cwd=folder, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env=os.environ | variables,
        )  # fmt: skip

    def run(self, arguments: list[str], limit: float, **variables: str) -> tuple[str, float]:
        """pytest: "passed", "failed" or "timeout", and seconds; whatever it started ends with it."""
        temporary = self.folder.with_suffix(".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        variables = {"CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(temporary)} | variables
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "benchmarks.mutation_plugin", "-m", LEFT_OUT]
        job = {"arguments": [*options, *arguments], "limit": limit, "log": str(self.log), "variables": variables}
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        done = json.loads(self.server.stdout.readline())
        # 5: no test was chosen; 2: a file cannot be imported
        outcome = "timeout" if done["status"] is None else "passed" if done["status"] in (0, 5) else "failed"
        return outcome, done["seconds"]

    def study(self, package: str) -> dict[str, str]:
        """For tests of a package in STUDIED: variables that name the small study, made where it is not whole."""
        if package not in STUDIED:
            return {}
        place = self.folder.with_suffix(".study")
        variables = {"MUTATION_STUDY": str(place)}
        if not place.exists() or stamps(place) != self.stamps:  # a mutant may have written into it
            shutil.rmtree(place, ignore_errors=True)
            outcome, _ = self.run(["tests/test_small_study.py", "-k", "silence"], 3600, **variables)
            if outcome != "passed":
                raise SystemExit(f"the small study: expected tests that pass, got {outcome}:\n{self.log.read_text()}")
            self.stamps = stamps(place)
        return variables

    def end(self) -> None:
        self.server.stdin.close()
        self.server.wait()


def stamps(folder: Path) -> dict[Path, int]:
    """{path: when it was last changed} of everything in a folder."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def calls(package: str, tree: Tree) -> dict:
    """{test: {"seconds": s, "calls": ["file:line", ...]}} of the package's tests on the unmutated tree.

    What a file of tests calls is kept in .cache/mutation for as long as neither it nor what is tested changes.
    """
    places = [*PACKAGES[package][1], *EVERYWHERE]
    tested = [file for other in PACKAGES if PACKAGES[other][1] == PACKAGES[package][1] for file in files(other)]
    code = b"".join((tree.folder / file).read_bytes() for file in tested)
    tests = [
        path for place in places for path in [tree.folder / place, *sorted((tree.folder / place).rglob("test_*.py"))]
    ]
    kept = {}
    for path in filter(Path.is_file, tests):
        name = path.relative_to(tree.folder).as_posix()
        kept[name] = CALLS / f"{path.stem}-{hashlib.sha256(path.read_bytes() + code).hexdigest()[:16]}.json"
    CALLS.mkdir(parents=True, exist_ok=True)
    fresh = [name for name, path in kept.items() if not path.exists()]
    if fresh:
        kept_calls = str(tree.folder.with_suffix(".calls"))
        outcome, _ = tree.run(fresh, 3600, MUTATION_RECORD=kept_calls, **tree.study(package))
    else:
        outcome, _ = tree.run([*kept, "--collect-only"], 3600)  # compiles the tests, which runs with mutants do not do
    if outcome != "passed":
        log = tree.log.read_text()[-2000:]
        raise SystemExit(f"{package}: expected tests that pass without any mutant, got {outcome}:\n{log}")
    if fresh:
        found = json.loads(tree.folder.with_suffix(".calls").read_text())
        for name in fresh:
            of_file = {test: entry for test, entry in found.items() if test.split("::")[0] == name}
            kept[name].write_text(json.dumps(of_file))
    return {test: entry for path in kept.values() for test, entry in json.loads(path.read_text()).items()}


def chosen_tests(mutant: Mutant, recorded: dict) -> Iterator[list[str]]:
    """The tests that reach the mutant, file by file, what takes least first; then those where nobody sees it."""
    place = f"{mutant.file}:{mutant.scope or ''}"  # outside functions: tests that call any of its file
    same = place.__eq__ if mutant.scope else lambda call: call.startswith(place)
    by_time = sorted(recorded, key=lambda test: recorded[test]["seconds"])
    reaching = [test for test in by_time if any(map(same, recorded[test]["calls"]))]
    if not mutant.scope:
        reaching += [test for test in by_time if test.split("::")[0] in EVERYWHERE and test not in reaching]
    yield by_file(reaching, recorded)
    others, spent = [], 0.0
    for test in by_time:
        if "a process" in recorded[test]["calls"] and test not in reaching and spent < ELSEWHERE:
            others.append(test)
            spent += recorded[test]["seconds"]
    yield by_file(others, recorded)


def by_file(tests: list[str], recorded: dict) -> list[str]:
    """The tests by file, since what a file shares is made once then; the file that takes least comes first."""
    seconds = Counter()
    for test in tests:
        seconds[test.split("::")[0]] += recorded[test]["seconds"]
    return sorted(tests, key=lambda test: (seconds[test.split("::")[0]], test.split("::")[0]))


def judge(mutant: Mutant, package: str, recorded: dict, tree: Tree) -> dict:
    """Apply the mutant to the tree, run the tests that reach it and then the others, and put the file back.

    Where `recorded` is a list, these are the tests.
    """
    path = tree.folder / mutant.file
    original, stamp = path.read_bytes(), path.stat()
    study = tree.study(package)

    def run(chosen: list[str], limit: float, source: bytes) -> tuple[str, float]:
        wanted = tree.folder.with_suffix(".json")
        wanted.write_text(json.dumps(chosen))
        named, only = recorded, {}
        if chosen is not recorded:
            named = list(dict.fromkeys(test.split("::")[0] for test in chosen))
            only = {"MUTATION_TESTS": str(wanted)}
        try:
            path.write_bytes(source)
            return tree.run(named, limit, PYTHONDONTWRITEBYTECODE="1", **only, **study)
        finally:
            path.write_bytes(original)
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    begun, result, reached = time.monotonic(), "survived", None
    for chosen in [recorded] if isinstance(recorded, list) else chosen_tests(mutant, recorded):
        reached = len(chosen) if reached is None else reached
        if not chosen:
            continue
        limit = 300 if chosen is recorded else 60 + 3 * sum(recorded[test]["seconds"] for test in chosen)
        outcome, _ = run(chosen, limit, mutant.apply(original))
        if outcome == "timeout":
            _, seconds = run(chosen, 3600, original)
            outcome, _ = run(chosen, 60 + 3 * seconds, mutant.apply(original))
        if outcome != "passed":
            result = "killed" if outcome == "failed" else "timeout"
            break
    line = original.decode().splitlines()[mutant.line - 1].strip()
    return {"package": package, "key": mutant.key, "line": line, "result": result, "reached by": reached,
            "seconds": round(time.monotonic() - begun, 1)}  # fmt: skip


def measure(
    chosen: dict[str, list[Mutant]],
    jobs: int,
    minutes: float,
    results: dict[str, dict],
    seed: int | None,
    tests: list[str] | None = None,
) -> None:
    """Judge the mutants, packages in turn so that an early end leaves a part of each; they go to `results`.

    `seed` is that of the sample; None tries survivors again, whose first result is kept beside the new one. `tests`:
    these alone, and not those that reach a mutant.
    """
    with tempfile.TemporaryDirectory(prefix="mutation") as name, contextlib.ExitStack() as stack:
        trees: Queue[Tree] = Queue()
        for number in range(jobs):
            tree = Tree(Path(name) / f"tree{number}")
            stack.callback(tree.end)
            trees.put(tree)

        def with_tree(work, *arguments):
            tree = trees.get()
            try:
                return work(*arguments, tree)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(jobs) as pool:
            recorded = {}
            for package in chosen:  # one after the other: some have their tests in common
                recorded[package] = tests or with_tree(calls, package)
                print(f"{package}: {len(recorded[package])} tests", file=sys.stderr, flush=True)

            end = time.monotonic() + 60 * minutes

            def one(job: tuple[Mutant, str]) -> None:
                mutant, package = job
                if time.monotonic() > end:
                    return
                found = with_tree(judge, mutant, package, recorded[package])
                results.update(load())  # another measurement may have written meanwhile
                before = results.get(found["key"], {})
                found["seed"] = before["seed"] if seed is None else seed
                found["at first"] = before["at first"] if seed is None else found["result"]
                found["date"] = f"{datetime.date.today()}"
                results[found["key"]] = found
                print(f"{found['result']:8s} {found['seconds']:6.1f} s  {package}  {found['key']}", flush=True)
                RESULTS.write_text(json.dumps(sorted(results.values(), key=lambda row: row["key"]), indent=1) + "\n")

            longest = max(map(len, chosen.values()), default=0)
            jobs_in_turn = [(m[k], package) for k in range(longest) for package, m in chosen.items() if k < len(m)]
            list(pool.map(one, jobs_in_turn))


# ---------------------------------------------------------------------------------------------------------------------
# results


def load() -> dict[str, dict]:
    return {row["key"]: row for row in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}


@cache
def equivalents() -> dict[str, str]:
    """{key: why the mutant computes the same}."""
    return json.loads(EQUIVALENT.read_text()) if EQUIVALENT.exists() else {}


def equivalent(key: str) -> str | None:
    """Why the mutant computes the same, or None."""
    return equivalents().get(key)


def wilson(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of Wilson (1927) of a share: lower and upper end, 0 to 1."""
    if not total:
        return 0.0, 1.0
    from scipy.stats import binomtest  # takes half a second, for the page alone

    ends = binomtest(count, total).proportion_ci(method="wilson")
    return float(ends.low), float(ends.high)


def is_left(row: dict, known: set[str]) -> bool:
    """Has it survived, is it another program, and is it still a mutant of the code (`known`)?"""
    return row["result"] == "survived" and not equivalent(row["key"]) and row["key"] in known


def table_row(title: str, rows: list[dict], known: set[str]) -> str:
    """One line of the page's table; `known` as in `is_left`."""
    tried = [row for row in rows if not equivalent(row["key"])]
    noticed = sum(row["at first"] != "survived" for row in tried)
    low, high = wilson(noticed, len(tried))
    cells = [
        len(tried), noticed, sum(row["at first"] == "timeout" for row in tried),
        f"{100 * noticed / max(len(tried), 1):.0f} % ({100 * low:.0f} to {100 * high:.0f})",
        len(rows) - len(tried), sum(is_left(row, known) for row in tried),
    ]  # fmt: skip
    return f"| {title} | {' | '.join(map(str, cells))} |"


def page(results: dict[str, dict]) -> str:
    """docs/reliability.md but for what stands under `FINDINGS`, which people write."""
    dates = sorted({row["date"] for row in results.values()})
    lines = [
        "# Do the tests notice?",
        "",
        "Written by `python -m benchmarks.mutation write` from benchmarks/mutation.json. One small change at a time is",
        "made to the code (an operator, a constant, a condition, an argument left out), drawn with a seed, and the",
        "package's tests run; tests that need the original Caffe or a GPU, or are marked slow, take no part. The",
        "score is the share that some test noticed when the sample was drawn, with the 95 % interval of Wilson for",
        f"the share among all mutants; the aim is {AIM} % in each package. Tests are written for what survives, and",
        "tried on it `again`: the last column is what is left, and no score, since nobody looked at the mutants that",
        "were not drawn. Another seed is a fair new sample. Commands: `python -m benchmarks.mutation measure PACKAGE",
        f"--sample N --seed SEED`, {' to '.join(dict.fromkeys([*dates[:1], *dates[-1:]]))}.",
        "",
        "| package (mutants in all) | seed | tried | noticed | of these without an end | score | equivalent | left |",
        "|---|---|---|---|---|---|---|---|",
    ]
    of = defaultdict(list)
    for row in results.values():
        of[row["package"], row["seed"]].append(row)
    everything = {package: [m.key for file in files(package) for m in mutants(file)] for package in PACKAGES}
    known = {key for keys in everything.values() for key in keys}
    for package, keys in everything.items():
        own = [(seed, rows) for (name, seed), rows in sorted(of.items()) if name == package]
        lines += [table_row(f"{package} ({len(keys)}) | {seed}", rows, known) for seed, rows in own]
    for seed in sorted({seed for _, seed in of}):
        rows = [row for row in results.values() if row["seed"] == seed]
        lines.append(table_row(f"**all** | {seed}", rows, known))
    lines += ["", "## What is left", ""]
    left = [row for row in results.values() if is_left(row, known)]
    in_order = sorted(left, key=lambda row: (list(PACKAGES).index(row["package"]), row["key"]))
    lines += [f"- `{row['key']}`, in `{row['line']}`" for row in in_order] or ["Nothing."]
    lines += ["", "## Equivalent", ""]
    lines += [f"- `{key}`: {equivalent(key)}" for key in sorted(results) if equivalent(key)] or ["None."]
    return "\n".join(lines) + "\n"


def show(results: dict[str, dict], packages: list[str]) -> None:
    """Print the survivors as diffs."""
    for package in packages:
        known = {m.key: m for file in files(package) for m in mutants(file)}
        for row in results.values():
            if row["package"] == package and row["result"] == "survived" and not equivalent(row["key"]):
                mutant = known.get(row["key"])
                print(f"\n== {package}  {row['key']}  (reached by {row['reached by']} tests)")
                if mutant is None:
                    print("   (no longer in the code)")
                    continue
                source = (ROOT / mutant.file).read_bytes()
                old, new = source.decode().splitlines(), mutant.apply(source).decode().splitlines()
                print("\n".join(list(difflib.unified_diff(old, new, mutant.file, "", lineterm="", n=1))[2:]))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.mutation", description="Do the tests notice?")
    parser.add_argument("what", choices=["measure", "again", "show", "write"])
    parser.add_argument("package", nargs="*", help=f"of {', '.join(PACKAGES)} (default: all)")
    parser.add_argument("--sample", type=int, default=60, help="mutants of each package (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which mutants (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=60, help="after which no mutant is begun (default: 60)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="with again: these tests alone")
    options = parser.parse_args(arguments)
    if unknown := set(options.package) - set(PACKAGES):
        parser.error(f"package: expected some of {', '.join(PACKAGES)}, got {', '.join(sorted(unknown))}")
    packages, results = options.package or list(PACKAGES), load()
    if options.what == "show":
        show(results, packages)
    elif options.what == "write":
        written = PAGE.read_text().partition(FINDINGS) if PAGE.exists() else ("", "", "")
        PAGE.write_text(page(results) + "".join(["\n", *written[1:]] if written[1] else []))
    else:
        if options.what == "measure":
            done = {key for key, row in results.items() if row["seed"] == options.seed}
            chosen = {p: [m for m in drawn(p, options.sample, options.seed) if m.key not in done] for p in packages}
        else:
            survivors = {row["key"] for row in results.values() if row["result"] == "survived"}
            left = {key for key in survivors if not equivalent(key)}
            chosen = {p: [m for file in files(p) for m in mutants(file) if m.key in left] for p in packages}
        seed = options.seed if options.what == "measure" else None
        measure(
            {p: found for p, found in chosen.items() if found},
            options.jobs,
            options.minutes,
            results,
            seed,
            options.tests,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
