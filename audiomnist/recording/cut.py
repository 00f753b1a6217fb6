"""Cut the takes of a session into recordings of single digits, and put the speaker into a corpus.

    python recording_scripts/cut.py recordings/sessions/20260101-120000 --auto
    python recording_scripts/cut.py recordings/sessions/20260101-120000 --review

The takes are never changed. See recording_scripts/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from audiomnist.arguments import command_parser
from audiomnist.corpus.metadata import META_NAME, gender_of, read_metadata
from audiomnist.door import door
from audiomnist.progress_bar import add_quiet, progress_bar
from audiomnist.recording.plan import Prompt
from audiomnist.recording.review import Mark, review_take
from audiomnist.recording.session import CORPUS, SAMPLE_RATE, Session, SessionError, Take
from audiomnist.recording.sound import SoundError, play
from audiomnist.recording.utterances import Utterance, cut_marks, find_utterances
from audiomnist.signal.inputs import network_inputs
from audiomnist.signal.wav import RecordingError, read_wav, wav_bytes
from caffe_proto.atomic import make_folder, write_file


@dataclass(frozen=True)
class Cut:
    """What becomes of one prompt of a take: where it is cut (s), how sure that is, and what is doubtful."""

    take: int
    prompt: Prompt
    mark: Mark | None
    confidence: float
    doubts: tuple[str, ...]
    sure: bool  # to be written

    def __str__(self) -> str:
        digit, repetition = self.prompt
        place = "not found" if self.mark is None else f"{self.mark[0]:.2f} to {self.mark[1]:.2f} s"
        return (
            f"take {self.take}, digit {digit}, repetition {repetition}: {place}, confidence {self.confidence:.2f}"
            f" ({'; '.join(self.doubts) or 'sure'})"
        )


def read_take(take: Take) -> np.ndarray:
    """The samples of a take, int16 (N,). Raises SessionError."""
    try:
        samples, rate = read_wav(take.path)
    except (RecordingError, OSError) as error:
        raise SessionError(take.path, "a whole take", getattr(error, "got", error)) from None
    if rate != SAMPLE_RATE:
        raise SessionError(take.path, f"{SAMPLE_RATE} Hz", rate)
    return samples.astype(np.int16)


def segment(samples: np.ndarray, mark: Mark) -> np.ndarray:
    return samples[round(mark[0] * SAMPLE_RATE) : round(mark[1] * SAMPLE_RATE)]


def find_cuts(take: Take, samples: np.ndarray) -> list[Cut]:
    """A cut for every prompt of a take, found or not."""
    utterances: Sequence[Utterance] = find_utterances(samples, SAMPLE_RATE, [d for d, _ in take.series], take.onsets)
    marks = cut_marks(utterances, len(samples) / SAMPLE_RATE)
    cuts = []
    for prompt, utterance, mark in zip(take.series, utterances, marks, strict=True):
        cut = Cut(take.number, prompt, mark, utterance.confidence, utterance.doubts, utterance.sure)
        cuts.append(checked(cut, samples))
    return cuts


def checked(cut: Cut, samples: np.ndarray) -> Cut:
    """The cut, doubtful where the preprocessing would reject its recording."""
    if cut.mark is None:
        return cut
    try:
        network_inputs(wav_bytes(segment(samples, cut.mark), SAMPLE_RATE), "take.wav")
    except RecordingError as error:
        return replace(cut, confidence=0.0, doubts=(*cut.doubts, str(error)), sure=False)
    return cut


def reviewed_cuts(session: Session, take: Take) -> list[Cut] | None:
    """The cuts that a person has confirmed for a take, if there are any."""
    events = [e for e in session.events if e["event"] == "cuts" and e["take"] == take.number and e["by"] == "review"]
    if not events:
        return None
    marks = [None if mark is None else (mark[0], mark[1]) for mark in events[-1]["marks"]]
    return [
        Cut(take.number, prompt, mark, float(mark is not None), () if mark else ("discarded in review",), bool(mark))
        for prompt, mark in zip(take.series, marks, strict=True)
    ]


def log_cuts(session: Session, take: Take, cuts: Sequence[Cut], by: str) -> None:
    """Write a take's cuts into the session's log, unless they are there."""
    marks = [None if c.mark is None else [round(c.mark[0], 4), round(c.mark[1], 4)] for c in cuts]
    confidence = [round(float(c.confidence), 2) for c in cuts]
    last = [e for e in session.events if e["event"] == "cuts" and e["take"] == take.number][-1:]
    if not last or (last[0]["marks"], last[0]["by"]) != (marks, by):
        session.add("cuts", take=take.number, by=by, marks=marks, confidence=confidence)


def claim_speaker(session: Session, corpus: Path) -> dict:
    """Make the corpus hold the session's speaker and metadata; returns the answers.

    Raises SessionError when it already has a speaker of that alias from elsewhere.
    """
    speaker = session.speaker
    if speaker is None:
        raise SessionError(session.folder, "the speaker's metadata (record.py --continue asks for it)", "none")
    alias = speaker["alias"]
    meta_path = corpus / META_NAME
    entry = {key: value for key, value in speaker.items() if key != "alias"}
    where = str(corpus.resolve())
    with alone(corpus):
        meta = read_metadata(meta_path) if meta_path.exists() else {}
        if not any(e["event"] == "corpus" and e["path"] == where for e in session.events):
            if (corpus / alias).exists() or alias in meta:
                raise SessionError(corpus, "an alias of the speaker's own", f"{alias}, which another session has")
            session.add("corpus", path=where, speaker=alias)
        make_folder(corpus / alias)
        if meta.get(alias) != entry:
            text = json.dumps({**meta, alias: entry}, indent=4, ensure_ascii=False, sort_keys=True)
            write_file(meta_path, (text + "\n").encode())
    return speaker


@contextlib.contextmanager
def alone(corpus: Path) -> Iterator[None]:
    """Context manager: the corpus, made where missing, is this process's; waits for another one to let go of it.

    Two sessions that are cut at once would each write the metadata without the other's speaker. Raises WriteError.
    """
    make_folder(corpus)
    handle = os.open(corpus, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def cut_session(session: Session, corpus: Path, review: bool, ask_again: bool) -> int:
    """Cut every take of a session; returns how many prompts are left to be looked at. Raises SessionError, WriteError,
    CorpusError."""
    speaker = claim_speaker(session, corpus)
    alias = speaker["alias"]
    if gender_of(speaker) is None:
        print(f"{alias}: gender {speaker['gender']}; the preprocessing knows male and female only and will reject this "
              "speaker", file=sys.stderr)  # fmt: skip
    written, left = 0, []
    for take in progress_bar(session.takes, unit="take", desc=alias, shown=not review):
        samples = read_take(take)
        cuts = reviewed_cuts(session, take) or find_cuts(take, samples)
        lost = session.lost(take.number)
        open_cuts = [c for c in cuts if not c.sure and c.prompt not in lost]
        if review and (open_cuts or len(session.takes) == 1):
            title = f"{alias}, take {take.number} of {len(session.takes)}"
            outcome, marks = review_take(
                title, samples, SAMPLE_RATE, take.series, take.onsets, [c.mark for c in cuts],
                [() if c.sure else c.doubts for c in cuts], play_quietly,
            )  # fmt: skip
            if outcome == "quit":
                break
            if outcome == "save":
                cuts = [
                    checked(Cut(take.number, c.prompt, m, float(m is not None), (), m is not None), samples)
                    for c, m in zip(cuts, marks, strict=True)
                ]
                log_cuts(session, take, cuts, "review")
                discarded = [c.prompt for c in cuts if c.mark is None and c.prompt not in lost]
                session.lose(take.number, discarded, "discarded in review")
                for digit, repetition in discarded:  # an earlier run may have written it
                    (corpus / alias / f"{digit}_{alias}_{repetition}.wav").unlink(missing_ok=True)
        elif reviewed_cuts(session, take) is None:
            log_cuts(session, take, cuts, "auto")
        lost = session.lost(take.number)
        for cut in cuts:
            if cut.prompt in lost:
                continue
            path = corpus / alias / f"{cut.prompt[0]}_{alias}_{cut.prompt[1]}.wav"
            if not cut.sure:
                left.append((take, cut))
                continue
            content = wav_bytes(segment(samples, cut.mark), SAMPLE_RATE)
            if not path.exists() or path.read_bytes() != content:
                write_file(path, content)
            written += 1
    for take, cut in left:
        print(f"to review: {cut}")
        if ask_again:
            session.lose(take.number, [cut.prompt], "; ".join(cut.doubts))
    print(f"{corpus / alias}: {written} recordings, {len(left)} {'asked again' if ask_again else 'to review'}, "
          f"{len(session.missing)} still to be recorded")  # fmt: skip
    return len(left)


def play_quietly(samples: np.ndarray) -> None:
    """Play a segment; where there is no loudspeaker say so and go on."""
    try:
        play(samples)
    except SoundError as error:
        print(error, file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        "cut.py",
        "Cut a session's takes into recordings of a corpus.",
        "python recording_scripts/cut.py recordings/sessions/20260131-120000 --auto",
        "python recording_scripts/cut.py recordings/sessions/* --review --corpus recordings/corpus",
    )
    add = p.add_argument
    add("sessions", nargs="+", type=Path, metavar="SESSION", help="folder of a session")
    add("--corpus", type=Path, metavar="DIR", help="the corpus (default: corpus beside the folder of the sessions)")
    how = p.add_mutually_exclusive_group()
    how.add_argument("--auto", action="store_true", help="write what is sure and list the rest (default)")
    how.add_argument("--review", action="store_true", help="show the takes that hold something doubtful")
    add("--ask-again", action="store_true", help="what is not sure is to be recorded again (record.py --continue)")
    add_quiet(p)
    return p


@door("cut.py", "the same command goes on")
def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    left = 0
    for folder in options.sessions:
        session = Session.load(folder)
        session.acquire()
        corpus = options.corpus or folder.resolve().parents[1] / CORPUS
        left += cut_session(session, corpus, options.review, options.ask_again)
        session.release()
    return 1 if left and not options.ask_again else 0
