"""Do the tests notice? One small change to the code at a time, and the tests that reach it: red, or a survivor.

    python -m benchmarks.mutation measure [PACKAGE ...] [--sample 60] [--seed 0] [--minutes 60] [--jobs 2]
    python -m benchmarks.mutation again [PACKAGE ...]     the survivors only, after tests were added
    python -m benchmarks.mutation show [PACKAGE ...]      the survivors as diffs
    python -m benchmarks.mutation write                   docs/reliability.md from the results

Results lie in benchmarks/mutation.json. `measure` draws `--sample` mutants of each package with a seed; a mutant is
known by its package, file, function and change, so its result outlives lines that move. The tests of its package that
called its function run, quickest first; if these are green, those that start processes, in which nobody looks, as far
as 120 s go. Tests that need the original Caffe or a GPU, or are marked slow, take no part: the score is a lower bound.
A run of more than three times its time is red: the mutant does not end.

Why no mutation tester from a package index (tried on Python 3.11): mutmut 3.8 puts an import of itself into every
file, and our tests of what may be imported are red before anything is mutated; cosmic-ray 8.7 makes 7,369 mutants of
`lrp` alone, runs all tests for each of them, and edits the files of the working tree.

A mutant that computes the same (equivalent) is named in EQUIVALENT with the reason, and does not count.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import difflib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/mutation.json"
CALLS = ROOT / ".cache/mutation"
PAGE = ROOT / "docs/reliability.md"
AIM = 90  # percent

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
    "preprocessing": (
        ["audiomnist/signal/*.py", "audiomnist/preprocessing/*.py"],
        ["tests/audiomnist/signal", "tests/audiomnist/preprocessing", "tests/test_facts.py"],
    ),
    "corpus": (["audiomnist/corpus/*.py"], ["tests/audiomnist/corpus", "tests/test_facts.py"]),
    "runs": (["audiomnist/runs/*.py"], ["tests/audiomnist/runs"]),
    "explain": (["audiomnist/explain/*.py"], ["tests/audiomnist/explain"]),
    "experiments": (
        ["audiomnist/experiments/*.py", "audiomnist/study/*.py"],
        ["tests/audiomnist/experiments", "tests/audiomnist/study", "tests/test_facts.py"],
    ),
    "recording": (["audiomnist/recording/*.py"], ["tests/audiomnist/recording"]),
}  # fmt: skip
GENERATED = {"caffe_proto/caffe_pb2.py"}
ELSEWHERE = 120  # seconds of tests that start processes of their own, where it is not seen what they reach
LEFT_OUT = "not bvlc and not cuda and not slow"

# (file, function, what was -> what became): why no test can tell them apart
EQUIVALENT: dict[tuple[str, str, str], str] = {}

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


def copy_tree(folder: Path) -> None:
    """The files of the working tree that git knows or would know, in `folder`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def run_tests(tree: Path, arguments: list[str], limit: float, **variables: str) -> str:
    """pytest in a copy of the tree: "passed", "failed" or "timeout"; whatever it started ends with it."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "agg",
        "CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(tree.parent / f"{tree.name}-tmp"), **variables,
    }  # fmt: skip
    shutil.rmtree(environment["TMPDIR"], ignore_errors=True)
    Path(environment["TMPDIR"]).mkdir()
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "benchmarks.mutation_plugin",
               "-m", LEFT_OUT, *arguments]  # fmt: skip
    log = tree.parent / f"{tree.name}.log"
    with open(log, "wb") as out:
        process = subprocess.Popen(command, cwd=tree, env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                                   start_new_session=True)  # fmt: skip
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status in (0, 1, 2, 5):  # 2: a file cannot be imported; 5: no test was chosen
        return "passed" if status in (0, 5) else "failed"
    return "timeout" if status is None else "failed"


def calls(package: str, tree: Path, folder: Path) -> dict:
    """{test: {"seconds": s, "calls": ["file:line", ...]}} of the package's tests on the unmutated tree.

    It is kept in .cache/mutation for as long as neither the package nor its tests change.
    """
    digest = hashlib.sha256()
    tests = [path for place in PACKAGES[package][1] for path in [ROOT / place, *(ROOT / place).rglob("*.py")]]
    for path in [*(ROOT / file for file in files(package)), *sorted(filter(Path.is_file, tests))]:
        digest.update(path.read_bytes())
    path = CALLS / f"{package}-{digest.hexdigest()[:16]}.json"
    if not path.exists():
        CALLS.mkdir(parents=True, exist_ok=True)
        result = run_tests(tree, PACKAGES[package][1], 3600, MUTATION_RECORD=str(path))
        if result != "passed":
            path.unlink(missing_ok=True)
            log = (tree.parent / f"{tree.name}.log").read_text()
            raise SystemExit(f"{package}: expected tests that pass without any mutant, got {result}:\n{log[-2000:]}")
    return json.loads(path.read_text())


def judge(mutant: Mutant, package: str, recorded: dict, tree: Path, folder: Path) -> dict:
    """Apply the mutant to the tree, run the tests that reach it and then the others, and put the file back."""
    path = tree / mutant.file
    original = path.read_bytes()
    place = f"{mutant.file}:{mutant.scope}"
    by_time = sorted(recorded, key=lambda test: recorded[test]["seconds"])
    reaching = [test for test in by_time if not mutant.scope or place in recorded[test]["calls"]]
    others, spent = [], 0.0
    for test in by_time:
        if "a process" in recorded[test]["calls"] and test not in reaching and spent < ELSEWHERE:
            others.append(test)
            spent += recorded[test]["seconds"]
    begun = time.monotonic()
    result, reached = "survived", len(reaching)
    try:
        path.write_bytes(mutant.apply(original))
        for chosen in (reaching, others):
            if not chosen:
                continue
            wanted = folder / f"{tree.name}.tests.json"
            wanted.write_text(json.dumps(chosen))
            limit = 60 + 3 * sum(recorded[test]["seconds"] for test in chosen)
            named = sorted({test.split("::")[0] for test in chosen})
            outcome = run_tests(tree, named, limit, MUTATION_TESTS=str(wanted))
            if outcome != "passed":
                result = "killed" if outcome == "failed" else "timeout"
                break
    finally:
        path.write_bytes(original)
    line = original.decode().splitlines()[mutant.line - 1].strip()
    return {"package": package, "key": mutant.key, "line": line, "result": result, "reached by": reached,
            "seconds": round(time.monotonic() - begun, 1)}  # fmt: skip


def measure(chosen: dict[str, list[Mutant]], jobs: int, minutes: float, done: dict[str, dict]) -> None:
    """Judge the mutants, packages in turn so that an early end leaves a part of each; results go to `done`."""
    with tempfile.TemporaryDirectory(prefix="mutation") as name:
        folder = Path(name)
        trees: Queue[Path] = Queue()
        for number in range(jobs):
            (folder / f"tree{number}").mkdir()
            copy_tree(folder / f"tree{number}")
            trees.put(folder / f"tree{number}")

        def with_tree(work, *arguments):
            tree = trees.get()
            try:
                return work(*arguments, tree, folder)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(jobs) as pool:
            recorded = dict(zip(chosen, pool.map(lambda package: with_tree(calls, package), chosen), strict=True))
            for package in chosen:
                print(f"{package}: {len(recorded[package])} tests", file=sys.stderr)

            end = time.monotonic() + 60 * minutes

            def one(job: tuple[Mutant, str]) -> None:
                mutant, package = job
                if time.monotonic() > end:
                    return
                found = with_tree(judge, mutant, package, recorded[package])
                done[found["key"]] = found
                print(f"{found['result']:8s} {found['seconds']:6.1f} s  {package}  {found['key']}", flush=True)
                RESULTS.write_text(json.dumps(sorted(done.values(), key=lambda row: row["key"]), indent=1) + "\n")

            longest = max(map(len, chosen.values()), default=0)
            jobs_in_turn = [(m[k], package) for k in range(longest) for package, m in chosen.items() if k < len(m)]
            list(pool.map(one, jobs_in_turn))


# ---------------------------------------------------------------------------------------------------------------------
# results


def load() -> dict[str, dict]:
    return {row["key"]: row for row in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}


def equivalent(key: str) -> str | None:
    """Why the mutant computes the same, or None."""
    return next((why for known, why in EQUIVALENT.items() if key == "{}:{}: {}".format(*known)), None)


def page(results: dict[str, dict]) -> str:
    """docs/reliability.md."""
    rows = defaultdict(Counter)
    for row in results.values():
        rows[row["package"]]["equivalent" if equivalent(row["key"]) else row["result"]] += 1
    lines = [
        "# Do the tests notice?",
        "",
        "Written by `python -m benchmarks.mutation write` from benchmarks/mutation.json. One small change at a time is",
        "made to the code (an operator, a constant, a condition, an argument left out), drawn with a seed, and the",
        "package's tests run; tests that need the original Caffe or a GPU do not take part. The score is the share",
        f"that some test notices; the aim is {AIM} % in each package.",
        "Few mutants say little: of 5, even all noticed fits a true share of half. Survivors that were tried",
        "`again` after tests were written for them make the score of their sample too good; another seed is fair.",
        "",
        "| package | mutants in all | tried | equivalent | noticed | survived | score |",
        "|---|---|---|---|---|---|---|",
    ]
    total: Counter[str] = Counter()
    for package in PACKAGES:
        count = rows[package]
        if not count:
            continue
        noticed = count["killed"] + count["timeout"]
        counted = noticed + count["survived"]
        everything = sum(len(mutants(file)) for file in files(package))
        total.update({"all": everything, **count})
        lines.append(
            f"| {package} | {everything} | {sum(count.values())} | {count['equivalent']} | {noticed} | "
            f"{count['survived']} | {100 * noticed / max(counted, 1):.0f} % |"
        )
    noticed = total["killed"] + total["timeout"]
    tried = noticed + total["survived"] + total["equivalent"]
    lines += [
        f"| **all** | {total['all']} | {tried} | {total['equivalent']} | {noticed} | {total['survived']} | "
        f"{100 * noticed / max(noticed + total['survived'], 1):.0f} % |",
        "",
        "## Survivors",
        "",
    ]
    for package in PACKAGES:
        rows_of = [r for r in results.values() if r["package"] == package and r["result"] == "survived"]
        for row in sorted(rows_of, key=lambda row: row["key"]):
            if not equivalent(row["key"]):
                lines.append(f"- `{row['key']}`, in `{row['line']}`")
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
    options = parser.parse_args(arguments)
    if unknown := set(options.package) - set(PACKAGES):
        parser.error(f"package: expected some of {', '.join(PACKAGES)}, got {', '.join(sorted(unknown))}")
    packages, results = options.package or list(PACKAGES), load()
    if options.what == "show":
        show(results, packages)
    elif options.what == "write":
        PAGE.write_text(page(results))
    else:
        if options.what == "measure":
            chosen = {package: drawn(package, options.sample, options.seed) for package in packages}
        else:
            survivors = {row["key"] for row in results.values() if row["result"] == "survived"}
            left = {key for key in survivors if not equivalent(key)}
            chosen = {p: [m for file in files(p) for m in mutants(file) if m.key in left] for p in packages}
        measure({package: found for package, found in chosen.items() if found}, options.jobs, options.minutes, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
