"""data.import_corpus and data/download.sh: other people's recordings become a corpus; AudioMNIST is fetched whole."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_corpus import make_corpus, speech, wav_file

from audiomnist.corpus import import_corpus, layout, metadata
from audiomnist.corpus.splits import find_splits
from audiomnist.signal.wav import read_wav

ROOT = Path(__file__).resolve().parents[3]


def make_fsdd(folder, names=("theo", "jackson", "lucas"), silence=0):
    """A checkout in FSDD's naming; `silence` samples before and after each recording."""
    folder.mkdir()
    quiet = np.zeros(silence, "<i2")
    for number, name in enumerate(names):
        for digit in range(2):
            for repetition in (0, 10):
                x = np.concatenate([quiet, speech(100 * number + 10 * digit + repetition), quiet])
                (folder / f"{digit}_{name}_{repetition}.wav").write_bytes(wav_file(x.tobytes()))
    return folder


def test_fsdd(tmp_path, capsys):
    source = make_fsdd(tmp_path / "recordings")
    (source / "metadata.py").write_text("")
    (source / "odd.wav").write_bytes(b"")
    out = tmp_path / "out"
    assert import_corpus.main([str(source), str(out), "--make-splits", "3", "--seed", "1"]) == 0
    captured = capsys.readouterr()
    assert "odd.wav: does not fit" in captured.err and "12 recordings" in captured.out
    found, defects = layout.scan(out)
    assert not defects and len(found) == 12
    meta = metadata.read_metadata(out / metadata.META_NAME)
    assert {s: m["name"] for s, m in meta.items()} == {"01": "jackson", "02": "lucas", "03": "theo"}
    for r in found:
        original = source / f"{r.digit}_{meta[r.speaker]['name']}_{r.repetition}.wav"
        assert r.path.read_bytes() == original.read_bytes()
    splits = find_splits(out)
    assert len(splits.folds["digit"]) == 3 and "gender" not in splits.folds
    assert import_corpus.main([str(source), str(out)]) == 1  # never into what is there
    said = capsys.readouterr().err
    assert "expected a new or empty folder, or an unfinished import of the same, got one with" in said


def test_an_import_that_was_killed_goes_on(tmp_path, capsys):
    """Until its metadata are there, which come last, the folder is no corpus; nothing that is there is overwritten."""
    source, out, killed = make_fsdd(tmp_path / "recordings"), tmp_path / "out", tmp_path / "killed"
    assert import_corpus.main([str(source), str(out)]) == 0
    (killed / "01").mkdir(parents=True)
    (killed / "01/.0123abcd-4567cdef.part").write_bytes(b"half")
    first = killed / "01/0_01_0.wav"
    first.write_bytes((out / "01/0_01_0.wav").read_bytes())
    made = first.stat().st_mtime_ns
    assert import_corpus.main([str(source), str(killed)]) == 0
    files = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.*")}
    assert {path.relative_to(killed): path.read_bytes() for path in killed.rglob("*.*")} == files
    assert first.stat().st_mtime_ns == made
    (killed / metadata.META_NAME).unlink()
    (killed / "03/1_03_10.wav").write_bytes(b"precious")
    capsys.readouterr()
    assert import_corpus.main([str(source), str(killed)]) == 1
    assert f"{killed}/03/1_03_10.wav: expected what this import makes, got another file" in capsys.readouterr().err
    assert (killed / "03/1_03_10.wav").read_bytes() == b"precious"


def test_any_naming_and_unknown_speakers(tmp_path, capsys):
    source = tmp_path / "in"
    for speaker in ("anna k", "bob"):
        (source / speaker / "takes").mkdir(parents=True)
        for repetition in ("001", "002"):
            (source / speaker / "takes" / f"digit-7.{repetition}.wav").write_bytes(wav_file(speech(1).tobytes()))
    speakers = tmp_path / "who.json"
    speakers.write_text(json.dumps({"anna k": {"gender": "female", "age": 40}}))
    pattern = "{speaker}/takes/digit-{digit}.{repetition}.wav"
    options = ["--pattern", pattern, "--speakers", str(speakers)]
    assert import_corpus.main([str(source), str(tmp_path / "o"), *options]) == 0
    assert "speaker bob has no known gender" in capsys.readouterr().err
    names = [r.relative for r in layout.scan(tmp_path / "o")[0]]
    assert names == [f"{s}/7_{s}_{r}.wav" for s in ("01", "02") for r in (1, 2)]
    meta = metadata.read_metadata(tmp_path / "o" / metadata.META_NAME)
    assert meta["01"] == {"gender": "female", "age": 40, "name": "anna k"} and meta["02"]["gender"] == "unknown"


def test_a_field_that_stands_twice_holds_the_same_twice(tmp_path, capsys):
    source = make_corpus(tmp_path / "in", {"anna": "female", "bob": "male"}, digits=(7,), repetitions=2)
    shutil.copy(source / "anna/7_anna_0.wav", source / "anna/7_bob_5.wav")
    options = ["--pattern", "{speaker}/{digit}_{speaker}_{repetition}.wav"]
    assert import_corpus.main([str(source), str(tmp_path / "o"), *options]) == 0
    assert "anna/7_bob_5.wav: does not fit" in capsys.readouterr().err
    names = [r.relative for r in layout.scan(tmp_path / "o")[0]]
    assert names == [f"{s}/7_{s}_{r}.wav" for s in ("01", "02") for r in (0, 1)]


PATTERNS = [("{digit}.wav", "expected each of"), ("x{digit}{speaker}{repetition}", "expected recordings named")]


@pytest.mark.parametrize("pattern, message", PATTERNS)
def test_patterns_that_fit_nothing(tmp_path, capsys, pattern, message):
    assert import_corpus.main([str(make_fsdd(tmp_path / "in")), str(tmp_path / "o"), "--pattern", pattern]) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "o").exists()


def test_two_files_for_one_recording(tmp_path, capsys):
    source = make_fsdd(tmp_path / "in")
    shutil.copy(source / "1_theo_0.wav", source / "1_theo_00.wav")
    assert import_corpus.main([str(source), str(tmp_path / "o")]) == 1
    assert "expected a digit, speaker and repetition of its own" in capsys.readouterr().err


def test_trimming_cuts_silence_alone_and_says_so(tmp_path, capsys):
    source = make_fsdd(tmp_path / "in", silence=6000)  # 2 s each
    assert import_corpus.main([str(source), str(tmp_path / "o"), "--trim"]) == 0
    captured = capsys.readouterr()
    assert "12 trimmed" in captured.out and captured.err.count(": cut 0.7") == 12
    for r in layout.scan(tmp_path / "o")[0]:
        samples, rate = read_wav(r.path)
        whole, _ = read_wav(source / f"{r.digit}_{['jackson', 'lucas', 'theo'][int(r.speaker) - 1]}_{r.repetition}.wav")
        assert rate == 8000 and 0.4 < len(samples) / rate < 0.6
        windows = np.lib.stride_tricks.sliding_window_view(whole, len(samples))
        places = np.flatnonzero(np.all(windows == samples, axis=1))
        assert len(places) == 1  # a piece of the original, and no sample else
        lost = np.concatenate([whole[: places[0]], whole[places[0] + len(samples) :]])
        assert np.abs(lost).max() < 0.1 * np.abs(whole).max()


@pytest.mark.parametrize("begin, end", [(0, 1000), (2000, 2500), (7990, 8000), (0, 8000)])
def test_speech_limits(begin, end):
    x = np.zeros(8000)
    x[begin:end] = 1000 * np.sin(np.arange(end - begin))
    first, last = import_corpus.speech_limits(x, 8000)
    margin, frame = 240, 80
    assert max(0, begin - margin - frame) <= first <= max(0, begin - margin + frame)  # 30 ms more, to a frame of 10 ms
    assert min(8000, end + margin - frame) <= last <= min(8000, end + margin + frame)


# ---------------------------------------------------------------------------------------------------------------------
# download.sh, against a repository made here


@pytest.fixture
def upstream(tmp_path):
    repository = tmp_path / "up stream"
    genders = {"01": "male", "02": "female", "03": "male", "04": "female", "05": "male", "06": "female"}
    make_corpus(repository / "data", genders, digits=range(2))
    (repository / "code.py").write_text("not copied")
    (repository / "data/splits.json").unlink()
    run = {"cwd": repository, "check": True, "capture_output": True}
    subprocess.run(["git", "init", "-q"], **run)
    subprocess.run(["git", "add", "."], **run)
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *who, "commit", "-qm", "data"], **run)
    for key in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        subprocess.run(["git", "config", key, "true"], **run)
    return repository


def download(url, *arguments, **environment):
    environment = {**os.environ, "AUDIOMNIST_URL": f"file://{url}", "PYTHON": sys.executable, **environment}
    command = [ROOT / "data/download.sh", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/")


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_download_fetches_the_data_and_nothing_else(upstream, tmp_path):
    target = tmp_path / "a folder/data"
    done = download(upstream, target)
    assert files(target) == files(upstream / "data")
    assert "6 speakers in" in done.stdout and "every file equal" in done.stdout
    assert "12 recordings, 12 usable" in done.stdout  # validated
    assert done.returncode == 1 and "speakers of this corpus" in done.stdout  # they are not the sixty


def test_download_goes_on_and_overwrites_nothing(upstream, tmp_path):
    target = tmp_path / "data"
    without_validation = {"PYTHON": "/bin/false"}
    assert download(upstream, target, **without_validation).returncode == 0
    (target / "02/1_02_0.wav").unlink()
    (target / "02/mine.txt").write_text("precious")
    shutil.rmtree(target / "05")
    done = download(upstream, target, **without_validation)
    assert done.returncode == 0 and "01 is there" in done.stderr and "02 ..." in done.stderr
    assert files(target) == files(upstream / "data") | {"02/mine.txt": b"precious"}
    (target / "02/1_02_0.wav").write_bytes(b"my own recording")
    done = download(upstream, target, **without_validation)
    assert done.returncode == 1 and "02/1_02_0.wav: expected the repository's file or none" in done.stderr
    assert (target / "02/1_02_0.wav").read_bytes() == b"my own recording"


def test_download_says_what_is_in_the_way(upstream, tmp_path):
    unreachable = download("/nowhere/at/all", tmp_path / "x")
    assert unreachable.returncode == 1 and "expected a network connection to it" in unreachable.stderr
    assert "--data FOLDER" in unreachable.stderr and "--demo" in unreachable.stderr
    full = download(upstream, tmp_path / "y", AUDIOMNIST_NEEDED_MB="999999999")
    assert full.returncode == 1 and "expected 999999999 MB free on the disk" in full.stderr
    assert download(upstream, "a", "b").returncode == 2 and download(upstream, "--what").returncode == 2
    asked = download(upstream, "--help")
    assert asked.returncode == 0 and asked.stdout.startswith("Usage: data/download.sh [DIR]")
