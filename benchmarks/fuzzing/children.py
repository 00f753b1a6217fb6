"""Cases, each carried out in a forked child with limits on memory and time, and what is a finding.

A child does some cases of one target, one after the other, in a folder that is whole again before each. It says what it
begins and what came of it; when it dies, its last word is the case that killed it.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import io
import json
import math
import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random

from benchmarks.fuzzing.damage import damaged
from caffe_proto import memory as memory_of

ROOT = Path(__file__).resolve().parents[2]
OURS = tuple(f"{ROOT}/{package}/" for package in ("audiomnist", "benchmarks", "caffe", "caffe_proto", "lrp"))
CAPABILITIES = 0x20080522  # version 3 of Linux' capget and capset
ABOVE_PERMISSIONS = 0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
WHOLE = -1  # the case in which nothing is damaged
WAITING = 5  # times the seconds of the processor that a case may take, by the clock: others use the machine too
WORDS = 64 * 1024  # bytes of a case's output that are looked at, from its end


@dataclass(frozen=True)
class Target:
    """A command and the files that it is given.

    `make` fills the folder that it works in; `files` is {pattern of paths there: kind of damage}, of which one or two
    are damaged in a case; `arguments` are the command's words. Files that match `own` (as of Path.match) are the
    command's to change. `statuses` are those that it promises.
    """

    name: str
    make: Callable[[Path], None]
    files: dict[str, str]
    command: Callable[[list[str]], int | None]
    arguments: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    statuses: tuple[int, ...] = (0, 1, 2)
    share: float = 1.0  # of the time, beside the others


@dataclass
class Verdict:
    """What came of a case. `outcome`: "result", "refusal" or a kind of finding; `where` tells findings apart."""

    target: str
    seed: int
    case: int
    outcome: str
    where: str = ""
    words: str = ""
    files: dict[str, str] = field(default_factory=dict)  # what was done to which file

    @property
    def is_finding(self) -> bool:
        return self.outcome not in ("result", "refusal")


def rng_of(target: str, seed: int, case: int) -> Random:
    """What decides everything about a case."""
    return Random(f"{target}:{seed}:{case}")


def harm(folder: Path, target: Target, rng: Random) -> dict[str, str]:
    """Damage some of the target's files in `folder`; returns what was done, by file."""
    done: dict[str, str] = {}
    for name in rng.sample(sorted(target.files), k=min(len(target.files), rng.choice((1, 1, 1, 1, 2)))):
        path = folder / name
        how = rng.randrange(60)
        if how > 7:
            path.write_bytes(damaged(path.read_bytes(), target.files[name], rng))
            done[name] = target.files[name]
            continue
        path.unlink()
        match how:
            case 0:
                done[name] = "missing"
            case 1:
                path.write_bytes(b"")
                done[name] = "empty"
            case 2:
                path.mkdir()
                done[name] = "a folder"
            case 3:
                path.symlink_to(path.name)
                done[name] = "a link to itself"
            case 4:
                path.write_bytes(rng.randbytes(300))
                done[name] = "random bytes"
            case 5:
                other = folder / rng.choice(sorted(set(target.files) - {name}) or [name])
                readable = other.is_file() and other.stat().st_mode & 0o400  # it may have been damaged before
                path.write_bytes(other.read_bytes() if readable else b"\0")
                done[name] = f"as {other.name}"
            case 6:
                path.write_bytes(b"x")
                path.chmod(0)
                done[name] = "unreadable"
            case 7:
                path.symlink_to("/dev/null")
                done[name] = "an empty device"
    return done


Snapshot = dict[str, tuple]


def snapshot(folder: Path) -> Snapshot:
    """{path in the folder: what changes when the file does}."""
    found: Snapshot = {}

    def visit(place: str) -> None:
        with os.scandir(place) as entries:
            for entry in entries:
                stat = entry.stat(follow_symlinks=False)
                is_folder = entry.is_dir(follow_symlinks=False)
                mark = (stat.st_mode,) if is_folder else (stat.st_mode, stat.st_ino, stat.st_size, stat.st_mtime_ns)
                found[entry.path[len(top) :]] = mark
                if is_folder:
                    visit(entry.path)

    top = f"{folder}{os.sep}"
    visit(top)
    return found


def restore(folder: Path, pristine: Path, before: Snapshot) -> Snapshot:
    """Make the folder what `pristine` is, where it differs from `before`; returns its snapshot."""
    now = snapshot(folder)
    for name in sorted(now.keys() - before.keys(), reverse=True):
        _remove(folder / name)
    for name in sorted(before):
        if now.get(name) != before[name]:
            _remove(folder / name)
            if (pristine / name).is_dir():
                shutil.copytree(pristine / name, folder / name, symlinks=True)
            else:
                shutil.copy2(pristine / name, folder / name)
    return snapshot(folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def place_of(text: str) -> str:
    """Where of ours a traceback, or a dump of faulthandler, ended: "file:function", the innermost."""
    found = re.findall(r'File "([^"]+)", line \d+,? in (\S+)', text)
    ours = [(path, function) for path, function in found if path.startswith(OURS)]
    if "most recent call first" in text:
        ours = ours[::-1]
    path, function = (ours or found or [("?", "?")])[-1]
    return f"{path.removeprefix(f'{ROOT}/')}:{function}"


def carry_out(target: Target, folder: Path, log: int) -> tuple[str, str, str]:
    """Run the command on the files as they are: (outcome, where, last words). `log` is where its output goes."""
    before = snapshot(folder)
    status: object = None
    failure = ""
    try:
        status = target.command(list(target.arguments)) or 0
    except SystemExit as error:
        status = error.code or 0
    except KeyboardInterrupt:
        status = "an interrupt of nobody"
    except BaseException as error:  # noqa: BLE001 (what is looked for)
        failure = f"{type(error).__name__}\n{traceback.format_exc()}"
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError):
            stream.flush()
    words = _last_words(log)
    if failure:
        kind, _, text = failure.partition("\n")
        return "traceback", f"{kind} at {place_of(text)}", text
    if "Traceback (most recent call last)" in words:
        return "traceback", f"printed, at {place_of(words)}", words
    if status not in target.statuses:
        return "status", f"exit status {status!r}", words
    if status and not words.strip():
        return "silence", f"exit status {status} without a word", words
    changed = [name for name, mark in before.items() if _is_lost(folder, name, mark, target.own)]
    if changed:
        return "a file of the user", f"{changed[0]} is not what it was", words
    return ("refusal" if status else "result"), "", words


def _is_lost(folder: Path, name: str, mark: tuple, own: Iterable[str]) -> bool:
    if any(Path(name).match(pattern) for pattern in own):
        return False
    try:
        stat = os.lstat(folder / name)
    except OSError:
        return True
    return mark != ((stat.st_mode,) if len(mark) == 1 else (stat.st_mode, stat.st_ino, stat.st_size, stat.st_mtime_ns))


def _last_words(log: int) -> str:
    size = os.fstat(log).st_size
    return os.pread(log, WORDS, max(0, size - WORDS)).decode("utf-8", "replace")


def obey_permissions() -> None:
    """Have root refused what it may not read by a file's permissions, as anybody else is."""
    libc, header = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(CAPABILITIES, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits
    if os.geteuid() == 0 and libc.capget(header, sets) == 0:
        sets[0] &= ~ABOVE_PERMISSIONS
        libc.capset(header, sets)


def _child(
    target: Target,
    seed: int,
    cases: Iterable[int],
    folder: Path,
    pristine: Path,
    seconds: float,
    memory: int,
    pipe: int,
) -> None:
    """Carry out cases in this process, and tell of each in lines of JSON. Never returns."""
    log = os.open(folder.with_suffix(".log"), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, target_number in ((null, 0), (log, 1), (log, 2)):
        os.dup2(number, target_number)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", errors="backslashreplace", closefd=False) for n in (1, 2))
    faulthandler.enable(log)
    faulthandler.register(signal.SIGPROF, log, chain=True)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + memory, size + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    memory_of.memory.cache_clear()
    os.umask(0o022)
    obey_permissions()
    os.chdir(folder)
    whole = snapshot(folder)

    def tell(**facts: object) -> None:
        os.write(pipe, (json.dumps(facts) + "\n").encode())

    for case in cases:
        os.ftruncate(log, 0)
        tell(begins=case, files={})
        files = {} if case == WHOLE else harm(folder, target, rng_of(target.name, seed, case))
        tell(begins=case, files=files)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        faulthandler.dump_traceback_later(WAITING * seconds, exit=True, file=log)
        outcome, where, words = carry_out(target, folder, log)
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        kept = words[-WORDS // 4 :] if outcome not in ("result", "refusal") or case == WHOLE else ""
        tell(**asdict(Verdict(target.name, seed, case, outcome, where, kept, files)))
        os.chdir(folder)
        whole = restore(folder, pristine, whole)


class Workshop:
    """Where a target's cases take place: a folder, a copy that stays whole, and children in it."""

    def __init__(self, target: Target, place: Path, memory: int, seconds: float):
        self.memory, self.seconds = memory, seconds
        self.folder, self.pristine = place / "here", place / "whole"
        self.folder.mkdir(parents=True)
        with contextlib.redirect_stderr(io.StringIO()):
            target.make(self.folder)
        files = {
            path.relative_to(self.folder).as_posix(): kind
            for pattern, kind in target.files.items()
            for path in sorted(self.folder.glob(pattern))
            if path.is_file()
        }
        self.target = replace(target, files=files)
        shutil.copytree(self.folder, self.pristine, symlinks=True)

    def check(self) -> str:
        """What is wrong on files that nobody damaged: they must give a result, or all cases would see one refusal."""
        (verdict,) = self.run(0, range(WHOLE, WHOLE + 1), math.inf)
        return (
            ""
            if verdict.outcome == "result"
            else f"{verdict.target}: {verdict.outcome} {verdict.where}\n{verdict.words}"
        )

    def renew(self) -> None:
        """The folder as at first, whatever a child that died left there."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.pristine, self.folder, symlinks=True)

    def run(self, seed: int, cases: range, until: float) -> Iterator[Verdict]:
        """Verdicts of some cases, in order; none is begun after `until` (time.monotonic)."""
        left = cases
        while left and time.monotonic() < until:
            done = 0
            for verdict in self._one_child(seed, left, until):
                done += 1
                yield verdict
            if not done:
                return
            left = left[done:]

    def _one_child(self, seed: int, cases: range, until: float) -> Iterator[Verdict]:
        out, into = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            try:
                os.setpgid(0, 0)
                os.close(out)
                timed = (case for case in cases if time.monotonic() < until)
                _child(self.target, seed, timed, self.folder, self.pristine, self.seconds, self.memory, into)
                os._exit(0)
            except BaseException:  # noqa: BLE001 (a fault of this file)
                os.write(into, (json.dumps({"broken": traceback.format_exc()}) + "\n").encode())
            finally:  # nothing of the parent's runs here, whatever happens
                os._exit(1)
        os.close(into)
        begun: dict | None = None
        status = None
        try:
            with open(out, encoding="utf-8") as lines:
                for line in lines:
                    facts = json.loads(line)
                    if "broken" in facts:
                        raise RuntimeError(f"{self.target.name}: {facts['broken']}")
                    if "begins" in facts:
                        begun = facts
                    else:
                        begun = None
                        yield Verdict(**facts)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        finally:
            if status is None:  # the caller wants no more
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
        if begun is not None:
            words = self.folder.with_suffix(".log").read_text(errors="replace")[-WORDS:]
            late = "Timeout (" in words or status == -signal.SIGPROF
            outcome = "time" if late else "signal" if status < 0 else "status"
            what = f"{self.seconds:g} s" if late else signal.Signals(-status).name if status < 0 else f"exit {status}"
            yield Verdict(
                self.target.name, seed, begun["begins"], outcome, f"{what} at {place_of(words)}", words, begun["files"]
            )
            self.renew()
