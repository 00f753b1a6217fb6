"""Kills, failing calls, full disks, two at once, jumping clocks: is nothing incomplete, does the command go on?

    python -m benchmarks.faults kills --count 1000 --seed 0     SIGKILL at random moments and at system calls
    python -m benchmarks.faults writes --each 6                 every kind of call fails: a sentence, and no traceback
    python -m benchmarks.faults disks --each 12                 disks of every size (root: they are mounted)
    python -m benchmarks.faults pairs --each 5                  the same command twice at once
    python -m benchmarks.faults clocks --each 3                 clocks that jump
    python -m benchmarks.faults write                           the section of docs/reliability.md

Results lie in benchmarks/faults/results.json; what was stopped goes on where it was. harness.py says what is judged,
scenes.py what is run. Needs Linux and strace.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from benchmarks.faults import harness, page
from caffe_proto import write_file

ROOT = Path(__file__).resolve().parents[2]
FAST = Path("/dev/shm")  # a file system in memory: thousands of files are written
RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "docs/reliability.md"
# scene -> its share of the kills in percent: those of long commands are dear
SHARES = {
    "importing": 5, "preprocessing": 23, "preprocessing, two processes": 3, "training": 20,
    "training, HDF5 snapshots": 18, "train_test": 6, "relevance of a list": 3, "experiments and results": 2,
    "recording and cutting": 20,
}  # fmt: skip
ERRORS = {
    "openat": ("ENOSPC", "EROFS"), "mkdir": ("ENOSPC", "EROFS"), "write": ("ENOSPC", "EIO"), "pwrite64": ("ENOSPC",),
    "ftruncate": ("EIO",), "fsync": ("EIO", "ENOSPC"), "rename": ("EIO", "ENOSPC"), "read": ("EIO",),
    "pread64": ("EIO",),
}  # fmt: skip
Trial = tuple[str, str, Callable[[], tuple[int, list[str], str]]]  # kind, name; gives count, what is wrong, and where


def kills(stage: harness.Stage, options: argparse.Namespace) -> Iterator[Trial]:
    """Chains of kills, in turn at moments and at system calls."""
    for number in range(sys.maxsize):
        draw = random.Random(f"{options.seed} {stage.scene.name} {number}")
        kind = "at calls" if number % 2 else "at moments"
        yield kind, f"{kind}, {number}", partial(harness.kill, stage, draw, kind == "at calls")


def writes(stage: harness.Stage, options: argparse.Namespace) -> Iterator[Trial]:
    """Every kind of call with every error, at places evenly spread."""
    for call, errors in ERRORS.items():
        found = [point for point in stage.reference.points if point.call == call]
        for error in errors:
            for point in harness.sampled(found, options.each):
                how = f"{call} {error}, number {point.number} ({point.file})"
                yield f"{call} {error}", how, partial(harness.fail, stage, point, error)


def disks(stage: harness.Stage, options: argparse.Namespace) -> Iterator[Trial]:
    """A disk that is read-only, and some that take between nothing and all of what the command writes."""
    yield "disks", "read-only disk", partial(harness.fill, stage, None)
    for number in range(options.each):
        share = (number + 0.5) / options.each
        yield "disks", f"disk for {100 * share:.0f} %", partial(harness.fill, stage, share)


def pairs(stage: harness.Stage, options: argparse.Namespace) -> Iterator[Trial]:
    """Two commands, the second after up to the time that one takes."""
    for number in range(options.each):
        share = number / options.each
        yield "pairs", f"second after {100 * share:.0f} %", partial(harness.both, stage, share)


def clocks(stage: harness.Stage, options: argparse.Namespace) -> Iterator[Trial]:
    """Clocks that jump by days, to and fro, whenever somebody looks at them."""
    from benchmarks.faults.scenes import jump

    for number in range(options.each):
        draw = random.Random(f"{options.seed} {stage.scene.name} {number}")
        yield "clocks", f"clock {number}", partial(harness.beside, stage, partial(jump, draw))


WHAT = {"kills": kills, "writes": writes, "disks": disks, "pairs": pairs, "clocks": clocks}


def load(path: Path) -> dict:
    """{what: {scene: {"trials": done, "counts": {kind: n}, "seconds": s, "wrong": [[name, where, what]], ...}}}."""
    return json.loads(path.read_text()) if path.exists() else {}


def measure(options: argparse.Namespace) -> int:
    """Do the trials that are not done yet; returns how many found something wrong."""
    from benchmarks.faults.scenes import SCENES, warm_up

    results, bad, stop = load(options.results), 0, time.monotonic() + 60 * options.minutes
    rows = results.setdefault(options.what, {})
    harness.be_reaper()
    place = Path(tempfile.mkdtemp(prefix="faults", dir=options.place))
    try:
        warm_up(place)
        chosen = options.scene or list(SHARES)
        for name in chosen:
            row = rows.get(name)
            if row is None or row["seed"] != options.seed:
                row = {"seed": options.seed, "trials": 0, "counts": {}, "seconds": 0.0, "wrong": []}
                rows[name] = row
            share = SHARES[name] / sum(map(SHARES.__getitem__, chosen))
            enough = round(options.count * share) if options.what == "kills" else sys.maxsize
            if sum(row["counts"].values()) >= enough:
                continue
            stage = harness.Stage(SCENES[name], place / str(list(SHARES).index(name)))
            for kind, trial, work in islice(WHAT[options.what](stage, options), row["trials"], None):
                if sum(row["counts"].values()) >= enough or time.monotonic() > stop:
                    break
                begun = time.monotonic()
                count, wrong, how = work()
                row["trials"] += 1
                row["counts"][kind] = row["counts"].get(kind, 0) + count
                row["seconds"] = round(row["seconds"] + time.monotonic() - begun, 1)
                row["date"] = f"{datetime.date.today()}"
                print(f"{name}: {sum(row['counts'].values()):4d}  {trial}", flush=True)
                if wrong:
                    bad += 1
                    row["wrong"].append([trial, how, [one.strip().splitlines()[-1][-300:] for one in wrong]])
                    print("\n".join(f"  !! {one}" for one in [how, *wrong]), flush=True)
                write_file(options.results, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return bad


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=[*WHAT, "write"])
    parser.add_argument("scene", nargs="*", metavar="SCENE", help=f"of {'; '.join(SHARES)} (default: all)")
    parser.add_argument("--count", type=int, default=1000, help="kills in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--each", type=int, default=6, help="of each call and error, or scene (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=600, help="after which no trial is begun")
    place = FAST if FAST.is_dir() else None
    parser.add_argument("--place", default=place, metavar="DIR", help="where the folders lie (default: in memory)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="where results lie")
    options = parser.parse_args(arguments)
    if unknown := set(options.scene) - set(SHARES):
        parser.error(f"scene: expected some of {'; '.join(SHARES)}, got {'; '.join(sorted(unknown))}")
    if options.what == "write":
        PAGE.write_text(
            page.replaced(PAGE.read_text(encoding="utf-8"), page.section(load(options.results))), encoding="utf-8"
        )
        return 0
    return 1 if measure(options) else 0


if __name__ == "__main__":
    sys.exit(main())
