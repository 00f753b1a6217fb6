"""The course of a session: what is shown when, what each key does, and when a take is written.

Nothing here draws, sleeps or touches the sound card: a window or terminal calls `Prompter.send` with each key, and with
None a few dozen times a second, and draws the `View` that comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np

from audiomnist.recording.plan import Prompt, example_series, next_series, series_count
from audiomnist.recording.questions import CONSENT, AnswerError, questions
from audiomnist.recording.session import Session, Take
from audiomnist.recording.sound import Capture, SoundError, SoundSource
from audiomnist.signal.clipping import clipped_runs
from audiomnist.signal.wav import FULL_SCALE
from caffe_proto.atomic import WriteError

ENTER, ESCAPE, BACKSPACE, PAUSE, PREVIOUS, PLAY = "enter", "escape", "backspace", " ", "x", "p"
REJECT = ENTER

LEAD = 0.5  # s of a take before its first digit
TAIL = 0.8  # s of a take after its last digit's second
SILENT = -60.0  # dB of full scale; a take whose loudest sample is below it holds no voice
LOUD, QUIET = -3.0, -30.0  # dB of full scale between which the loudest sample should lie
LEVEL_FALL = 12.0  # dB per s by which the level meter falls
IDEAL = f"the loudest digits should reach {QUIET:.0f} to {LOUD:.0f} dB"


@dataclass(frozen=True)
class Timing:
    """Seconds for each digit and between two series, as the authors' recorder has them."""

    digit: float = 1.0
    pause: float = 1.0


@dataclass(frozen=True)
class View:
    """What the speaker sees. None is what is not shown."""

    stage: str  # consent, level, test, series, pause, paused, trouble, question, end
    heading: str = ""
    text: str = ""
    keys: str = ""  # what can be pressed
    digits: tuple[int, ...] = ()
    active: int | None = None  # index into digits: say this one now
    progress: float | None = None  # of the session, 0 to 1
    progress_text: str = ""
    pause: float | None = None  # of the pause, 0 to 1
    level: float | None = None  # dB of full scale
    entry: str | None = None  # what was typed so far
    notice: str = ""  # something that went wrong


@dataclass(frozen=True)
class Loudness:
    """The loudest sample of a capture in dB of full scale, and how many samples are clipped."""

    peak: float
    clipped: int

    @property
    def advice(self) -> str:
        if self.clipped:
            return f"too loud: {self.clipped} samples are clipped; turn the microphone down or go back from it"
        if self.peak < SILENT:
            return "nothing was heard: is the microphone muted, or is it another one?"
        if self.peak > LOUD:
            return f"rather loud ({self.peak:.0f} dB); {IDEAL}"
        if self.peak < QUIET:
            return f"rather quiet ({self.peak:.0f} dB); {IDEAL}"
        return ""


def loudness(samples: np.ndarray) -> Loudness:
    """The loudness of int16 samples (N,)."""
    peak = int(np.abs(samples.astype(np.int32)).max(initial=0))
    starts, stops = clipped_runs(samples)
    return Loudness(20 * np.log10(peak / FULL_SCALE) if peak else -np.inf, int((stops - starts).sum()))


class _Stop(Exception):
    """The speaker stops the session."""


Flow = Generator[View, "str | None", object]


class Prompter:
    """One session from consent to thanks. `outcome` is None until it ends, then done, stopped or declined."""

    def __init__(
        self,
        session: Session,
        sound: SoundSource,
        taken: Callable[[], set[str]] = set,
        timing: Timing = Timing(),  # noqa: B008 (immutable)
        rehearse: bool = True,
        on_prompt: Callable[[Prompt], None] = lambda prompt: None,
    ):
        """`taken` gives the aliases in use; `rehearse` asks for level check and test take; `on_prompt` is called when
        a digit turns green."""
        self.session, self.sound, self.taken, self.timing = session, sound, taken, timing
        self.rehearse, self.on_prompt = rehearse, on_prompt
        self.outcome: str | None = None
        self.hold = False  # pause after this series
        self.notice = ""
        self.last: tuple[Take, np.ndarray] | None = None  # the take that can still be rejected or played
        self._flow = self._course()
        self.view = next(self._flow)

    def send(self, key: str | None = None) -> View:
        """A key (a name from above or the character), or None when only time has passed; returns what to show."""
        if self.outcome is None:
            try:
                self.view = self._flow.send(key)
            except StopIteration as end:
                self.outcome = end.value
        return self.view

    # ---- the course

    def _course(self) -> Flow:
        try:
            if self.session.consent is None and not (yield from self._consent()):
                return "declined"
            if self.rehearse and self.session.missing:
                yield from self._level_check()
                yield from self._test_take()
            yield from self._all_series()
            if self.session.speaker is None:
                yield from self._questions()
            text = "Nothing was kept: this was a dry run." if self.session.folder is None else "Everything is kept."
            while (yield View("end", "Done. Thank you!", text, "ENTER ends", progress=1.0)) not in (ENTER, ESCAPE):
                pass
            return "done"
        except _Stop:
            return "stopped"

    def _show(self, view: View) -> Flow:
        """Show a view, return the key. ESCAPE stops the session everywhere."""
        key = yield view
        if key == ESCAPE:
            raise _Stop
        return key

    def _consent(self) -> Flow:
        while True:
            key = yield from self._show(View("consent", "Before we begin", CONSENT, "Y I agree     N I do not"))
            if key in ("y", "Y"):
                yield from self._write(lambda: self.session.add("consent", text=CONSENT, given=True))
                return True
            if key in ("n", "N"):
                yield from self._write(lambda: self.session.add("declined"))
                return False

    def _level_check(self) -> Flow:
        held = SILENT * 2
        self._listen()
        while True:
            try:
                held = max(self.sound.level(), held - LEVEL_FALL / 30)
                text = f"Microphone: {self.sound.name}\nSay a few digits as you will say them: {IDEAL}."
                advice = "too loud" if held > LOUD else ""
                key = yield from self._show(
                    View("level", "Level", text, "ENTER goes on     ESC stops", level=held, notice=advice)
                )
            except SoundError as error:
                yield from self._trouble(str(error))
                self._listen()
                continue
            if key == ENTER:
                self._listen(False)
                return

    def _listen(self, on: bool = True) -> None:
        """The microphone must run for its level; what it hears is thrown away."""
        if on:
            self.sound.begin()
        else:
            self.sound.end()

    def _test_take(self) -> Flow:
        """Ten digits that are not kept; they can be heard and repeated."""
        for number in range(1_000_000):
            series = example_series(self.session.seed + number)
            wait = View("test", "Test run", "Say each digit when it turns green. This series is not kept.",
                        "ENTER begins     ESC stops", digits=_digits(series))  # fmt: skip
            while (yield from self._show(wait)) != ENTER:
                pass
            capture = yield from self._record(series, "test")
            if capture is None:
                continue
            loud = loudness(capture.samples)
            text = loud.advice or f"That was good: the loudest sample reached {loud.peak:.0f} dB."
            keys = "P plays it     T tests again     ENTER begins the session     ESC stops"
            while (key := (yield from self._show(View("test", "Test run", text, keys, notice=loud.advice)))) != ENTER:
                if key == PLAY:
                    yield from self._play(capture.samples)
                elif key in ("t", "T"):
                    break
            if key == ENTER:
                self.notice = ""
                return

    def _all_series(self) -> Flow:
        while True:
            series = next_series(self.session.missing)
            if not series and self.last is None:
                return
            went_on = yield from self._pause(series)
            if not went_on:
                continue
            if not series:
                return
            capture = yield from self._record(series, "series")
            if capture is not None:
                yield from self._keep(series, capture)

    def _pause(self, series: Sequence[Prompt]) -> Flow:
        """The pause before a series, or after the last one; False when a rejection has changed what comes next."""
        begun = self.sound.time()
        while True:
            passed = (self.sound.time() - begun) / self.timing.pause if self.timing.pause > 0 else 1.0
            if self.hold:
                begun, passed = self.sound.time(), 0.0
            elif passed >= 1:
                self.notice = ""
                return True
            view = self._view(
                "paused" if self.hold else "pause",
                "Pause" if self.hold else "Get ready" if series else "That was the last one",
                series,
                pause=passed,
                notice=self.notice,
            )
            key = yield from self._show(view)
            if key == PAUSE:
                self.hold = not self.hold
            elif key == PLAY and self.last is not None:
                yield from self._play(self.last[1])
                begun = self.sound.time()
            elif key in (REJECT, PREVIOUS) and self.last is not None:
                yield from self._reject_last()
                return False

    def _record(self, series: Sequence[Prompt], stage: str) -> Flow:
        """Show a series while recording it; None when it is to be shown again."""
        onsets: list[float] = []
        end = LEAD + len(series) * self.timing.digit + TAIL
        try:
            self.sound.begin()
            while (now := self.sound.seconds()) < end:
                due = int((now - LEAD) // self.timing.digit) if now >= LEAD else -1
                if due >= len(onsets) and due < len(series):
                    if due > len(onsets):
                        self.sound.end()
                        yield from self._write(lambda: self._reject(stage, series, "a digit was not shown in time"))
                        self.notice = "the computer was too slow to show a digit: the series is repeated"
                        return None
                    onsets.append(now)
                    self.on_prompt(series[due])
                active = len(onsets) - 1 if onsets and due < len(series) else None
                view = self._view(stage, "Test run" if stage == "test" else "", series, active=active)
                key = yield from self._show(view)
                if key == REJECT:
                    self.sound.end()
                    yield from self._write(lambda: self._reject(stage, series, "key"))
                    self.last, self.notice = None, "the series was rejected"
                    return None
                if key == PAUSE:
                    self.hold = not self.hold
                elif key == PREVIOUS and self.last is not None and stage == "series":
                    yield from self._reject_last()
            capture = self.sound.end()
        except SoundError as error:
            problem = str(error)
            yield from self._write(lambda: self._reject(stage, series, problem))
            yield from self._trouble(f"{problem}. The series is repeated.")
            return None
        if capture.gaps:
            yield from self._write(lambda: self._reject(stage, series, "samples were lost"))
            self.notice = "the computer was too slow and lost samples: the series is repeated"
            return None
        return Capture(capture.samples, capture.gaps, tuple(onsets))

    def _reject(self, stage: str, series: Sequence[Prompt], reason: str) -> None:
        if stage == "series":
            self.session.reject(series, None, reason)

    def _keep(self, series: Sequence[Prompt], capture: Capture) -> Flow:
        """Write a take; it is on the disk when this ends."""
        loud = loudness(capture.samples)
        if loud.peak < SILENT and not self.sound.dry:
            yield from self._write(lambda: self.session.reject(series, None, "silent"))
            self.last, self.hold, self.notice = None, True, f"{loud.advice} The series is repeated."
            return
        facts = {"device": self.sound.name, "peak_db": round(float(loud.peak), 1), "clipped": loud.clipped}
        if self.sound.dry:
            facts = {"device": self.sound.name}
        take = yield from self._write(lambda: self.session.add_take(capture.samples, series, capture.onsets, **facts))
        self.last = (take, capture.samples)
        self.notice = "" if self.sound.dry else loud.advice

    def _reject_last(self) -> Flow:
        take, _ = self.last
        yield from self._write(lambda: self.session.reject(take.series, take.number, "key"))
        self.last, self.notice = None, f"take {take.number} was rejected"

    def _play(self, samples: np.ndarray) -> Flow:
        """Play back until it ends or a key is pressed."""
        try:
            self.sound.play(samples)
            while self.sound.playing:
                view = View("playing", "Listen", "", "any key ends it", notice=self.notice)
                if (yield from self._show(view)) is not None:
                    break
            self.sound.stop_playing()
        except SoundError as error:
            self.notice = str(error)

    def _write(self, write: Callable[[], object]) -> Flow:
        """Call what writes to the disk again until it succeeds; returns its result. The speaker may stop instead."""
        while True:
            try:
                return write()
            except WriteError as error:
                yield from self._wait_for_help(f"{error}.")

    def _trouble(self, message: str) -> Flow:
        """Tell what is wrong with the microphone until it can be opened again."""
        while True:
            yield from self._wait_for_help(message)
            try:
                self.sound.reopen()
            except SoundError as error:
                message = str(error)
                continue
            self.hold = True
            return

    def _wait_for_help(self, message: str) -> Flow:
        view = View("trouble", "Something is wrong", "What was recorded before is kept.",
                    "ENTER tries again     ESC stops (the session can be continued)", notice=message)  # fmt: skip
        while (yield from self._show(view)) != ENTER:
            pass

    def _questions(self) -> Flow:
        while True:
            answers: dict[str, object] = {}
            asked = questions(self.taken())
            for number, question in enumerate(asked, 1):
                heading = f"About you, {number} of {len(asked)}"
                answers[question.key] = yield from self._ask(heading, question.text, question.understand)
            text = "\n".join(f"{question.key}: {answers[question.key]}" for question in asked)
            keys = "ENTER this is right     BACKSPACE once more     ESC stops"
            while (key := (yield from self._show(View("check", "Is this right?", text, keys)))) not in (
                ENTER,
                BACKSPACE,
            ):
                pass
            if key == ENTER:
                metadata = {**answers, "recordingdate": self.session.date}
                yield from self._write(lambda: self.session.add("speaker", metadata=metadata))  # noqa: B023
                return

    def _ask(self, heading: str, text: str, understand: Callable[[str], object]) -> Flow:
        entry, notice = "", ""
        while True:
            key = yield from self._show(
                View("question", heading, text, "ENTER goes on     ESC stops", entry=entry, notice=notice)
            )
            if key is None:
                continue
            if key == ENTER:
                try:
                    return understand(entry)
                except AnswerError as error:
                    notice = str(error)
            elif key == BACKSPACE:
                entry = entry[:-1]
            elif len(key) == 1 and key.isprintable():
                entry += key

    def _view(self, stage: str, heading: str, series: Sequence[Prompt], **more: object) -> View:
        left, total = len(self.session.missing), len(self.session.prompts)
        done = f"{total - left} of {total} digits, {series_count(left)} series to go"
        keys = "SPACE pauses after the series     ENTER rejects the series     X rejects the one before"
        if stage in ("pause", "paused"):
            keys = f"SPACE {'goes on' if self.hold else 'pauses'}     P plays the last series     X rejects it"
        if stage == "test":
            keys, done = "ENTER begins the series again", "test run"
        return View(
            stage, heading, "", keys + "     ESC stops", _digits(series),
            progress=self.session.progress, progress_text=done + (", pause follows" if self.hold else ""), **more,
        )  # fmt: skip


def _digits(series: Sequence[Prompt]) -> tuple[int, ...]:
    return tuple(digit for digit, _ in series)
