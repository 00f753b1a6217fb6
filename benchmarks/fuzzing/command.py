"""The command line of the fuzzer, its record and its section of docs/reliability.md."""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.fuzzing.children import ROOT, Target, Verdict, Workshop, harm, rng_of

RESULTS = ROOT / "benchmarks/fuzzing.json"
PAGE = ROOT / "docs/reliability.md"
TITLE = "# Damaged files given to every command"
TURN = 3.0  # s that a target has before the next one's turn
SECONDS = 120.0  # of a case
MEMORY = 4 * 2**30  # bytes more than the interpreter and its modules take
FAST = Path("/dev/shm")  # a file system in memory: files are written thousands of times


def measure(
    chosen: Sequence[Target], seed: int, minutes: float, place: Path, results: Path, seconds: float = SECONDS
) -> dict:
    """Give each target its turns until the time is over; returns the record, and shows progress on stderr.

    The record is written to `results` after each turn.

    Each has about the same time, so that quick readers get thousands of cases and experiments some hundred.
    """
    begun = time.monotonic()
    workshops = [Workshop(one, place / str(number), MEMORY, seconds) for number, one in enumerate(chosen)]
    if refused := [refusal for one in workshops if (refusal := one.check())]:
        raise SystemExit("\n".join(["expected results of whole files, got", *refused]))
    start, end = time.monotonic(), time.monotonic() + 60 * minutes
    spent = dict.fromkeys(range(len(workshops)), 0.0)
    outcomes = {one.name: Counter() for one in chosen}
    findings: dict[tuple[str, str, str], dict] = {}

    def record() -> dict:
        return {
            "date": f"{datetime.date.today()}",
            "seed": seed,
            "minutes": round((min(time.monotonic(), end) - start) / 60, 1),
            "seconds a case may take": seconds,
            "targets": {name: dict(sorted(counts.items())) for name, counts in outcomes.items()},
            "findings": list(findings.values()),
        }

    print(f"{len(chosen)} targets, made in {start - begun:.0f} s", file=sys.stderr, flush=True)
    try:
        while time.monotonic() < end:
            number = min(spent, key=lambda one: spent[one] / chosen[one].share)
            workshop, since = workshops[number], time.monotonic()
            first = outcomes[workshop.target.name].total()
            for verdict in workshop.run(seed, range(first, first + 10**6), min(end, since + TURN)):
                outcomes[verdict.target][verdict.outcome] += 1
                key = verdict.target, verdict.outcome, verdict.where
                if verdict.is_finding and key not in findings:
                    findings[key] = asdict(verdict) | {"times": 0}
                    print(
                        f"\n{verdict.target}, case {verdict.case}: {verdict.outcome}: {verdict.where}", file=sys.stderr
                    )
                if verdict.is_finding:
                    findings[key]["times"] += 1
            spent[number] += time.monotonic() - since
            total = sum(map(Counter.total, outcomes.values()))
            left = max(0.0, end - time.monotonic())
            line = f"{total} cases, {len(findings)} kinds of findings, {left:.0f} s left; {workshop.target.name}"
            if sys.stderr.isatty():
                print(f"\r{line:78}", end="", file=sys.stderr, flush=True)
            elif number == 0:
                print(line, file=sys.stderr, flush=True)
            write(results, record())
    except KeyboardInterrupt:
        print("\nstopped; what was done counts", file=sys.stderr)
    write(results, record())
    return record()


def write(path: Path, record: dict) -> None:
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load() -> dict:
    return json.loads(RESULTS.read_text(encoding="utf-8"))


INTRODUCTION = """\
Written by `python -m benchmarks.fuzzing write` from benchmarks/fuzzing.json, which
`python -m benchmarks.fuzzing measure --minutes {minutes:g} --seed {seed}` made ({date}). Small whole files, made by the
commands themselves, are damaged in their bytes and by their grammar (prototxt and caffemodel by Caffe's schema, HDF5 by
its groups, types and links, WAV by its chunks, JSON by its values, lists and logs by their lines), or are missing,
empty, links, folders, unreadable, of another kind. Every reader and every command is given them in turn. A finding is a
traceback, a signal, an exit status that nobody promised, a refusal without a word, more than {seconds:g} s of
the processor (or five times as much by the clock), or a file of the user's that is not what it was."""


def section(record: dict) -> str:
    """What docs/reliability.md says of a record."""
    everything: Counter[str] = Counter()

    def row(name: str, counts: Counter[str]) -> str:
        total, refused, done = counts.total(), counts["refusal"], counts["result"]
        return f"| {name} | {total:,} | {refused:,} | {done:,} | {total - refused - done} |"

    rows = []
    for name, counts in record["targets"].items():
        everything.update(counts)
        rows.append(row(name, Counter(counts)))
    words = {key: record[key] for key in ("minutes", "seed", "date")}
    head = ["| given to | cases | refused in a sentence | done | findings |", "|---|---|---|---|---|"]
    introduction = INTRODUCTION.format(**words, seconds=record["seconds a case may take"])
    return "\n".join([TITLE, "", introduction, "", *head, *rows, row("**all**", everything)])


def replaced(page: str, title: str, text: str) -> str:
    """The page with another text for its section that begins with the line `title`, or with that section at its end."""
    before, found, rest = page.partition(f"{title}\n")
    _, next_section, after = rest.partition("\n# ") if found else ("", "", "")
    return f"{before.rstrip()}\n\n{text}\n" + (f"\n# {after}" if next_section else "")


def one_case(target: Target, seed: int, number: int, place: Path) -> Verdict:
    """Carry out one case, and leave its damaged files in `place`."""
    workshop = Workshop(target, place, MEMORY, SECONDS)
    (verdict,) = list(workshop.run(seed, range(number, number + 1), time.monotonic() + 2 * SECONDS))
    workshop.renew()
    harm(workshop.folder, workshop.target, rng_of(target.name, seed, number))
    return verdict


def show(found: dict, lines: int = 9) -> None:
    """Print a finding, and the last lines of what was said."""
    print(f"\n== {found['target']}, seed {found['seed']}, case {found['case']} ({found.get('times', 1)} times)")
    print(f"   {found['outcome']}: {found['where']}; {found['files']}")
    print("\n".join(line[:200] for line in found["words"].splitlines()[-lines:]))


def main(arguments: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="benchmarks.fuzzing", description="Damaged files for every reader and command.")
    p.add_argument("what", choices=["measure", "again", "show", "case", "write"])
    p.add_argument("case", nargs="*", metavar="NAME SEED NUMBER", help="with case: which one")
    p.add_argument("--minutes", type=float, default=60, help="(default: %(default)s)")
    p.add_argument("--seed", type=int, default=0, help="of every damage (default: %(default)s)")
    p.add_argument("--command", nargs="+", metavar="NAME", help="targets whose names begin so (default: all)")
    p.add_argument(
        "--seconds", type=float, default=SECONDS, help="of the processor that a case may take (default: %(default)s)"
    )
    p.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FILE", help="record (default: benchmarks/fuzzing.json)"
    )
    options = p.parse_args(arguments)
    if options.what == "show":
        for found in json.loads(options.results.read_text())["findings"]:
            show(found)
        return 0
    if options.what == "write":
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), TITLE, section(load())), encoding="utf-8")
        return 0
    from benchmarks.fuzzing import targets, whole  # every module of ours, once for all children

    everything = {one.name: one for one in targets.targets()}
    place = Path(tempfile.mkdtemp(prefix="fuzzing-", dir=FAST if FAST.is_dir() else None))
    place.chmod(0o755)
    try:
        if options.what == "case":
            name, seed, number = options.case
            show(asdict(one_case(everything[name], int(seed), int(number), place)))
            print(f"its files: {place}/here")
            return 0
        if options.what == "again":
            left = 0
            for found in json.loads(options.results.read_text())["findings"]:
                folder = place / str(left)
                verdict = one_case(everything[found["target"]], found["seed"], found["case"], folder)
                shutil.rmtree(folder)
                left += verdict.is_finding
                said = "still" if verdict.is_finding else "mended"
                print(f"{said}: {verdict.target}, case {verdict.case}: {verdict.outcome} {verdict.where}")
            return 1 if left else 0
        chosen = [one for one in everything.values()
                  if not options.command or one.name.startswith(tuple(options.command))]  # fmt: skip
        if not chosen:
            p.error(f"--command: expected the beginning of one of {', '.join(everything)}, got {options.command}")
        record = measure(chosen, options.seed, options.minutes, place, options.results, options.seconds)
        total = sum(sum(counts.values()) for counts in record["targets"].values())
        print(f"{total} cases, {len(record['findings'])} kinds of findings: {options.results}")
        return 1 if record["findings"] else 0
    finally:
        whole.forget()
        if options.what != "case":
            shutil.rmtree(place, ignore_errors=True)
