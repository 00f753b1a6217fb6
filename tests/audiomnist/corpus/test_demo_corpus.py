"""data.demo_corpus: AudioMNIST's numbers and genders, the same bytes by seed, nothing that preprocessing rejects."""

import json
import os
import subprocess
import sys
import wave
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from audiomnist.corpus import demo_corpus, layout, metadata
from audiomnist.corpus.layout import CorpusError
from audiomnist.corpus.splits import PARTS, SPLITS_NAME, find_splits
from audiomnist.preprocessing import command
from audiomnist.signal import inputs
from audiomnist.signal.wav import read_wav
from caffe_proto import CaffeFileError

ROOT = Path(__file__).resolve().parents[3]
SPEAKERS = 8


def make(folder, *options, **environment):
    command = [
        sys.executable,
        "-m",
        "audiomnist",
        "demo-corpus",
        folder,
        "--speakers",
        str(SPEAKERS),
        "--repetitions",
        "1",
    ]
    environment = {**os.environ, **environment}
    return subprocess.run([*command, *options], cwd=ROOT, env=environment, capture_output=True, text=True)


def recordings(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.glob("*/*.wav"))}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "a corpus"
    done = make(folder, "--repetitions", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{SPEAKERS * 20} recordings of {SPEAKERS} speakers in {folder}\n"
    return folder


def test_the_sixty_have_audiomnists_numbers_and_genders():
    speakers = demo_corpus.make_speakers(60, 0)
    assert [s.number for s in speakers] == [f"{n:02d}" for n in range(1, 61)]
    women = {12, 26, 28, 36, 43, 47, 52, 56, 57, 58, 59, 60}
    assert {int(s.number) for s in speakers if s.gender == "female"} == women
    assert len({s.variant for s in speakers}) == 60 and len({s.accent for s in speakers}) == len(demo_corpus.ACCENTS)
    assert speakers == demo_corpus.make_speakers(60, 0) != demo_corpus.make_speakers(60, 1)
    for count in range(6, 60):
        few = demo_corpus.make_speakers(count, 0)
        assert len(few) == count and set(few) <= set(speakers) and len({s.gender for s in few}) == 2


def test_every_recording_is_one_that_preprocessing_takes(made, tmp_path):
    found, defects = layout.scan(made)
    assert len(found) == SPEAKERS * 20 and not defects
    meta = metadata.read_metadata(made / metadata.META_NAME)
    assert not metadata.check_metadata(found, meta, made / metadata.META_NAME)
    for recording in found:
        with wave.open(str(recording.path)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (48000, 1, 2)
            assert 0.1 < file.getnframes() / 48000 < 1
    options = ["-src", str(made), "-dst", str(tmp_path / "out"), "--jobs", "1"]
    assert command.main(options) == 0


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_whatever_the_jobs_and_the_memory(made, tmp_path):
    """MALLOC_PERTURB_ fills fresh memory with rubbish: a voice that reads memory it never set would sound different."""
    assert make(tmp_path / "again", "--jobs", "1", MALLOC_PERTURB_="85").returncode == 0
    first = {name: blob for name, blob in recordings(made).items() if name.endswith("_0.wav")}
    assert recordings(tmp_path / "again") == first  # and more repetitions leave the first ones as they are
    assert len(set(first.values())) == len(first)


def test_speakers_digits_and_repetitions_differ(made):
    """Loudness apart, no two recordings are the same sound."""
    found, _ = layout.scan(made)
    shapes = []
    for recording in found[:60]:
        padded = inputs.embed(inputs.resample(*read_wav(recording.path)), 0)
        spectrogram = inputs.spectrogram_db(padded)
        shapes.append((spectrogram - spectrogram.mean()).ravel() / spectrogram.std())
    likeness = np.array(shapes) @ np.array(shapes).T / len(shapes[0])
    assert likeness[~np.eye(len(shapes), dtype=bool)].max() < 0.99


@pytest.mark.slow
def test_a_finished_corpus_is_not_made_again_and_others_are_left_alone(made, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert make(made, "--repetitions", "2").returncode == 0
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before
    other = make(made, "--seed", "1")
    assert other.returncode == 1 and "got one made with" in other.stderr
    (tmp_path / "01").mkdir()
    (tmp_path / "01/0_01_0.wav").write_bytes(b"precious")
    refused = make(tmp_path)
    assert refused.returncode == 1 and "expected an empty folder or a demo corpus" in refused.stderr
    assert (tmp_path / "01/0_01_0.wav").read_bytes() == b"precious"
    assert make(tmp_path / "x", "--repetitions", "0").returncode == 2


@pytest.mark.slow
def test_an_unfinished_corpus_is_completed(made, tmp_path):
    whole = recordings(made)
    folder = tmp_path / "killed"
    (folder / "01").mkdir(parents=True)
    options = {"format": demo_corpus.FORMAT, "seed": 0, "speakers": SPEAKERS, "repetitions": 2, "complete": False}
    (folder / demo_corpus.MANIFEST).write_text(json.dumps(options))
    (folder / "01/.0123abcd-4567cdef.part").write_bytes(b"half")
    (folder / SPLITS_NAME).write_text("somebody's own")
    assert make(folder, "--repetitions", "2").returncode == 0
    assert (folder / SPLITS_NAME).read_text() == "somebody's own"
    assert recordings(folder) == whole and not list(folder.rglob("*.part"))


def test_what_a_killed_run_was_writing_is_no_other_file(tmp_path, monkeypatch):
    """It may have been killed while it wrote its manifest, the first file of all."""
    (tmp_path / ".0123abcd-4567cdef.part").write_bytes(b"half")
    monkeypatch.setattr(demo_corpus.importlib.util, "find_spec", lambda _: None)  # as far as this goes
    with pytest.raises(CorpusError, match="^espeakng-loader: "):
        demo_corpus.make_corpus(tmp_path, repetitions=1, count=SPEAKERS, seed=0, jobs=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("repetitions", ["two", None, 2.5])
def test_a_manifest_that_says_nothing_sensible_is_one_sentence(repetitions, tmp_path):
    said = {"format": demo_corpus.FORMAT, "seed": 0, "speakers": SPEAKERS, "repetitions": repetitions}
    (tmp_path / demo_corpus.MANIFEST).write_text(json.dumps(said))
    with pytest.raises(CaffeFileError, match=f"{demo_corpus.MANIFEST}: expected the manifest of an earlier run, got "):
        demo_corpus.make_corpus(tmp_path, repetitions=1, count=SPEAKERS, seed=0, jobs=1)
    assert [path.name for path in tmp_path.iterdir()] == [demo_corpus.MANIFEST]


def test_few_speakers_get_splits_of_their_own(made):
    splits = find_splits(made)
    assert splits.path == made / SPLITS_NAME
    named = {s for fold in splits.folds["digit"] for part in PARTS for s in fold[part]}
    assert named == {s.number for s in demo_corpus.make_speakers(SPEAKERS, 0)}


def test_progress_counts_recordings_to_the_last(tmp_path, capsys, monkeypatch):
    """With a process of its own for each speaker: here one that makes nothing, but counts."""

    def apart(function, work, jobs, preload):
        return [10 * repetitions for _, _, repetitions, _ in work]

    monkeypatch.setattr(demo_corpus, "apart", apart)
    assert demo_corpus.make_corpus(tmp_path / "new", 2, 3, 0, 1) == 60
    assert "| 60/60 [" in capsys.readouterr().err.split("\r")[-1]


@pytest.mark.parametrize("rate", [0, -1])
def test_a_library_that_does_not_start_is_one_sentence(rate, monkeypatch):
    library = SimpleNamespace(espeak_Initialize=lambda *_: rate)
    monkeypatch.setattr(demo_corpus.ctypes, "CDLL", lambda path: library)
    with pytest.raises(layout.CorpusError, match="eSpeak NG: expected .*, got a library that does not start"):
        demo_corpus.Synthesiser()
