"""A command in forks of this process: undisturbed, killed at a moment or at a system call, or with a call that fails.

What a command leaves is judged against a run that nothing disturbs: after a kill or a fault, a file has a content that
the undisturbed run had put under that name too, and in the end the folder is the same byte for byte. Both lie at the
same path, one after the other, since files name each other. Linux alone: strace, pidfd, /proc.
"""

from __future__ import annotations

import contextlib
import ctypes
import fnmatch
import os
import pickle
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

LEFTOVER = re.compile(r"\.[0-9a-f]{8}-[0-9a-f]{8}\.part")  # what caffe_proto.atomic leaves where its process is killed
PAGE = os.sysconf("SC_PAGE_SIZE")
LIMIT = 600.0  # s that a command may take, on a machine that others use as well
DEAD = r"got a dead one|expected exit status 0, got 137"  # said where another process than the first one was killed
SUBREAPER, PTRACER, ANY = 36, 0x59616D61, -1  # of prctl(2)
CALLS = (
    "openat", "write", "pwrite64", "fsync", "rename", "mkdir", "unlink", "rmdir", "ftruncate", "fchmod", "fchown",
    "read", "pread64",
)  # fmt: skip
CHANGES = CALLS[:-2]
_CALL = re.compile(r"(?P<task>\d+) +(?P<call>\w+)\((?P<arguments>.*)")


@dataclass(frozen=True)
class Scene:
    """A command, what it needs, and what of its folder is compared.

    `prepare` fills the folder that the command finds, `run` is the command, called again to go on, and gives the exit
    status; both get the folder. `journals`: {pattern: entries of such a file}, for files that grow line by line: after
    a kill some of the undisturbed run's entries, in the end all of them. `forms`: {pattern: what of a content counts}.
    `result`: what the folder holds in the end, {name: content}, where that is not simply its files. `refused`: said by
    a command that finds another one at work. `several`: it works with several processes. `temporary`: patterns
    of what may be left, in whatever state, under names that no result has. `whole`: {pattern: whether it is complete},
    of what an undisturbed run never has so, or under that name.
    """

    name: str
    prepare: Callable[[Path], None]
    run: Callable[[Path], int]
    journals: Mapping[str, Callable[[bytes], frozenset]] = field(default_factory=dict)
    forms: Mapping[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    result: Callable[[Path], Mapping[str, object]] | None = None
    refused: str = r"(?!)"
    several: bool = False
    temporary: tuple[str, ...] = ()
    whole: Mapping[str, Callable[[bytes], bool]] = field(default_factory=dict)

    def form(self, name: str, content: bytes) -> object:
        """What counts of a file's content."""
        for pattern, entries in self.journals.items():
            if fnmatch.fnmatch(name, pattern):
                return entries(content)
        for pattern, form in self.forms.items():
            if fnmatch.fnmatch(name, pattern):
                return form(content)
        return content


@dataclass(frozen=True)
class Point:
    """A system call of a command: the `number`-th `call` of one of its threads, on a file of its folder."""

    call: str
    number: int
    file: str


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status (-9: killed; None: it took longer than LIMIT), output and seconds."""

    status: int | None
    output: str
    seconds: float


@dataclass
class Reference:
    """What an undisturbed run leaves: {file: what counts of it}, every content that a name ever had, and its points."""

    seconds: float
    result: dict[str, object]
    states: dict[str, list]
    points: list[Point]


def be_reaper() -> None:
    """Make this process the parent of whatever its children leave running."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)


def children(process: int) -> list[int]:
    """The processes that it has started and those that these have."""
    found = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text().split()):
                found += [child, *children(child)]
    return found


def tree(folder: Path) -> dict[str, bytes]:
    """{relative path: content} of every file; folders end in a slash and have none."""
    return {
        path.relative_to(folder).as_posix() + "/" * path.is_dir(): b"" if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
    }


class Stage:
    """The one folder in which a scene's commands run, one after the other, and what is known of the undisturbed run."""

    def __init__(self, scene: Scene, place: Path):
        self.scene, self.folder = scene, place / "folder"
        self.template, self.log, self.seen = place / "template", place / "log", place / "seen"
        self.folder.mkdir(parents=True)  # what is prepared may say where it lies
        ended = self.ended(self.start(lambda: scene.prepare(self.folder) or 0))
        if ended.status:
            raise SystemExit(f"{scene.name}: expected inputs, got {ended.output}")
        shutil.copytree(self.folder, self.template)
        self.inputs = tree(self.template)
        self.reference = self._undisturbed()

    # -- processes --------------------------------------------------------------------------------------------------

    def start(self, work: Callable[[], int], gate: tuple[int, int] | None = None) -> int:
        """A fork of this process that does the work, its output in the log; returns its id. With a `gate`, a pipe, it
        waits until its writing end is closed."""
        process = os.fork()
        if process:
            return process
        status = 70
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(log, 1), os.dup2(log, 2)
            if gate is not None:
                ctypes.CDLL(None).prctl(PTRACER, ANY, 0, 0, 0)
                os.close(gate[1])
                os.read(gate[0], 1)
            status = work()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def command(self) -> int:
        return self.scene.run(self.folder)

    def ended(
        self, process: int, moment: float | None = None, victims: Callable[[int], list[int]] | None = None
    ) -> Ended:
        """Wait for a process, and kill it and what it has started after the limit. At a `moment` (s), SIGKILL goes to
        the `victims` among it and its children."""
        begun = time.monotonic()
        handle = os.pidfd_open(process)
        try:
            if moment is not None and not select.select([handle], [], [], moment)[0]:
                for victim in victims(process):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(victim, signal.SIGKILL)
            in_time = select.select([handle], [], [], LIMIT)[0]
            if not in_time:
                for other in [process, *children(process)]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(other, signal.SIGKILL)
        finally:
            os.close(handle)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        output = self.log.read_text(errors="replace") if self.log.exists() else ""
        self.log.unlink(missing_ok=True)
        return Ended(status if in_time else None, output, time.monotonic() - begun)

    def traced(self, work: Callable[[], int], *options: str) -> Ended:
        """The work, with strace at it from its first step on."""
        gate = os.pipe()
        process = self.start(work, gate)
        os.close(gate[0])
        said = self.log.with_suffix(".strace")
        with open(said, "wb") as file:
            tracer = subprocess.Popen(["strace", "-f", "-p", f"{process}", *options], stderr=file, stdin=-3, stdout=-3)
        while b"attached" not in said.read_bytes():
            if tracer.poll() is not None:
                os.kill(process, signal.SIGKILL), os.waitpid(process, 0)
                raise SystemExit(f"strace: expected a process to attach to, got {said.read_text().strip()}")
            time.sleep(0.002)
        os.close(gate[1])
        ended = self.ended(process)
        while tracer.poll() is None:  # it stays for what the command has left running
            time.sleep(0.005)
        return ended

    def settle(self) -> None:
        """Wait for whatever the last command left running; what takes too long is killed."""
        end = time.monotonic() + LIMIT
        while children(os.getpid()) and time.monotonic() < end:
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.01)
        for process in children(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    # -- the folder -------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """The folder as the first command finds it."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.template, self.folder, symlinks=True)

    def result(self) -> dict[str, object]:
        """What the folder holds, as far as it counts."""
        if self.scene.result:
            return dict(self.scene.result(self.folder))
        return {name: self.scene.form(name, content) for name, content in tree(self.folder).items()}

    def _undisturbed(self) -> Reference:
        self.reset()
        self._expect_success(noted := self.ended(self.start(self._noting)))
        self.settle()
        result = self.result()
        self.reset()
        calls = self.log.with_suffix(".calls")
        self._expect_success(self.traced(self.command, "-y", "-o", str(calls), "-e", f"trace={','.join(CALLS)}"))
        self.settle()
        if different := differences(self.result(), result):
            raise SystemExit(f"{self.scene.name}: expected the same from two undisturbed runs, got {different}")
        states = {name: [content] for name, content in self.inputs.items()}
        for name, content in [*_unpickled(self.seen), *tree(self.folder).items()]:
            states.setdefault(name, []).append(content)
        states = {name: [self.scene.form(name, one) for one in contents] for name, contents in states.items()}
        return Reference(noted.seconds, result, states, points(calls, self.folder))

    def _noting(self) -> int:
        """The command; whatever gets a final name is noted."""
        replace = os.replace

        def noted(source: str, target: str, **options: object) -> None:
            name = os.path.relpath(target, self.folder)
            content = Path(source).read_bytes()
            replace(source, target, **options)
            with open(self.seen, "ab") as file:
                file.write(pickle.dumps((name, content)))

        os.replace = noted
        return self.command()

    def _expect_success(self, ended: Ended) -> None:
        if ended.status:
            raise SystemExit(f"{self.scene.name}: expected exit status 0, got {ended.status}: {ended.output[-3000:]}")

    # -- judging ----------------------------------------------------------------------------------------------------

    def incomplete(self) -> list[str]:
        """What lies under final names and never does in an undisturbed run, and inputs that are gone."""
        wrong, found = [], tree(self.folder)
        for name, content in found.items():
            if LEFTOVER.fullmatch(Path(name).name) or any(fnmatch.fnmatch(name, p) for p in self.scene.temporary):
                continue
            checks = [check for p, check in self.scene.whole.items() if fnmatch.fnmatch(name, p)]
            if any(check(content) for check in checks):
                continue
            known = self.reference.states.get(name)
            form = self.scene.form(name, content)
            if known is None:
                if checks or not self.scene.result:
                    wrong.append(f"{name}: a file that no undisturbed run has")
            elif isinstance(form, frozenset):
                if not form <= frozenset().union(*known):
                    wrong.append(f"{name}: {min(map(str, form - frozenset().union(*known)))!r:.200}")
            elif form not in known:
                wrong.append(f"{name}: {len(content)} bytes that no undisturbed run has under that name")
        return wrong + [f"{name}: lost" for name in self.inputs if name not in found]

    def leftovers(self) -> list[str]:
        return [name for name in tree(self.folder) if LEFTOVER.fullmatch(Path(name).name)]

    def complete(self) -> list[str]:
        """What the folder has otherwise than after an undisturbed run."""
        return differences(self.result(), self.reference.result)

    def go_on(self, others: bool = False) -> list[str]:
        """The same command, until it is done; what it does or leaves otherwise than an undisturbed one. With `others`,
        it may be refused once, for what the last one left running."""
        ended = self.ended(self.start(self.command))
        if ended.status and others and re.search(self.scene.refused, ended.output):
            self.settle()
            ended = self.ended(self.start(self.command))
        self.settle()
        if ended.status:
            return [f"the same command ends with {ended.status}: {ended.output[-1500:]}"]
        return self.complete()


def differences(found: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    """The names whose contents differ, and how."""
    return [
        f"{name}: {'missing' if name not in found else 'too much' if name not in wanted else 'another content'}"
        for name in sorted({*found, *wanted})
        if name not in found or name not in wanted or found[name] != wanted[name]
    ]


def points(log: Path, folder: Path) -> list[Point]:
    """The calls in strace's log that concern files of the folder, each with its number among those of its thread.

    Left out are calls whose number has, in another thread, a call that concerns something else: strace counts in every
    thread by itself, and would disturb that one too.
    """
    counts: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, int], str] = {}
    others = set()
    for line in log.read_text(errors="replace").splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        call, arguments = match["call"], match["arguments"]
        counts[match["task"], call] += 1
        key = call, counts[match["task"], call]
        files = re.findall(rf"[\"<]{re.escape(str(folder))}/([^\">]*)[\">]", arguments)
        if files and (call != "openat" or re.search("O_(WRONLY|RDWR|CREAT|TRUNC)", arguments)):
            found.setdefault(key, files[-1])
        else:
            others.add(key)
    return [Point(*key, file) for key, file in found.items() if key not in others]


def _unpickled(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.exists():
        with open(path, "rb") as file:
            while file.peek(1):
                yield pickle.load(file)


# -- disturbances -----------------------------------------------------------------------------------------------------


def kill(stage: Stage, draw: random.Random, at_call: bool) -> tuple[int, list[str], str]:
    """Kill a command, and the one that goes on with its work, again and again at random, then let it come to its end.

    `at_call`: at a system call that changes a file, else at any moment. Returns the kills,
    what is wrong and, if anything is, what was done.
    """
    stage.reset()
    kills, told, others = 0, [], False
    while not kills or draw.random() < 0.4:
        if at_call:
            call = draw.choice(sorted({one.call for one in stage.reference.points} & {*CHANGES}))
            point = draw.choice([one for one in stage.reference.points if one.call == call])
            how = f"{point.call} {point.number} ({point.file})"
            inject = f"inject={point.call}:signal=KILL:when={point.number}"
            ended = stage.traced(stage.command, "-o", os.devnull, "-e", f"trace={point.call}", "-e", inject)
        else:
            moment = draw.uniform(0, stage.reference.seconds)
            who = draw.choice(["all", "main", "another"] if stage.scene.several else ["main"])
            how = f"{who} at {moment:.3f} s"
            ended = stage.ended(stage.start(stage.command), moment, partial(_victims, who, draw))
        told.append(f"{how}: status {ended.status}")
        hit = ended.status == -signal.SIGKILL or re.search(DEAD, ended.output)
        kills += bool(hit)
        refused = others and re.search(stage.scene.refused, ended.output)
        if not hit and ended.status and not refused:
            return kills, [f"ended with {ended.status}: {ended.output[-1500:]}"], "; ".join(told)
        others = bool(children(os.getpid()))
        if draw.random() < 0.5 or refused or at_call:
            stage.settle()
            others = False
        if wrong := stage.incomplete():
            stage.settle()
            return kills, wrong, "; ".join(told)
        if ended.status == 0:
            break
    wrong = stage.go_on(others)
    return kills, wrong, "; ".join(told)


def _victims(who: str, draw: random.Random, process: int) -> list[int]:
    started = children(process)
    if who == "another" and started:
        return [draw.choice(started)]
    return [process, *started] if who == "all" else [process]


def fail(stage: Stage, point: Point, error: str) -> tuple[int, list[str], str]:
    """Let a system call of a command fail with `error` (ENOSPC, EIO, ...); returns how many of the folder's did (0: the
    count was of something else this time), what is wrong, and where."""
    stage.reset()
    inject = f"inject={point.call}:error={error}:when={point.number}"
    calls = stage.log.with_suffix(".calls")
    ended = stage.traced(stage.command, "-y", "-o", str(calls), "-e", f"trace={point.call}", "-e", inject)
    stage.settle()
    failed = [line for line in calls.read_text(errors="replace").splitlines() if line.endswith("(INJECTED)")]
    if not failed or not all(f"{stage.folder}/" in line for line in failed):
        return 0, [], point.file
    return len(failed), after_fault(stage, ended), point.file


def after_fault(stage: Stage, ended: Ended, mend: Callable[[], None] = lambda: None) -> list[str]:
    """What is wrong after a command that met with a fault: how it ended, what it left, how it goes on once that is
    mended."""
    wrong = []
    if "Traceback" in ended.output or ended.status not in (0, 1, 134):
        wrong.append(f"ended with {ended.status}: {ended.output[-1500:]}")
    elif ended.status and "expected" not in ended.output and not re.search(r"(?m)^[\w.-]+: .*\w", ended.output):
        wrong.append(f"no sentence: {ended.output[-1500:]}")
    wrong += stage.incomplete()
    wrong += [f"{name}: left behind" for name in stage.leftovers()]
    mend()
    return wrong + [f"afterwards {one}" for one in stage.go_on()]


def fill(stage: Stage, share: float | None) -> tuple[int, list[str], str]:
    """Run a command on a disk that takes what it finds and this share of what it adds, or on one that is read-only
    (None); returns 1, what is wrong, and the disk's size."""
    stage.reset()
    stage.ended(stage.start(stage.command))
    stage.settle()
    before, after = _disk_size(stage.template), _disk_size(stage.folder)
    size = max(PAGE, before + round((share or 0) * (after - before)))  # 0 would be no limit
    shutil.rmtree(stage.folder)
    stage.folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "faults", stage.folder], check=True)
    try:
        shutil.copytree(stage.template, stage.folder, symlinks=True, dirs_exist_ok=True)
        if share is None:
            _mount_again(stage.folder, "ro")
        ended = stage.ended(stage.start(stage.command))
        stage.settle()
        wrong = after_fault(stage, ended, partial(_mount_again, stage.folder, "rw,size=1g"))
        return 1, wrong, "read-only" if share is None else f"{size} bytes"
    finally:
        subprocess.run(["umount", "-l", stage.folder], check=True)


def _disk_size(folder: Path) -> int:
    """Bytes in whole pages, as tmpfs counts them."""
    return sum(-(-path.stat().st_size // PAGE) * PAGE for path in folder.rglob("*") if path.is_file())


def _mount_again(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def both(stage: Stage, share: float) -> tuple[int, list[str], str]:
    """Two commands at once on one folder, the second one after a share of the time that one takes; returns 1, what is
    wrong, and how both ended."""
    stage.reset()
    first = stage.start(stage.command)
    time.sleep(share * stage.reference.seconds)
    second = stage.start(stage.command)
    wrong, statuses = [], []
    for process in (first, second):
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        statuses.append(status)
    output = stage.log.read_text(errors="replace")
    stage.log.unlink()
    stage.settle()
    refused = [status for status in statuses if status]
    if len(refused) > 1 or (refused and not re.search(stage.scene.refused, output)) or "Traceback" in output:
        wrong.append(f"ended with {statuses}: {output[-1500:]}")
    wrong += stage.incomplete()
    return 1, wrong + [f"afterwards {one}" for one in stage.go_on()], f"exit statuses {statuses}"


def beside(stage: Stage, change: Callable[[], None]) -> tuple[int, list[str], str]:
    """A command whose process is changed by `change` before it begins; returns 1, what is wrong, and nothing."""

    def changed() -> int:
        change()
        return stage.command()

    stage.reset()
    ended = stage.ended(stage.start(changed))
    stage.settle()
    wrong = [f"ended with {ended.status}: {ended.output[-1500:]}"] if ended.status else []
    return 1, wrong + stage.incomplete() + stage.complete(), ""


def sampled(items: Sequence, count: int | None) -> list:
    """At most `count` of the items, evenly spread."""
    if count is None or len(items) <= count:
        return list(items)
    return [items[k * len(items) // count] for k in range(count)]
