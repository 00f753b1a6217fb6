"""Check a corpus: all its errors (recordings that cannot be used) and warnings (worth knowing) in one go.

    audiomnist validate DIR [--json]

Exit code 0 when there is no error, else 1. Recordings pass through preprocessing itself: what it rejects is an error.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from audiomnist.arguments import command_parser, positive
from audiomnist.corpus.attributes import AGES, age_of, spellings
from audiomnist.corpus.corrections import (
    NONE,
    Corrections,
    add_corpus_options,
    chosen_corrections,
    correct_metadata,
    is_audiomnist,
    load_corrections,
)
from audiomnist.corpus.layout import DIGITS, GRAMMAR, CorpusError, Defect, Recording, in_short, scan
from audiomnist.corpus.metadata import GENDERS, META_NAME, check_metadata, gender_of, read_metadata
from audiomnist.corpus.splits import PARTS, Splits, check_splits, find_splits, load_splits
from audiomnist.door import door
from audiomnist.progress_bar import add_quiet, progress_bar
from audiomnist.signal.clipping import clipped_runs
from audiomnist.signal.inputs import network_inputs
from audiomnist.signal.wav import RecordingError, read_wav, wav_file
from audiomnist.workers import available_cores, spread
from caffe_proto import sentence

SHORTEST = 0.1  # seconds; a shorter recording hardly holds a whole digit
IMBALANCE = 0.15  # the share of women may differ this much between the parts of a split


@dataclass(frozen=True)
class Finding:
    """One error or warning. `known` marks the known faults of AudioMNIST."""

    level: str
    where: str
    expected: str
    got: str
    known: bool = False

    def __str__(self) -> str:
        known = " (known of AudioMNIST)" if self.known else ""
        return f"{self.level}: {sentence(self.where, self.expected, self.got)}{known}"


def error(defect: Defect, known: bool = False) -> Finding:
    return Finding("error", defect.where, defect.expected, defect.got, known)


def warning(where: str, expected: str, got: str, known: bool = False) -> Finding:
    return Finding("warning", where, expected, got, known)


# ---------------------------------------------------------------------------------------------------------------------
# sound


@dataclass(frozen=True)
class SoundFacts:
    """The facts about one recording, or why it cannot be used."""

    recording: Recording
    defect: tuple[str, str] | None = None  # expected, got
    rate: int = 0  # Hz
    seconds: float = 0.0
    channels: int = 0
    bits: int = 0
    clipped: int = 0  # samples in the longest run at the limit
    digest: str = ""  # of the samples


def listen(recording: Recording) -> SoundFacts:
    """Read one recording and try to preprocess it."""
    try:
        blob = wav_file(recording.path)
        samples, rate = read_wav(blob)
        network_inputs(blob, recording.name)
    except OSError as failure:
        return SoundFacts(recording, ("a readable file", failure.strerror or str(failure)))
    except RecordingError as failure:
        return SoundFacts(recording, (failure.expected, failure.got))
    place = blob.index(b"fmt ") + 8
    channels, bits = (int.from_bytes(blob[place + i : place + i + 2], "little") for i in (2, 14))
    starts, stops = clipped_runs(samples)
    clipped = int((stops - starts).max(initial=0))
    digest = hashlib.sha256(samples.tobytes()).hexdigest()
    return SoundFacts(recording, None, rate, len(samples) / rate, channels, bits, clipped, digest)


def check_sounds(sounds: Sequence[SoundFacts]) -> list[Finding]:
    """Errors of single recordings; warnings about clipping, length, formats and duplicates."""
    findings = [error(Defect(s.recording.relative, *s.defect)) for s in sounds if s.defect]
    usable = [s for s in sounds if not s.defect]
    formats = Counter((s.rate, s.bits, s.channels) for s in usable)
    usual = formats.most_common(1)[0][0] if formats else None
    by_digest: dict[str, list[SoundFacts]] = defaultdict(list)
    for sound in usable:
        where = sound.recording.relative
        by_digest[sound.digest].append(sound)
        if sound.clipped:
            findings.append(warning(where, "no clipping", f"{sound.clipped} samples in a row at the limit"))
        if sound.seconds < SHORTEST:
            findings.append(warning(where, f"{SHORTEST} s or more", f"{sound.seconds:.3f} s"))
        if (own := (sound.rate, sound.bits, sound.channels)) != usual:
            findings.append(warning(where, f"{_format(usual)}, as the others", _format(own)))
    for same in by_digest.values():
        for sound in same[1:]:
            got = f"the same sound as {same[0].recording.relative}"
            findings.append(warning(sound.recording.relative, "a recording of its own", got))
    return findings


def _format(kind: tuple[int, int, int]) -> str:
    return f"{kind[0]} Hz, {kind[1]} bits, {kind[2]} channel{'' if kind[2] == 1 else 's'}"


# ---------------------------------------------------------------------------------------------------------------------
# numbers, metadata, splits


def check_counts(recordings: Sequence[Recording], repetitions: int | None) -> list[Finding]:
    """A warning for every speaker who lacks digits or repetitions that the others (or `repetitions`) have."""
    by_speaker: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for r in recordings:
        by_speaker[r.speaker].add((r.digit, r.repetition))
    numbers = set(range(repetitions)) if repetitions else {n for pairs in by_speaker.values() for _, n in pairs}
    expected = {(int(d), n) for d in DIGITS for n in numbers}
    findings = []
    for speaker, pairs in sorted(by_speaker.items()):
        for others, what in ((expected - pairs, "missing"), (pairs - expected, "too many")):
            if others:
                some = ", ".join(f"{d}_{speaker}_{n}" for d, n in sorted(others)[:3])
                more = " ..." if len(others) > 3 else ""
                got = f"{len(others)} recordings {what} ({some}{more})"
                findings.append(warning(f"{speaker}/", f"{len(numbers)} repetitions of {len(DIGITS)} digits", got))
    return findings


def check_attributes(meta: Mapping[str, Mapping], present: set[str], where: str) -> list[Finding]:
    """Warnings about speakers without recordings, ages, and attributes that are spelt in several ways."""
    known = is_audiomnist(meta)
    findings = []
    for speaker in sorted(set(meta) - present):
        findings.append(warning(where, "recordings of every speaker", f"none of speaker {speaker}"))
    types = {type(entry["age"]).__name__ for entry in meta.values() if entry.get("age") is not None}
    if len(types) > 1:
        findings.append(warning(where, "ages of one type", ", ".join(sorted(types)), known))
    for speaker, entry in sorted(meta.items()):
        age = entry.get("age")
        if age is not None and age_of(entry) is None:
            expected = f"an age from {AGES.start} to {AGES.stop - 1} years for speaker {speaker}"
            findings.append(warning(where, expected, repr(age), known and str(age) == "1234"))
    for key in ("recordingroom", "accent"):
        values = sorted({str(entry[key]) for entry in meta.values() if entry.get(key)})
        for group in spellings(values):
            findings.append(warning(where, f"one spelling of each {key}", ", ".join(map(repr, group)), known))
    return findings


def check_balance(splits: Splits, meta: Mapping[str, Mapping], present: set[str]) -> list[Finding]:
    """A warning for every split whose parts differ much in their share of women."""
    findings = []
    for task, folds in splits.folds.items():
        for k, fold in enumerate(folds):
            shares = {}
            for part in PARTS:
                genders = [gender_of(meta.get(s, {})) for s in fold[part] if s in present]
                if genders:
                    shares[part] = genders.count(GENDERS.index("female")) / len(genders)
            if shares and max(shares.values()) - min(shares.values()) > IMBALANCE:
                got = ", ".join(f"{share:.0%} in {part}" for part, share in shares.items())
                findings.append(warning(f"{splits.path.name} {task} split {k}", "like shares of women", got))
    return findings


# ---------------------------------------------------------------------------------------------------------------------
# the whole


def validate(
    source: Path,
    meta_path: Path | None = None,
    splits_path: Path | None = None,
    jobs: int = 1,
    repetitions: int | None = None,
    corrections: Corrections = NONE,
) -> tuple[list[Finding], dict]:
    """All findings, errors first, and a summary of numbers. Raises CorpusError where there is no corpus at all."""
    meta_path = meta_path or source / META_NAME
    recordings, defects = scan(source)
    findings = [error(d) for d in defects]
    if not recordings and not defects:
        raise CorpusError(source, f"recordings {GRAMMAR}", "none")
    heard = spread(listen, recordings, jobs, ("scipy.signal", __name__))
    sounds = sorted(progress_bar(heard, total=len(recordings), unit="rec", desc="listening"), key=lambda s: s.recording)
    findings += check_sounds(sounds)
    findings += check_counts(recordings, repetitions)
    present = {r.speaker for r in recordings}
    try:
        meta, corrected = correct_metadata(read_metadata(meta_path), corrections)
        known = is_audiomnist(meta)
        repaired = load_corrections().speakers if known else {}
        for defect in check_metadata(recordings, meta, meta_path):
            speaker = defect.recordings[0].split("/")[0]
            findings.append(error(defect, known and speaker in repaired))
        findings += check_attributes(meta, present, meta_path.name)
        if known:
            findings += known_recordings(recordings, corrections)
    except CorpusError as failure:
        meta, corrected = {}, []
        findings.append(Finding("error", Path(failure.place).name, failure.expected, failure.got))
    try:
        splits = load_splits(splits_path) if splits_path else find_splits(source)
        labelled = {speaker for speaker, entry in meta.items() if gender_of(entry) is not None}
        usable = {s.recording for s in sounds if not s.defect and s.recording.speaker in labelled}
        rows = [(r, splits.labels(r.digit, meta[r.speaker])) for r in recordings if r in usable]
        findings += [error(d) for d in check_splits(splits, rows, meta)[0]] if meta else []
        findings += check_balance(splits, meta, present)
    except CorpusError as failure:
        findings.append(Finding("error", Path(failure.place).name, failure.expected, failure.got))
    findings.sort(key=lambda f: f.level)
    return findings, summary(source, sounds, meta, corrected)


def known_recordings(recordings: Iterable[Recording], corrections: Corrections) -> list[Finding]:
    """Warnings about AudioMNIST's recordings that are reported to be mislabelled and not corrected."""
    reported = load_corrections()
    return [
        warning(r.relative, f"the digit {r.digit} (--corrections makes it {digit})", reported.why[r.name], True)
        for r in recordings
        if (digit := reported.recordings.get(r.name)) is not None and r.name not in corrections.recordings
    ]


def summary(source: Path, sounds: Sequence[SoundFacts], meta: Mapping[str, Mapping], corrected: Sequence[str]) -> dict:
    """The numbers of a corpus, JSON-able."""
    usable = [s for s in sounds if not s.defect]
    seconds = [s.seconds for s in usable]
    speakers = sorted({s.recording.speaker for s in sounds})
    genders = [gender_of(meta.get(speaker, {})) for speaker in speakers]
    return {
        "corpus": str(source),
        "recordings": len(sounds),
        "usable": len(usable),
        "speakers": len(speakers),
        **{gender: genders.count(label) for label, gender in enumerate(GENDERS)},
        "recordings of a speaker": _range(Counter(s.recording.speaker for s in sounds).values()),
        "recordings of a digit": _range(Counter(s.recording.digit for s in sounds).values()),
        "recordings of a repetition": _range(Counter(s.recording.repetition for s in sounds).values()),
        "formats": {_format(k): n for k, n in Counter((s.rate, s.bits, s.channels) for s in usable).most_common()},
        "seconds": {"shortest": min(seconds, default=0), "longest": max(seconds, default=0), "all": sum(seconds)},
        "corrected": list(corrected),
    }


def _range(numbers: Iterable[int]) -> list[int]:
    numbers = list(numbers)
    return [min(numbers, default=0), max(numbers, default=0)]


def describe(numbers: Mapping) -> str:
    """The summary for people."""
    seconds = numbers["seconds"]
    lines = [
        f"{numbers['corpus']}: {numbers['recordings']} recordings, {numbers['usable']} usable, "
        f"of {numbers['speakers']} speakers ({numbers['male']} male, {numbers['female']} female)",
        f"{seconds['all'] / 3600:.2f} h, {seconds['shortest']:.3f} to {seconds['longest']:.3f} s",
        *(f"{count} of {kind}" for kind, count in numbers["formats"].items()),
    ]
    for what in ("speaker", "digit", "repetition"):
        low, high = numbers[f"recordings of a {what}"]
        lines.append(f"a {what} has {low if low == high else f'{low} to {high}'} recordings")
    return "\n".join([*lines, *(f"corrected: {line}" for line in numbers["corrected"])])


def report(*arguments, as_json: bool = False, verbose: bool = False, **options) -> int:
    """Print what `validate` finds (see there) and the numbers of the corpus; returns the number of errors."""
    findings, numbers = validate(*arguments, **options)
    errors = sum(finding.level == "error" for finding in findings)
    if as_json:
        print(json.dumps({**numbers, "errors": errors, "findings": [asdict(f) for f in findings]}, indent=1))
    else:
        print("\n".join([*in_short(findings, verbose), describe(numbers)]))
        print(f"{errors} errors, {len(findings) - errors} warnings")
    return errors


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        "audiomnist validate",
        "Check a corpus of spoken digits; exit code 1 when it has errors.",
        "audiomnist validate data --corrections",
        "audiomnist validate recordings/corpus --repetitions 50 --verbose",
        "audiomnist validate demo/data --json",
    )
    add_corpus_options(p)
    add = p.add_argument
    splits = "splits (default: splits.json in the corpus, else AudioMNIST's)"
    add("--splits", type=Path, metavar="FILE", help=splits)
    repetitions = "of each digit by each speaker (default: all there are)"
    add("--repetitions", type=positive, metavar="N", help=repetitions)
    add("--jobs", type=positive, default=available_cores(), metavar="N", help="processes (default: all cores)")
    add("--json", action="store_true", help="findings and numbers as JSON, all of them")
    add("--verbose", action="store_true", help="a line for every finding, however many are alike")
    add_quiet(p)
    return p


@door("validate")
def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    errors = report(
        options.corpus,
        options.meta,
        options.splits,
        options.jobs,
        options.repetitions,
        chosen_corrections(options),
        as_json=options.json,
        verbose=options.verbose,
    )
    return 1 if errors else 0
