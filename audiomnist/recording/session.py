"""A recording session on disk: one folder with the takes and a log from which everything else follows.

    <recordings>/sessions/<name>/session.jsonl     one event a line, only ever appended to
    <recordings>/sessions/<name>/takes/0001.wav    48 kHz, mono, 16 bit; never changed once written

A take is written before its event: a process that dies in between costs that take and nothing else. Every event is on
the disk before the call that adds it returns. A log may come from somebody else: what it says is checked when it is
loaded, so that nothing is read outside the session's folder, and nothing written outside the corpus.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from audiomnist.recording.plan import DIGITS, MAX_REPETITIONS, Prompt, missing_prompts, series_count, shuffled_prompts
from audiomnist.recording.questions import is_alias, is_text
from audiomnist.signal.wav import wav_bytes
from caffe_proto import UserError
from caffe_proto.atomic import WriteError, make_folder, write_error, write_file
from caffe_proto.texts import whole_text

try:
    import fcntl
except ImportError:  # not on Windows: there nothing keeps two recorders out of one session
    fcntl = None

SAMPLE_RATE = 48000  # Hz
SESSIONS, CORPUS = "sessions", "corpus"  # folders inside the recordings' folder
LOG, TAKES, LOCK = "session.jsonl", "takes", ".lock"
DATE_FORMAT = "%y-%m-%d-%H-%M-%S"  # AudioMNIST's recordingdate


class SessionError(UserError, ValueError):
    """A session that cannot be used; the message is one sentence for the user."""


def _whole(value: object, first: int, last: float = math.inf) -> bool:
    return type(value) is int and first <= value <= last


def _seconds(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < 1e6


def _prompts(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(prompt, list) and len(prompt) == 2 and _whole(prompt[0], 0, DIGITS - 1)
        and _whole(prompt[1], 0, MAX_REPETITIONS - 1) for prompt in value
    )  # fmt: skip


def _marks(value: object) -> bool:
    return isinstance(value, list) and all(
        mark is None or isinstance(mark, list) and len(mark) == 2 and all(map(_seconds, mark)) and mark[0] <= mark[1]
        for mark in value
    )


def _metadata(value: object) -> bool:
    return isinstance(value, dict) and is_alias(value.get("alias")) and is_text(value.get("gender")) and all(
        is_text(key) and (is_text(answer) or _whole(answer, -9999, 9999)) for key, answer in value.items()
    )  # fmt: skip


_TAKE = "the number of a take", lambda value: _whole(value, 1)
_PROMPTS = f"pairs of a digit and a repetition below {MAX_REPETITIONS}", _prompts
# what the events must say: {event: {field: (what is expected, whether a value is that)}}
FIELDS: dict[str, dict[str, tuple[str, Callable[[object], bool]]]] = {
    "session": {
        "repetitions": (f"1 to {MAX_REPETITIONS}", lambda value: _whole(value, 1, MAX_REPETITIONS)),
        "seed": ("a whole number", lambda value: type(value) is int),
    },
    "speaker": {"metadata": ("an alias of a-z, 0-9 and hyphens, a gender, and short answers", _metadata)},
    "take": {
        "take": _TAKE,
        "file": (f"{TAKES}/<number>.wav", lambda value: isinstance(value, str) and bool(_TAKE_FILE.fullmatch(value))),
        "series": _PROMPTS,
        "onsets": ("seconds", lambda value: isinstance(value, list) and all(map(_seconds, value))),
    },
    "reject": {"take": ("the number of a take, or null", lambda value: value is None or _whole(value, 1)),
               "prompts": _PROMPTS},
    "lost": {"take": _TAKE, "prompts": _PROMPTS},
    "cuts": {"take": _TAKE, "by": ("text", is_text), "marks": ("null, or two times in seconds", _marks)},
    "corpus": {"path": ("text", lambda value: isinstance(value, str))},
}  # fmt: skip
_TAKE_FILE = re.compile(rf"{TAKES}/[0-9]{{1,9}}\.wav")


def check_events(path: Path, events: Iterable[tuple[int, Mapping]]) -> None:
    """Check what (line number, event) of the log `path` say, as far as it is used. Raises SessionError."""
    lengths: dict[int, int] = {}  # prompts of each take
    folder = path.parent.resolve()

    def refuse(number: int, expected: str, got: str) -> None:
        raise SessionError(f"{path} line {number}", expected, got)

    for number, event in events:
        kind = event["event"]
        for name, (expected, is_that) in FIELDS.get(kind, {}).items():
            if name not in event:
                refuse(number, expected, f"{kind} without {name}")
            if not is_that(event[name]):
                refuse(number, expected, f"{kind} with {name} {event[name]!r:.60}")
        if kind == "take":
            count = len(event["series"])
            if not count or count != len(event["onsets"]):
                refuse(number, "an onset for each digit", f"take of {count} digits with {len(event['onsets'])}")
            if event["take"] in lengths:
                refuse(number, "a number of its own", f"a second take {event['take']}")
            lengths[event["take"]] = count
            if not Path(os.path.realpath(folder / event["file"])).is_relative_to(folder):
                refuse(number, "a file in the session's folder", f"{event['file']}, a link to elsewhere")
        elif kind == "cuts" and len(event["marks"]) != lengths.get(event["take"]):
            refuse(number, "a mark for each digit of a take", f"{len(event['marks'])} for take {event['take']}")


@dataclass(frozen=True)
class Take:
    """One recorded series: its file, what was to be said, and when each digit was shown (s from the take's start)."""

    number: int
    path: Path | None  # None in a dry run
    series: tuple[Prompt, ...]
    onsets: tuple[float, ...]


class Session:
    """The state of one session: what its log says. `folder` None is a dry run, of which nothing reaches the disk."""

    def __init__(self, folder: Path | None, events: Iterable[Mapping] = ()):
        self.folder = folder
        self.events = list(events)
        self._lock = None

    # ---- making and finding

    @classmethod
    def create(cls, recordings: Path | None, repetitions: int, seed: int) -> Session:
        """A new session, named after the time. `recordings` None makes a dry run. Raises WriteError."""
        now = datetime.now()
        folder = None
        if recordings is not None:
            parent = Path(recordings) / SESSIONS
            make_folder(parent)
            folder = _new_folder(parent, now)
            make_folder(folder / TAKES)
        session = cls(folder)
        session.acquire()
        session.add(
            "session", repetitions=repetitions, seed=seed, sample_rate=SAMPLE_RATE, date=now.strftime(DATE_FORMAT)
        )
        return session

    @classmethod
    def load(cls, folder: Path) -> Session:
        """The session of a folder. A torn last line (the power went while it was written) counts for nothing.

        Raises SessionError when there is no usable log.
        """
        path = Path(folder) / LOG
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            got = getattr(error, "strerror", None) or "bytes that are no UTF-8 text"
            raise SessionError(path, "the log of a session", got) from None
        events = []
        for number, line in enumerate(lines, 1):
            try:
                event = whole_text(json.loads(line), line) if line.strip() else None
            except json.JSONDecodeError:
                # a line is torn where the power went: at the end, or where an earlier run went on after one
                continue
            except (ValueError, RecursionError):  # numbers of thousands of digits, thousands of lists in lists
                event = ""
            if event is not None:
                if not isinstance(event, dict) or not isinstance(event.get("event"), str):
                    raise SessionError(f"{path} line {number}", "an event", f"{line!r:.60}")
                events.append((number, event))
        if not events or events[0][1]["event"] != "session" or not is_text(events[0][1].get("date")):
            raise SessionError(path, "a log that begins with a session and its date", "another beginning")
        check_events(path, events)
        return cls(Path(folder), [event for _, event in events])

    def acquire(self) -> None:
        """Keep other processes from changing the session until this one ends. Raises SessionError."""
        if self.folder is None or fcntl is None or self._lock is not None:
            return
        self._lock = open(self.folder / LOCK, "a")  # noqa: SIM115 (held as long as the process lives)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.release()
            raise SessionError(self.folder, "a session that no other process uses", "one that is in use") from None

    def release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # ---- the log

    def add(self, event: str, **fields: object) -> None:
        """Append an event; when this returns, it is on the disk. Raises WriteError, and then nothing was added."""
        entry = {"event": event, "time": datetime.now().isoformat(timespec="milliseconds"), **fields}
        if self.folder is not None:
            path = self.folder / LOG
            line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
            size = None
            try:
                with open(path, "ab+") as file:
                    size = file.seek(0, os.SEEK_END)
                    if size:
                        file.seek(-1, os.SEEK_END)
                        if file.read(1) != b"\n":
                            line = b"\n" + line  # a torn line ends here
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                if size is not None:
                    with contextlib.suppress(OSError):
                        os.truncate(path, size)
                raise write_error(path, error) from None
        self.events.append(entry)

    def _of(self, event: str) -> list[Mapping]:
        return [entry for entry in self.events if entry["event"] == event]

    def _last(self, event: str) -> Mapping | None:
        found = self._of(event)
        return found[-1] if found else None

    # ---- what the log says

    @property
    def name(self) -> str:
        return "dry run" if self.folder is None else self.folder.name

    @property
    def repetitions(self) -> int:
        return self._last("session")["repetitions"]

    @property
    def seed(self) -> int:
        return self._last("session")["seed"]

    @property
    def date(self) -> str:
        """When it began, as AudioMNIST writes dates."""
        return self.events[0]["date"]

    @property
    def consent(self) -> Mapping | None:
        """The consent event (text, time), if it was given."""
        return self._last("consent")

    @property
    def open(self) -> bool:
        """Whether there is something left to do; not so where the speaker has declined."""
        return not self.finished and self.events[-1]["event"] != "declined"

    @property
    def speaker(self) -> dict | None:
        """The speaker's answers, if they were asked: AudioMNIST's metadata and the alias."""
        event = self._last("speaker")
        return None if event is None else dict(event["metadata"])

    @property
    def prompts(self) -> list[Prompt]:
        return shuffled_prompts(self.repetitions, self.seed)

    @property
    def takes(self) -> list[Take]:
        """The takes that count: written and not rejected."""
        rejected = {event.get("take") for event in self._of("reject")}
        return [self._take(event) for event in self._of("take") if event["take"] not in rejected]

    def _take(self, event: Mapping) -> Take:
        series = tuple((digit, repetition) for digit, repetition in event["series"])
        path = None if self.folder is None else self.folder / event["file"]
        return Take(event["take"], path, series, tuple(event["onsets"]))

    def lost(self, take: int) -> set[Prompt]:
        """What a take was to hold and does not, as cutting found out."""
        return {tuple(prompt) for event in self._of("lost") if event["take"] == take for prompt in event["prompts"]}

    @property
    def missing(self) -> list[Prompt]:
        """What is still to be said, in the order in which it will be."""
        taken = {prompt for take in self.takes for prompt in set(take.series) - self.lost(take.number)}
        rejected = []
        for event in self.events:
            if event["event"] in ("reject", "lost"):
                rejected += [tuple(prompt) for prompt in event["prompts"]]
        return missing_prompts(self.prompts, taken, rejected)

    @property
    def series_left(self) -> int:
        return series_count(len(self.missing))

    @property
    def progress(self) -> float:
        """The share of prompts that are taken, 0 to 1."""
        return 1 - len(self.missing) / len(self.prompts)

    @property
    def finished(self) -> bool:
        """Whether all is said and the speaker's questions are answered."""
        return not self.missing and self.speaker is not None

    # ---- what happens

    def extend(self, repetitions: int) -> None:
        """Ask for more repetitions of each digit than so far. Raises SessionError when it would be fewer."""
        if repetitions < self.repetitions:
            raise SessionError(self.name, f"at least the {self.repetitions} repetitions planned", repetitions)
        if repetitions > self.repetitions:
            self.add("session", repetitions=repetitions, seed=self.seed)

    def add_take(self, samples: np.ndarray, series: Sequence[Prompt], onsets: Sequence[float], **facts: object) -> Take:
        """Write a take, int16 (N,) at 48 kHz, then its event; `facts` go into the log. Raises WriteError."""
        numbers = [event["take"] for event in self._of("take")]
        if self.folder is not None:  # a file without an event belongs to a take that a crash cost: leave it
            numbers += [int(p.stem) for p in (self.folder / TAKES).glob("*.wav") if p.stem.isdigit()]
        number = max(numbers, default=0) + 1
        file = f"{TAKES}/{number:04d}.wav"
        if self.folder is not None:
            write_file(self.folder / file, wav_bytes(samples, SAMPLE_RATE))
        try:
            self.add(
                "take", take=number, file=file, series=[list(p) for p in series],
                onsets=[round(float(t), 4) for t in onsets], **facts,
            )  # fmt: skip
        except WriteError:
            if self.folder is not None:
                (self.folder / file).unlink(missing_ok=True)
            raise
        return self._take(self.events[-1])

    def reject(self, series: Sequence[Prompt], take: int | None, reason: str) -> None:
        """Put a series back to the end of the order; `take` is its take's number where it was written already."""
        self.add("reject", take=take, prompts=[list(p) for p in series], reason=reason)

    def lose(self, take: int, prompts: Iterable[Prompt], reason: str) -> None:
        """Say that a take does not hold these prompts, so that they are asked again."""
        new = [list(p) for p in prompts if p not in self.lost(take)]
        if new:
            self.add("lost", take=take, prompts=new, reason=reason)


def _new_folder(parent: Path, now: datetime) -> Path:
    for count in range(100):
        folder = parent / (now.strftime("%Y%m%d-%H%M%S") + (f"-{count}" if count else ""))
        try:
            folder.mkdir(0o700)  # voices and answers, which are not for everybody on a machine
        except FileExistsError:
            continue
        except OSError as error:
            raise write_error(folder, error) from None
        return folder
    raise WriteError(parent, "a clock that runs", "a hundred sessions of this second")


def all_sessions(recordings: Path) -> list[Session]:
    """Every session of a recordings folder, oldest first. Raises SessionError when one cannot be read.

    A log without a whole line is of a process that died while it made the session: there is none.
    """
    logs = sorted((Path(recordings) / SESSIONS).glob(f"*/{LOG}"))
    return [Session.load(log.parent) for log in logs if not _is_torn(log)]


def _is_torn(log: Path) -> bool:
    try:
        return b"\n" not in log.read_bytes()
    except OSError:
        return False  # loading it says why


def find_session(recordings: Path, name: str | None, unfinished: bool) -> Session:
    """The session of that name or of the speaker with that alias; without a name the newest (unfinished) one.

    Raises SessionError, which names those that are there.
    """
    sessions = all_sessions(recordings)
    if name is None:
        found = [s for s in sessions if s.open or not unfinished]
        expected = "an unfinished session" if unfinished else "a session"
    else:
        found = [s for s in sessions if name == s.name or (s.speaker and s.speaker["alias"] == name)]
        expected = f"session or speaker {name!r}"
    if not found:
        names = ", ".join(s.name + (f" ({s.speaker['alias']})" if s.speaker else "") for s in sessions) or "none"
        raise SessionError(Path(recordings) / SESSIONS, expected, names)
    return found[-1]
