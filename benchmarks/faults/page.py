"""The section of docs/reliability.md about kills and faults; what stands under FINDINGS people write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

HEADING = "# Kills and faults"
FINDINGS = "## What kills and faults found"
INTRODUCTION = """\
Written by `python -m benchmarks.faults write` from benchmarks/faults/results.json. Commands work on small inputs and
are disturbed; afterwards each file is one that an undisturbed run has under that name too (as it ends, or as it was
before), no input is lost, and the same command, which may be killed again, ends with the folder of the undisturbed run,
byte for byte. Compared without times and process ids are the lines of logs; of `train.log` the losses; of recordings
the corpus and the takes, whose numbers a killed take uses up.

`kills`: SIGKILL, at moments drawn over the command's time and at drawn system calls that change a file; where a command
has several processes, to all of them, to the first or to another. `writes`: one call that opens, makes, writes,
flushes, renames or reads fails (ENOSPC, EROFS, EIO), places evenly spread over all that the command makes; the command
ends with a sentence or does without, never with a traceback, and leaves no half-written file. `disks`: a file system
that is read-only, or of a size between nothing and all that it writes. `pairs`: the same command twice, the second one
later and later: one is refused in a sentence, or both are right. `clocks`: the clock jumps by days whenever somebody
looks at it.
"""
COLUMNS = ("kills at moments", "kills at calls", "calls that fail", "disks", "pairs", "clocks", "wrong", "seconds")


def counts(rows: Mapping[str, Mapping]) -> Counter[str]:
    """The numbers of one scene's line; `rows`: its result of each kind of disturbance."""
    found: Counter[str] = Counter()
    for kind, row in rows.items():
        found["wrong"] += len(row["wrong"])
        found["seconds"] += round(row["seconds"])
        for name, count in row["counts"].items():
            found[{"kills": f"kills {name}", "writes": "calls that fail"}.get(kind, kind)] += count
    return found


def section(results: Mapping[str, Mapping]) -> str:
    """All but what people write."""
    scenes = list(dict.fromkeys(name for rows in results.values() for name in rows))
    lines = [f"| command | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    total: Counter[str] = Counter()
    for name in scenes:
        found = counts({kind: rows[name] for kind, rows in results.items() if name in rows})
        total += found
        lines.append(_line(name, found))
    lines.append(_line("**all**", total))
    calls: Counter[str] = Counter()
    for row in results.get("writes", {}).values():
        calls.update(row["counts"])
    dates = sorted({row["date"] for rows in results.values() for row in rows.values()})
    seeds = sorted({row["seed"] for row in results.get("kills", {}).values()})
    about = [
        f"{' to '.join(dict.fromkeys([*dates[:1], *dates[-1:]]))}, one core of two that others used as well; "
        f"seed {', '.join(map(str, seeds))}.",
        f"Calls that failed: {', '.join(f'{name} {count}' for name, count in sorted(calls.items()))}.",
    ]
    wrong = [
        f"- {name}, {trial} ({where}): {'; '.join(what)}"
        for rows in results.values()
        for name, row in rows.items()
        for trial, where, what in row["wrong"]
    ]
    return "\n".join([HEADING, "", INTRODUCTION, *lines, "", *about, *(["", *wrong] if wrong else []), ""])


def _line(name: str, found: Counter[str]) -> str:
    return f"| {name} | {' | '.join(f'{found[column]:,}' for column in COLUMNS)} |"


def replaced(page: str, text: str) -> str:
    """The page with `text` in place of the section's, which goes to its end where there is none; FINDINGS stay."""
    before, found, rest = page.partition(f"{HEADING}\n")
    own, following, after = rest.partition("\n# ") if found else ("", "", "")
    written = own.partition(FINDINGS)
    kept = f"\n{FINDINGS}{written[2].rstrip()}\n" if written[1] else ""
    return f"{before.rstrip()}\n\n{text}{kept}" + (f"\n# {after}" if following else "")
