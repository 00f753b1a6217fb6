"""Record one speaker: consent, level, a test take, series of ten digits, then the speaker's metadata.

    python recording_scripts/record.py --device "RODE*"

See recording_scripts/README.md.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from pathlib import Path

from audiomnist.arguments import command_parser, number, real_number, whole_number
from audiomnist.door import door
from audiomnist.places import HOME
from audiomnist.recording.plan import DIGITS, MAX_REPETITIONS, Prompt, series_count
from audiomnist.recording.prompter import LEAD, TAIL, Prompter, Timing
from audiomnist.recording.questions import taken_aliases
from audiomnist.recording.session import CORPUS, SAMPLE_RATE, Session, SessionError, all_sessions, find_session
from audiomnist.recording.sound import Microphone, NoMicrophone, input_devices
from audiomnist.recording.terminal import run_terminal
from audiomnist.recording.window import WINDOWS, run_window
from caffe_proto.atomic import WriteError

REPETITIONS = 50
NEWEST = ""  # --continue without a name


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        "record.py",
        "Record one speaker of spoken digits.",
        "python recording_scripts/record.py --no-mic --repetitions 2",
        "python recording_scripts/record.py --device 'RODE*'",
        "python recording_scripts/record.py --continue --repetitions 60",
    )
    add = p.add_argument_group("the session").add_argument
    add("--recordings", type=Path, default=HOME / "recordings", metavar="DIR",
        help="where sessions and the corpus are (default: recordings/)")  # fmt: skip
    add("--corpus", type=Path, metavar="DIR", help="the corpus the speaker is for (default: corpus in the recordings)")
    add("--continue", dest="goes_on", nargs="?", const=NEWEST, metavar="NAME",
        help="continue the newest unfinished session, or the one of this name or alias")  # fmt: skip
    add("--new", action="store_true", help="begin a new session although another is unfinished")
    repetitions = whole_number(1, MAX_REPETITIONS)
    add("--repetitions", type=repetitions, metavar="N", help=f"of each digit (default: {REPETITIONS})")
    add("--seed", type=number, metavar="N", help="of the order of the digits (default: drawn, and kept in the log)")
    seconds = real_number(0.2, 60)
    add("--seconds", type=seconds, default=1.0, metavar="S", help="that a digit is shown (default: %(default)s)")
    add("--pause", type=seconds, default=1.0, metavar="S", help="between two series (default: %(default)s)")
    add = p.add_argument_group("the microphone").add_argument
    add("--device", metavar="NAME", help='the microphone, by index or pattern such as "RODE*" (default: the system\'s)')
    add("--list-devices", action="store_true", help="list the microphones and end")
    add("--no-mic", action="store_true", help="dry run: no microphone, and nothing is kept")
    add("--no-test", action="store_true", help="without level check and test take")
    screen = p.add_argument_group("the screen")
    where = screen.add_mutually_exclusive_group()
    where.add_argument("--terminal", action="store_true", help="in the terminal instead of a window")
    where.add_argument("--window", choices=WINDOWS, help="what the window is made with (default: Tk if there is one)")
    add = screen.add_argument
    add("--full-screen", action="store_true", help="let the window fill the screen")
    add("--markers", type=Path, metavar="FILE",
        help="append a line (seconds, digit, repetition) to this file or pipe when a digit is shown")  # fmt: skip
    return p


def open_session(options: argparse.Namespace) -> Session:
    """The session that the options mean, new or continued. Raises SessionError, WriteError."""
    if options.no_mic:
        return Session.create(None, options.repetitions or REPETITIONS, _seed(options))
    if options.goes_on is not None:
        name = None if options.goes_on == NEWEST else options.goes_on
        session = find_session(options.recordings, name, unfinished=name is None)
        session.acquire()
        if options.repetitions:
            session.extend(options.repetitions)
        return session
    unfinished = [s for s in all_sessions(options.recordings) if s.open]
    if unfinished and not options.new:
        last = unfinished[-1]
        asked = "" if last.speaker else ", metadata not asked"
        raise SessionError(
            last.folder,
            "a finished session, or --continue, or --new for another speaker",
            f"an unfinished one ({len(last.missing)} digits missing{asked})",
        )
    return Session.create(options.recordings, options.repetitions or REPETITIONS, _seed(options))


def _seed(options: argparse.Namespace) -> int:
    return random.SystemRandom().randrange(1 << 31) if options.seed is None else options.seed


def check_space(session: Session, timing: Timing) -> None:
    """Fail before the disk is full, where that can be foreseen. Raises WriteError."""
    if session.folder is None:
        return
    needed = series_count(len(session.missing)) * (LEAD + DIGITS * timing.digit + TAIL) * SAMPLE_RATE * 2
    free = shutil.disk_usage(session.folder).free
    if needed > free:
        raise WriteError(session.folder, f"{needed / 1e6:.0f} MB free on the disk", f"{free / 1e6:.0f} MB")


class Markers:
    """A line to a file or pipe whenever a digit is shown, for other equipment (or a robot that speaks)."""

    def __init__(self, path: Path | None):
        try:
            self.file = None if path is None else open(path, "a", buffering=1)  # noqa: SIM115 (closed with the process)
        except OSError as error:
            raise WriteError(path, "a file or pipe that can be written", error.strerror) from None

    def __call__(self, prompt: Prompt) -> None:
        if self.file is not None:
            try:
                self.file.write(f"{time.monotonic():.4f}\t{prompt[0]}\t{prompt[1]}\n")
            except OSError as error:
                print(f"{self.file.name}: {error.strerror}; no more markers are written", file=sys.stderr)
                self.file = None


def record(options: argparse.Namespace) -> int:
    """Do what the options say; returns the exit code. Raises the errors that `main` explains."""
    if options.list_devices:
        for device in input_devices():
            print(device)
        return 0
    timing = Timing(options.seconds, options.pause)
    markers = Markers(options.markers)
    sound = NoMicrophone() if options.no_mic else Microphone(options.device)
    try:
        session = open_session(options)
        check_space(session, timing)
        corpus = options.corpus or options.recordings / CORPUS

        def taken() -> set[str]:
            others = [] if session.folder is None else all_sessions(options.recordings)
            return taken_aliases(corpus, [other.speaker for other in others])

        taken()  # metadata that cannot be read is better told now than after the session
        prompter = Prompter(session, sound, taken, timing, not (options.no_test or options.no_mic), markers)
        if options.terminal:
            run_terminal(prompter)
        else:
            run_window(prompter, options.window, options.full_screen)
    finally:
        sound.close()
    return report(session, prompter.outcome, options)


def report(session: Session, outcome: str, options: argparse.Namespace) -> int:
    """Say what there is now and what to do next; returns the exit code."""
    if session.folder is None:
        print("dry run: nothing was kept")
        return 0 if outcome == "done" else 1
    print(f"{session.folder}: {len(session.takes)} takes, {len(session.missing)} digits missing")
    if outcome == "declined":
        print("no consent: nothing was recorded")
        return 1
    if not session.finished:
        print(f"continue with --continue {session.name}")
        return 1
    print(f"cut it with: python recording_scripts/cut.py {session.folder} --auto")
    return 0


@door("record.py", "--continue goes on")
def main(arguments: list[str] | None = None) -> int:
    p = parser()
    options = p.parse_args(arguments)
    if options.new and options.goes_on is not None:
        p.error("expected --new or --continue, got both")
    return record(options)
