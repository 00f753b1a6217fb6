"""Copy a folder of spoken digits into the layout that this project reads, with metadata and, on request, splits.

    audiomnist import-corpus FSDD/recordings CORPUS --trim --make-splits 3

The naming pattern says where digit, speaker and repetition stand in a file's path; the default is that of the Free
Spoken Digit Dataset (Jakobovski/free-spoken-digit-dataset), `{digit}_{speaker}_{repetition}.wav`. Speakers get numbers
in the order of their names. Samples are copied untouched unless --trim cuts silence from both ends.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiomnist.arguments import command_parser
from audiomnist.corpus.layout import CorpusError, shown
from audiomnist.corpus.make_splits import add_arguments, describe, write_splits
from audiomnist.corpus.metadata import META_NAME, read_metadata
from audiomnist.door import door
from audiomnist.progress_bar import add_quiet, progress_bar
from audiomnist.signal.wav import RecordingError, read_wav, to_int16, wav_bytes, wav_file
from caffe_proto.atomic import make_folder, remove_leftovers, write_file

FSDD_PATTERN = "{digit}_{speaker}_{repetition}.wav"
FIELDS = {"digit": "[0-9]", "speaker": "[^/_]+", "repetition": "[0-9]+"}
# genders and accents of the speakers, from the dataset's own metadata
FSDD_SPEAKERS = {
    "george": {"gender": "male", "accent": "GRC/Greek"},
    "jackson": {"gender": "male", "accent": "USA/neutral"},
    "lucas": {"gender": "male", "accent": "DEU/German"},
    "nicolas": {"gender": "male", "accent": "BEL/French"},
    "theo": {"gender": "male", "accent": "USA/neutral"},
    "yweweler": {"gender": "male", "accent": "DEU/German"},
}
FRAME = 0.010  # s, over which loudness is measured
MARGIN = 0.030  # s, kept on both sides of what is loud
THRESHOLD_DB = -40.0  # dB, relative to the loudest frame: below it is silence


@dataclass(frozen=True)
class SourceFile:
    """One file of the folder that is imported."""

    path: Path
    speaker: str
    digit: int
    repetition: int


def compile_pattern(pattern: str) -> re.Pattern:
    """`{speaker}/{digit}-{repetition}.wav` -> a regular expression with these groups. Raises CorpusError.

    A field may stand there several times, as in `{speaker}/{digit}_{speaker}_{repetition}.wav`.
    """
    parts = re.split(r"\{(\w+)\}", pattern)
    names = parts[1::2]
    if set(names) != set(FIELDS):
        raise CorpusError(f"pattern {pattern!r}", f"each of the fields {', '.join(FIELDS)}", names)
    # a field that stands there again holds the same again
    fields = [f"(?P={n})" if n in names[:i] else f"(?P<{n}>{FIELDS[n]})" for i, n in enumerate(names)]
    texts = [re.escape(text) for text in parts[::2]]
    return re.compile(texts[0] + "".join(field + text for field, text in zip(fields, texts[1:], strict=True)))


def find_files(source: Path, pattern: str) -> tuple[list[SourceFile], list[str]]:
    """The files whose path below `source` fits the pattern, and the WAV files that do not."""
    if not source.is_dir():
        raise CorpusError(source, "a folder of recordings", "none")
    expression, files, others = compile_pattern(pattern), [], []
    for path in sorted(source.rglob("*")):
        relative = shown(path.relative_to(source))
        if relative != path.relative_to(source).as_posix():
            others.append(relative)
        elif match := expression.fullmatch(relative):
            files.append(SourceFile(path, match["speaker"], int(match["digit"]), int(match["repetition"])))
        elif path.suffix.lower() == ".wav":
            others.append(relative)
    if not files:
        raise CorpusError(source, f"recordings named {pattern!r} (see --pattern)", "none")
    return files, others


def speech_limits(samples: np.ndarray, rate: int) -> tuple[int, int]:
    """Samples (N,) at `rate` Hz -> [begin, end) of what is not silence, with a margin.

    Silence is what lies before the first and after the last frame of 10 ms whose energy is within 40 dB of the loudest.
    """
    frame = max(1, round(FRAME * rate))
    count = -(-len(samples) // frame)
    padded = np.zeros(count * frame)
    padded[: len(samples)] = samples - samples.mean()
    energy = np.sum(padded.reshape(count, frame) ** 2, axis=1)
    loud = np.flatnonzero(energy > energy.max() * 10 ** (THRESHOLD_DB / 10))
    if not len(loud):
        return 0, len(samples)
    margin = round(MARGIN * rate)
    return max(0, loud[0] * frame - margin), min(len(samples), (loud[-1] + 1) * frame + margin)


def trimmed(blob: bytes) -> tuple[bytes, float, float]:
    """A WAV file without the silence at its ends (16 bits, mono), and the seconds cut from the beginning and the end.

    Without silence at its ends the file stays as it is, byte for byte. Raises RecordingError.
    """
    samples, rate = read_wav(blob)
    begin, end = speech_limits(samples, rate)
    if (begin, end) == (0, len(samples)):
        return blob, 0.0, 0.0
    return wav_bytes(to_int16(samples[begin:end]), rate), begin / rate, (len(samples) - end) / rate


def import_corpus(
    source: Path, destination: Path, pattern: str, speakers: Mapping[str, Mapping], trim: bool
) -> tuple[int, list[str]]:
    """Write the corpus; returns the number of recordings, and a line for everything worth knowing.

    The metadata comes last: until then the folder is no corpus, and the same import goes on with it. Nothing that is
    there is overwritten. `speakers` are the metadata of the speakers by their names in `source`; "unknown" is the
    gender of all others.
    """
    files, log = find_files(source, pattern)
    log = [f"{name}: does not fit {pattern!r}; left out" for name in log]
    names = sorted({file.speaker for file in files})
    width = max(2, len(str(len(names))))
    numbers = {name: f"{i + 1:0{width}d}" for i, name in enumerate(names)}
    seen: dict[tuple, Path] = {}
    for file in files:
        key = (file.speaker, file.digit, file.repetition)
        if key in seen:
            got = f"those of {seen[key]} again"
            raise CorpusError(file.path, "a digit, speaker and repetition of its own", got)
        seen[key] = file.path
    targets = {}
    for file in files:
        number = numbers[file.speaker]
        targets[file] = destination / number / f"{file.digit}_{number}_{file.repetition}.wav"
    remove_leftovers(destination)
    known = {*targets.values(), *(path.parent for path in targets.values())}
    if other := next((path for path in destination.rglob("*") if path not in known), None):
        expected = "a new or empty folder, or an unfinished import of the same"
        raise CorpusError(destination, expected, f"one with {other.relative_to(destination)}")
    for number in numbers.values():
        make_folder(destination / number)
    meta = {}
    for name, number in numbers.items():
        if name not in speakers:
            log.append(f"{META_NAME}: speaker {name} has no known gender; write male or female into the file")
        meta[number] = {"gender": "unknown", **speakers.get(name, {}), "name": name}
    for file in progress_bar(files, unit="rec", desc="importing"):
        try:
            blob = wav_file(file.path)
        except RecordingError as error:
            raise CorpusError.at(file.path, error) from None
        relative = targets[file].relative_to(destination).as_posix()
        if trim:
            try:
                blob, before, after = trimmed(blob)
                if before or after:
                    log.append(f"{relative}: cut {before:.3f} s before and {after:.3f} s after speech")
            except RecordingError as error:
                log.append(f"{relative}: {error} (copied as it is)")
        if not targets[file].exists():
            write_file(targets[file], blob)
        elif targets[file].read_bytes() != blob:
            raise CorpusError(targets[file], "what this import makes", "another file")
    write_file(destination / META_NAME, (json.dumps(meta, indent=4, ensure_ascii=False) + "\n").encode())
    return len(files), log


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        "audiomnist import-corpus",
        "Import a folder of spoken digits (by default FSDD's) as a corpus.",
        "audiomnist import-corpus free-spoken-digit-dataset/recordings FSDD --make-splits 6",
        "audiomnist import-corpus mine corpus --pattern '{speaker}/{digit}_{repetition}.wav' --speakers mine.json",
    )
    add = p.add_argument
    add("source", type=Path, metavar="SOURCE", help="folder with the recordings")
    add("destination", type=Path, metavar="DESTINATION", help="folder to make")
    add(
        "--pattern",
        default=FSDD_PATTERN,
        metavar="PATTERN",
        help=f"of the paths in the source (default: {FSDD_PATTERN})",
    )
    add("--speakers", type=Path, metavar="FILE", help="JSON: name -> metadata (default: FSDD's six)")
    add("--trim", action="store_true", help="cut silence from both ends, and say how much")
    add_arguments(p, required=False)
    add_quiet(p)
    return p


@door("import-corpus", "the same command goes on")
def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    speakers = read_metadata(options.speakers) if options.speakers else FSDD_SPEAKERS
    count, log = import_corpus(options.source, options.destination, options.pattern, speakers, options.trim)
    for line in log:
        print(line, file=sys.stderr)
    if options.make_splits is not None:
        meta_path = options.destination / META_NAME
        print(describe(write_splits(options.destination, meta_path, options.make_splits, options.seed)))
    cut = sum(": cut " in line for line in log)
    print(f"{count} recordings in {options.destination}" + (f", {cut} trimmed" if options.trim else ""))
    return 0
