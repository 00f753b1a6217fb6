"""A corpus of synthetic speakers, so that the whole study can be run without any download.

    audiomnist demo-corpus DIR --repetitions 6

Sixty speakers with AudioMNIST's numbers and genders (so that its splits apply) say the ten digits through eSpeak NG. A
speaker is a voice variant, an accent, a pitch, a rate, a length of the vocal tract, a loudness and a room's noise; a
repetition varies most of these a little. The corpus shows that everything works; it does not stand in for real speech.

eSpeak NG is GPL-3. Only this file loads it, as a tool, from the `espeakng-loader` wheel (the extra `demo`).
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import random
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.signal

from audiomnist.arguments import command_parser, positive, whole_number
from audiomnist.corpus.layout import CorpusError
from audiomnist.corpus.make_splits import MIN_FOLDS, make_splits
from audiomnist.corpus.metadata import GENDERS, META_NAME
from audiomnist.corpus.splits import SPLITS_NAME
from audiomnist.door import door
from audiomnist.progress_bar import add_quiet, progress_bar
from audiomnist.signal.inputs import network_inputs
from audiomnist.signal.wav import RecordingError, to_int16, wav_bytes
from audiomnist.workers import apart, available_cores
from caffe_proto.atomic import make_folder, remove_leftovers, write_file
from caffe_proto.texts import read_record

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SAMPLE_RATE = 48000  # Hz, as AudioMNIST
MAX_SECONDS = 0.95  # longer takes are spoken again, faster
SPEAKERS = 60
FEMALE = (12, 26, 28, 36, 43, 47, 52, 56, 57, 58, 59, 60)  # AudioMNIST's
MANIFEST = "demo_corpus.json"
FORMAT = 1  # raised whenever the same options would give other files
ATTEMPTS = 8  # takes of one recording before giving up

# eSpeak's names; the plain voices, no robots and whispers, and none for which eSpeak reads memory that it never set
# (f2, f3, f5, Alicia, sandro, victor: their sound changes from process to process)
ACCENTS = {
    "en-us": "American", "en-us-nyc": "New York", "en": "British", "en-gb-x-rp": "Received Pronunciation",
    "en-gb-scotland": "Scottish", "en-gb-x-gbclan": "Lancaster", "en-gb-x-gbcwmd": "West Midlands",
    "en-029": "Caribbean",
}  # fmt: skip
VARIANTS = {
    "male": (
        "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "Alex", "Andy", "Denis", "Diogo", "Gene", "Hugo", "Lee",
        "Mario", "Michael", "Mike", "Reed", "adam", "benjamin", "boris", "david", "edward", "grandpa", "gustave",
        "ian", "iven", "john", "marcelo", "max", "michel", "miguel", "norbert", "pablo", "paul", "quincy", "robert",
        "AnxiousAndy", "travis", "Nguyen", "Henrique", "edward2", "iven3", "Gene2", "kaukovalta", "pedro", "antonio",
    ),
    "female": (
        "f1", "f4", "Andrea", "Annie", "anika", "aunty", "belinda", "linda", "grandma", "steph", "steph2", "steph3",
    ),
}  # fmt: skip

# eSpeak's C interface (speak_lib.h)
_SYNCHRONOUS, _RATE, _PITCH, _RANGE, _UTF8 = 2, 1, 3, 4, 1


class Synthesiser:
    """eSpeak NG in this process. It carries state from one utterance to the next: equal sounds need equal histories."""

    def __init__(self) -> None:
        import espeakng_loader

        # eSpeak truncates long paths, and a virtual environment may lie deep: a short link to its data never is
        self.folder = tempfile.mkdtemp()
        data = Path(self.folder) / "espeak-ng-data"
        data.symlink_to(espeakng_loader.get_data_path(), target_is_directory=True)
        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.rate = self.library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), 0)  # Hz
        if self.rate <= 0:
            raise CorpusError("eSpeak NG", "the espeakng-loader wheel with its data", "a library that does not start")
        self.blocks: list[np.ndarray] = []
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self.callback = callback(self._take)  # kept: the library holds only a pointer
        self.library.espeak_SetSynthCallback(self.callback)

    def _take(self, samples: ctypes.Array, count: int, _events: int) -> int:
        if samples and count > 0:
            self.blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, text: str, voice: str, pitch: int, rate: int, intonation: int) -> np.ndarray:
        """Samples (N,) float64 at `self.rate` Hz. Pitch and intonation 0 to 99, rate 80 to 450 words a minute."""
        self.blocks.clear()
        if self.library.espeak_SetVoiceByName(voice.encode()):
            raise CorpusError("eSpeak NG", f"voice {voice}, as espeakng-loader 0.2.4 has it", "none of that name")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, intonation)):
            self.library.espeak_SetParameter(parameter, value, 0)
        encoded = text.encode()
        self.library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, _UTF8, None, None)
        self.library.espeak_Synchronize()
        return np.concatenate(self.blocks or [np.zeros(0)]).astype(np.float64)

    def close(self) -> None:
        self.library.espeak_Terminate()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Speaker:
    """What makes a synthetic speaker; each repetition varies around it."""

    number: str
    gender: str
    accent: str
    variant: str
    age: int
    pitch: float  # eSpeak's, 0 to 99
    rate: float  # words a minute
    intonation: float  # eSpeak's, 0 to 99
    tract: float  # resonances and pitch are multiplied by it
    level: float  # peak, of 32,768
    noise_db: float  # of the room, relative to the peak

    def metadata(self) -> dict:
        """The speaker's entry in AudioMNIST's form. Age, date and room mean nothing here."""
        return {
            "accent": ACCENTS[self.accent],
            "age": self.age,
            "gender": self.gender,
            "native speaker": "yes",
            "origin": f"synthetic, eSpeak NG, {self.accent}+{self.variant}",
            "recordingdate": "20-01-01-00-00-00",
            "recordingroom": "none",
        }


def make_speakers(count: int, seed: int) -> list[Speaker]:
    """The first `count` of the sixty speakers of this seed, spread over the numbers so that both genders are there."""
    rng = random.Random(f"speakers {seed}")
    accents = [accent for accent in ACCENTS for _ in range(-(-SPEAKERS // len(ACCENTS)))]
    rng.shuffle(accents)
    variants = {gender: rng.sample(names, len(names)) for gender, names in VARIANTS.items()}
    speakers = []
    for number in range(1, SPEAKERS + 1):
        gender = GENDERS[number in FEMALE]
        speakers.append(
            Speaker(
                number=f"{number:02d}",
                gender=gender,
                accent=accents[number - 1],
                variant=variants[gender].pop(),
                age=rng.randint(22, 61),
                pitch=rng.uniform(40, 75) if gender == "male" else rng.uniform(42, 62),
                rate=rng.uniform(135, 190),
                intonation=rng.uniform(30, 70),
                tract=rng.uniform(0.92, 1.04) if gender == "male" else rng.uniform(0.98, 1.10),
                level=rng.uniform(2500, 16000),
                noise_db=rng.uniform(-62, -48),
            )
        )
    if count == SPEAKERS:
        return speakers
    women = max(1, round(count * len(FEMALE) / SPEAKERS))
    chosen = [s for s in speakers if s.gender == "female"][:women] + [s for s in speakers if s.gender == "male"]
    return sorted(chosen[:count], key=lambda s: s.number)


def make_take(
    synthesiser: Synthesiser, speaker: Speaker, word: str, rng: np.random.Generator, attempt: int
) -> np.ndarray:
    """One take: int16 samples (N,) at 48 kHz. Each further attempt speaks 10 % faster."""
    tract = speaker.tract * rng.uniform(0.985, 1.015)
    sound = synthesiser.say(
        word,
        f"{speaker.accent}+{speaker.variant}",
        pitch=int(np.clip(speaker.pitch + rng.normal(0, 4), 5, 95)),
        rate=int(speaker.rate * rng.uniform(0.88, 1.12) * 1.1**attempt),
        intonation=int(np.clip(speaker.intonation + rng.normal(0, 10), 0, 99)),
    )
    loud = np.flatnonzero(np.abs(sound) > 0.01 * np.abs(sound).max(initial=1.0))
    if not len(loud):
        raise RecordingError(f"the word {word}", "silence")
    sound = sound[loud[0] : loud[-1] + 1]
    sound = scipy.signal.resample(sound, round(len(sound) * SAMPLE_RATE / (synthesiser.rate * tract)))
    before, after = (rng.uniform(0.01, 0.06, 2) * SAMPLE_RATE).astype(int)
    sound = np.concatenate([np.zeros(before), sound, np.zeros(after)])
    sound *= speaker.level * 10 ** (rng.uniform(-4, 4) / 20) / np.abs(sound).max()
    noise = rng.standard_normal(len(sound))
    noise[1:] += 0.9 * noise[:-1]  # rooms are louder at low frequencies
    sound += noise * np.abs(sound).max() * 10 ** (speaker.noise_db / 20)
    return to_int16(sound)


def make_recording(synthesiser: Synthesiser, speaker: Speaker, digit: int, repetition: int, seed: int) -> bytes:
    """A WAV file that preprocessing accepts: takes that it would reject are spoken again, differently each time.

    Raises CorpusError after ATTEMPTS takes.
    """
    reason = RecordingError("a take", "none")
    name = f"{digit}_{speaker.number}_{repetition}.wav"
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([seed, int(speaker.number), digit, repetition, attempt])
        take = make_take(synthesiser, speaker, WORDS[digit], rng, attempt)
        blob = wav_bytes(take, SAMPLE_RATE)
        try:
            if len(take) > MAX_SECONDS * SAMPLE_RATE:
                raise RecordingError(f"at most {MAX_SECONDS} s", f"{len(take) / SAMPLE_RATE:.2f} s")
            network_inputs(blob, name)
            return blob
        except RecordingError as error:
            reason = error
    raise CorpusError(name, reason.expected, f"{reason.got} (in the last of {ATTEMPTS} takes)")


def record_speaker(arguments: tuple[Speaker, Path, int, int]) -> int:
    """All recordings of one speaker; returns how many. Runs in a process of its own: see Synthesiser."""
    speaker, destination, repetitions, seed = arguments
    folder = destination / speaker.number
    make_folder(folder)
    synthesiser = Synthesiser()
    try:
        for repetition in range(repetitions):  # outermost: fewer repetitions give the same first ones
            for digit in range(len(WORDS)):
                blob = make_recording(synthesiser, speaker, digit, repetition, seed)
                write_file(folder / f"{digit}_{speaker.number}_{repetition}.wav", blob)
    finally:
        synthesiser.close()
    return repetitions * len(WORDS)


def make_corpus(destination: Path, repetitions: int, count: int, seed: int, jobs: int) -> int:
    """Make the corpus, or complete it; returns the number of recordings.

    Raises CorpusError, CaffeFileError, WriteError.
    """
    mine = {"format": FORMAT, "seed": seed, "speakers": count, "repetitions": repetitions}
    manifest = destination / MANIFEST
    theirs = None
    remove_leftovers(destination)  # also of a run that was killed while it wrote its manifest
    if manifest.exists():
        theirs = read_record(manifest, "the manifest of an earlier run", repetitions=int)
    elif destination.is_dir() and any(p.name != SPLITS_NAME for p in destination.iterdir()):
        raise CorpusError(destination, "an empty folder or a demo corpus", "a folder with other files")
    if theirs == {**mine, "complete": True}:
        return repetitions * len(WORDS) * count
    if theirs is not None:
        comparable = {key: theirs.get(key) for key in ("format", "seed", "speakers")}
        if any(comparable[key] != mine[key] for key in comparable) or theirs["repetitions"] > repetitions:
            raise CorpusError(destination, f"a corpus made with {mine}, or another folder", f"one made with {theirs}")
    if importlib.util.find_spec("espeakng_loader") is None:
        raise CorpusError("espeakng-loader", "it to be installed (pip install espeakng-loader)", "no such package")
    make_folder(destination)
    write_file(manifest, json.dumps({**mine, "complete": False}).encode())
    speakers = make_speakers(count, seed)
    meta = {speaker.number: speaker.metadata() for speaker in speakers}
    write_file(destination / META_NAME, (json.dumps(meta, indent=4) + "\n").encode())
    if count < SPEAKERS and not (destination / SPLITS_NAME).exists():  # with all sixty AudioMNIST's own splits apply
        genders = {speaker.number: GENDERS.index(speaker.gender) for speaker in speakers}
        splits = make_splits(genders, min(5, max(MIN_FOLDS, count // 4)), seed, destination / SPLITS_NAME)
        write_file(splits.path, splits.to_json().encode())
    made = 0
    work = [(speaker, destination, repetitions, seed) for speaker in speakers]
    # one process a speaker, whatever the number of workers: the synthesiser's history is then always the same
    with progress_bar(total=len(work) * repetitions * len(WORDS), unit="rec", desc="demo corpus") as bar:
        for recordings in apart(record_speaker, work, jobs, ("scipy.signal", __name__)):
            made += recordings
            bar.update(recordings)
    write_file(manifest, json.dumps({**mine, "complete": True}).encode())
    return made


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        "audiomnist demo-corpus",
        "Make a corpus of synthetic speakers in AudioMNIST's form.",
        "audiomnist demo-corpus demo/data",
        "audiomnist demo-corpus small --speakers 10 --repetitions 2 --seed 1",
    )
    add = p.add_argument
    speakers = whole_number(2 * MIN_FOLDS, SPEAKERS)
    add("destination", type=Path, metavar="DESTINATION", help="folder to make it in")
    add(
        "--repetitions",
        type=positive,
        default=6,
        metavar="N",
        help="of each digit by each speaker (default: %(default)s)",
    )
    add("--speakers", type=speakers, default=SPEAKERS, metavar="N", help="how many (default: %(default)s)")
    add("--seed", type=whole_number(), default=0, metavar="N", help="of speakers and takes (default: %(default)s)")
    add("--jobs", type=positive, default=available_cores(), metavar="N", help="processes (default: all cores)")
    add_quiet(p)
    return p


@door("demo-corpus", "the same command makes it whole")
def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    made = make_corpus(options.destination, options.repetitions, options.speakers, options.seed, options.jobs)
    print(f"{made} recordings of {options.speakers} speakers in {options.destination}")
    return 0
