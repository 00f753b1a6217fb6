"""preprocessing_data.py as users run it: dirty corpora, resuming, crashes, two runs at once, any number of jobs."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_corpus import GENDERS, make_corpus, speech, wav_file, write_meta

from audiomnist import workers
from audiomnist.corpus.splits import PARTS
from audiomnist.preprocessing import command as preprocessing
from audiomnist.preprocessing import journal as journal_module
from audiomnist.preprocessing.journal import JOURNAL, LOCK, Journal
from audiomnist.signal import inputs
from caffe_proto import atomic

ROOT = Path(__file__).resolve().parents[3]


def run(source, destination, *options):
    """The command in this process; returns its exit code."""
    meta = source / "audioMNIST_meta.txt"
    return preprocessing.main(["-src", str(source), "-dst", str(destination), "-m", str(meta), "--jobs", "1", *options])


def command(source, destination, *options):
    """The command line of a process of its own."""
    meta = source / "audioMNIST_meta.txt"
    return [sys.executable, ROOT / "preprocessing_data.py", "-src", source, "-dst", destination, "-m", meta, *options]


def contents(destination, pattern="*/*.hdf5"):
    return {path.relative_to(destination).as_posix(): path.read_bytes() for path in sorted(destination.glob(pattern))}


def lists(destination):
    return contents(destination, "*_*_*_*.txt")


def test_a_clean_corpus(tmp_path, capsys):
    source, out = make_corpus(tmp_path / "with space", repetitions=2), tmp_path / "out put"
    assert run(source, out) == 0
    assert "36 recordings" in capsys.readouterr().out
    stems = [(s, f"{d}_{s}_{r}") for s in GENDERS for d in range(3) for r in (0, 1)]
    names = [f"{s}/{network}_{stem}.hdf5" for s, stem in stems for network in ("AlexNet", "AudioNet")]
    assert sorted(contents(out)) == sorted(names)
    for name in names:
        network, digit, speaker, _ = Path(name).stem.split("_")
        with h5py.File(out / name) as file:
            assert file["data"].shape == inputs.NETWORKS[network].shape
            assert file["label"][:].tolist() == [[float(digit), float(GENDERS[speaker] == "female")]]
            wav = source / speaker / f"{digit}_{speaker}_{Path(name).stem.split('_')[3]}.wav"
            np.testing.assert_array_equal(file["data"][:], inputs.network_inputs(wav, wav.name)[network])
    splits = json.loads((out / "splits.json").read_text())
    assert splits["tasks"]["gender"] == {"label": "gender", "classes": ["male", "female"]}
    assert set(lists(out)) == {
        f"{n}_{t}_0_{p}.txt" for n in inputs.NETWORKS for t in ("digit", "gender") for p in PARTS
    }
    for name, text in lists(out).items():
        network, task, _, part = name.removesuffix(".txt").split("_")
        wanted = [f"{s}/{network}_{d}_{s}_{r}.hdf5" for s in splits[task][0][part] for d in range(3) for r in (0, 1)]
        assert text.decode().splitlines() == wanted
    assert not (out / "rejected.csv").exists()


def test_any_number_of_jobs_gives_the_same_bytes(tmp_path):
    source = make_corpus(tmp_path / "in", digits=range(4), repetitions=2)
    for jobs in ("1", "2"):
        subprocess.run(command(source, tmp_path / jobs, "--jobs", jobs, "--seed", "3"), check=True, capture_output=True)
    assert run(source, tmp_path / "other seed", "--seed", "4") == 0
    for kind in (contents, lists):
        assert kind(tmp_path / "1") == kind(tmp_path / "2")
    assert contents(tmp_path / "1") != contents(tmp_path / "other seed")


# ---------------------------------------------------------------------------------------------------------------------
# every defect at once


def test_the_processes_take_no_code_from_the_folder_they_are_started_in(tmp_path):
    source, out, here = make_corpus(tmp_path / "in"), tmp_path / "out", tmp_path / "here"
    here.mkdir()
    for name in ("data", "h5py", "random", "selectors", "signal"):
        (here / f"{name}.py").write_text(f"open({str(tmp_path / 'PWNED')!r}, 'a').write(__name__ + '\\n')\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*command(source, Path("../out")), "--jobs", "2"], cwd=here, env=environment,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "PWNED").exists(), (tmp_path / "PWNED").read_text()
    assert len(contents(out)) == 2 * len(list(source.glob("*/*.wav")))


def make_dirty(folder):
    """A corpus with one of every defect; returns it and {file: what the message says}."""
    source = make_corpus(folder, {**GENDERS, "07": "male", "08": "diverse", "09": "male"})
    good = speech(1).tobytes()
    wrong = {
        "01/zero.wav": (wav_file(good), "got the name 'zero.wav'"),
        "01/5_02_0.wav": (wav_file(good), "a name with speaker 02 in the folder 01"),
        "01/3_01_0.wav": (b"", "an empty file"),
        "01/4_01_0.wav": (b"ID3" + bytes(500), "no RIFF/WAVE header"),
        "01/5_01_0.wav": (wav_file(good)[:2000], "truncated"),
        "01/6_01_0.wav": (wav_file(good, channels=2), "2 channels that differ"),
        "01/7_01_0.wav": (wav_file(good, bits=8, tag=6), "sample format 6"),
        "01/8_01_0.wav": (wav_file(b""), "no samples"),
        "01/9_01_0.wav": (wav_file(bytes(9000)), "silence"),
        "02/3_02_0.wav": (wav_file(speech(2, 1.5).tobytes()), "expected at most 1 s, got 1.500 s"),
        "02/4_02_0.wav": (wav_file((-abs(speech(3))).tobytes()), "95th percentile well above zero"),
        "02/5_02_0.wav": (wav_file(np.full(999, np.nan, "<f4").tobytes(), bits=32, tag=3), "NaN"),
    }
    for name, (blob, _) in wrong.items():
        (source / name).write_bytes(blob)
    (source / "02/6_02_0.wav").symlink_to("/nowhere")
    messages = {name: message for name, (_, message) in wrong.items()} | {"02/6_02_0.wav": "No such file"}
    # converted, because their meaning is plain
    eight = (speech(4) // 256 + 128).astype("u1")
    (source / "03/3_03_0.wav").write_bytes(wav_file(eight.tobytes(), bits=8))
    (source / "03/4_03_0.wav").write_bytes(wav_file((speech(5) / 32768).astype("<f4").tobytes(), bits=32, tag=3))
    meta = json.loads((source / "audioMNIST_meta.txt").read_text())
    del meta["07"]
    write_meta(source, meta)
    fold = {"train": ["01", "02"], "validate": ["03", "04"], "test": ["05", "06"]}
    splits = {
        "digit": [fold, {**fold, "test": ["05", "66"]}, {**fold, "test": ["05", "01"]}],
        "gender": [fold, {**fold, "train": ["01", "03"], "validate": ["09", "04"]}],
    }
    (source / "splits.json").write_text(json.dumps(splits))
    corpus_wide = [
        "got none for speaker 07 (3 recordings)",
        "expected male or female, got speaker 08 (3 recordings) with gender 'diverse'",
        "digit split 1: expected speakers of this corpus, got speaker 66 of test without any usable recording",
        "digit split 2: expected each speaker once, got speaker 01 2 times (train, test)",
        "gender split 1: expected two classes or more, got the class 'male' alone in train",
    ]
    return source, messages, corpus_wide


def test_every_defect_is_listed_at_once_and_nothing_valid_is_lost(tmp_path, capsys):
    source, messages, corpus_wide = make_dirty(tmp_path / "in")
    assert run(source, tmp_path / "out") == 1
    error = capsys.readouterr().err.splitlines()
    for name, message in messages.items():
        lines = [line for line in error if line.startswith(f"{name}: ")]
        assert len(lines) == 1 and message in lines[0] and ": expected " in lines[0], (name, lines)
    for message in corpus_wide:
        assert sum(message in line for line in error) == 1, message
    assert "Traceback" not in "\n".join(error)
    assert not lists(tmp_path / "out") and not (tmp_path / "out/rejected.csv").exists()
    valid = {f"{s}/{d}_{s}_0" for s in ("01", "02", "03", "04", "05", "06", "09") for d in range(3)}
    valid |= {"03/3_03_0", "03/4_03_0"}
    written = {f"{Path(n).parent}/{Path(n).stem.split('_', 1)[1]}" for n in contents(tmp_path / "out")}
    assert written == valid

    # the same with --skip-invalid: lists without them, and a table that says which and why
    assert run(source, tmp_path / "out", "--skip-invalid") == 0
    with open(tmp_path / "out/rejected.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {row["file"]: f"expected {row['expected']}, got {row['got']}" for row in rows}
    for name, message in messages.items():
        assert message in found[name]
    for speaker in ("07", "08"):
        assert all(f"speaker {speaker}" in found[f"{speaker}/{d}_{speaker}_0.wav"] for d in range(3))
    assert "speaker 66" in found["splits.json digit split 1"]
    listed = {line for text in lists(tmp_path / "out").values() for line in text.decode().split()}
    assert all((tmp_path / "out" / line).is_file() for line in listed)
    in_no_sound_split = {f"09/{d}_09_0" for d in range(3)}
    assert {f"{Path(n).parent}/{Path(n).stem.split('_', 1)[1]}" for n in listed} == valid - in_no_sound_split
    kinds = {tuple(name.split("_")[1:3]) for name in lists(tmp_path / "out")}
    assert kinds == {("digit", "0"), ("digit", "1"), ("gender", "0")}  # the leaking and the one-class split have none

    # and lists that no longer hold are removed
    assert run(source, tmp_path / "out") == 1
    assert not lists(tmp_path / "out") and len(contents(tmp_path / "out")) == 2 * len(valid)


@pytest.mark.parametrize("content, message", [("{", "invalid JSON"), (None, "no such file")])
def test_metadata_that_is_no_json(tmp_path, capsys, content, message):
    source = make_corpus(tmp_path / "in")
    (source / "audioMNIST_meta.txt").unlink()
    if content:
        (source / "audioMNIST_meta.txt").write_text(content)
    assert run(source, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1 and "audioMNIST_meta.txt" in error


def test_an_empty_source_and_misuse(tmp_path, capsys):
    source = make_corpus(tmp_path / "in", {})
    assert run(source, tmp_path / "out") == 1
    assert "expected recordings <speaker>/<digit>_<speaker>_<repetition>.wav, got none" in capsys.readouterr().err
    for wrong in (["--jobs", "0"], ["--seed", "x"], ["--unknown"]):
        with pytest.raises(SystemExit) as caught:
            run(source, tmp_path / "out", *wrong)
        assert caught.value.code == 2
    with pytest.raises(SystemExit) as caught:
        run(source, source)
    assert caught.value.code == 2


def test_no_split_left_is_a_failure(tmp_path, capsys):
    fold = {"train": ["01"], "validate": ["01"], "test": ["99"]}
    source = make_corpus(tmp_path / "in", splits={"digit": [fold]})
    assert run(source, tmp_path / "out", "--skip-invalid") == 1
    assert "expected at least one split that can be used" in capsys.readouterr().err


def test_a_task_beyond_the_paper(tmp_path):
    fold = {"train": ["01", "02"], "validate": ["03", "04"], "test": ["05", "06"]}
    tasks = {"age": {"label": "age", "classes": ["young", "old"], "bins": [0, 30, 99]}}
    source = make_corpus(tmp_path / "in", splits={"age": [fold], "tasks": tasks})
    write_meta(source, {s: {"gender": g, "age": 20 + 15 * (int(s) % 2)} for s, g in GENDERS.items()})
    assert run(source, tmp_path / "out") == 0
    with h5py.File(tmp_path / "out/05/AudioNet_2_05_0.hdf5") as file:
        assert file["label"][:].tolist() == [[2, 0, 1]]
    wanted = {f"{n}_age_0_{p}.txt" for n in inputs.NETWORKS for p in PARTS}
    assert set(lists(tmp_path / "out")) == wanted


# ---------------------------------------------------------------------------------------------------------------------
# crashes, changes, company


def test_a_killed_run_leaves_nothing_half_written_and_is_continued(tmp_path):
    source, out = make_corpus(tmp_path / "in", digits=range(10), repetitions=5), tmp_path / "out"
    assert run(source, tmp_path / "whole") == 0
    whole = contents(tmp_path / "whole")
    kills = 0
    for jobs in ("1", "2"):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command(source, out, "--jobs", jobs), **quiet)
        before = len(contents(out)) if out.exists() else 0
        while process.poll() is None and (not out.exists() or len(list(out.glob("*/*.hdf5"))) < before + 40):
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        time.sleep(0.2)  # its workers notice
        partial = contents(out)
        assert all(whole[name] == blob for name, blob in partial.items())
        assert not lists(out)
    assert kills and 0 < len(partial) < len(whole)
    # a line of the journal may be torn
    with open(out / JOURNAL, "a") as file:
        file.write("01/0_01")
    done = {path: path.stat().st_mtime_ns for path in out.glob("*/*.hdf5")}
    assert run(source, out) == 0
    assert contents(out) == whole and lists(out) == lists(tmp_path / "whole")
    kept = sum(path.stat().st_mtime_ns == stamp for path, stamp in done.items())
    assert kept >= len(done) - 4 * workers.CHUNK * len(inputs.NETWORKS)
    assert not list(out.rglob("*.part"))


def test_a_finished_run_does_nothing_again_but_mends_what_is_broken(tmp_path):
    source, out = make_corpus(tmp_path / "in"), tmp_path / "out"
    assert run(source, out) == 0
    first = contents(out)
    (out / "01/AlexNet_0_01_0.hdf5").write_bytes(b"")  # a power failure can do this
    (out / "02/AudioNet_1_02_0.hdf5").unlink()
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*/*.hdf5")}
    assert run(source, out) == 0
    assert contents(out) == first
    again = {path.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    assert again == {"AlexNet_0_01_0.hdf5", "AudioNet_0_01_0.hdf5", "AlexNet_1_02_0.hdf5"}


def test_after_a_power_failure_only_flushed_files_are_trusted(tmp_path, monkeypatch):
    source, out = make_corpus(tmp_path / "in"), tmp_path / "out"
    assert run(source, out) == 0
    journal = out / JOURNAL
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*/*.hdf5")}
    monkeypatch.setattr(journal_module, "boot", lambda: "another")
    assert run(source, out) == 0  # everything was flushed
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    text = journal.read_text()
    journal.write_text(text.replace(Journal.FLUSHED, ""))
    assert run(source, out) == 0  # nothing is known to have been
    assert all(path.stat().st_mtime_ns != stamp for path, stamp in stamps.items())


def test_changed_recordings_and_labels_are_noticed(tmp_path):
    source, out = make_corpus(tmp_path / "in"), tmp_path / "out"
    assert run(source, out) == 0
    (source / "01/0_01_0.wav").write_bytes(wav_file(speech(99).tobytes()))
    meta = json.loads((source / "audioMNIST_meta.txt").read_text())
    meta["01"]["gender"], meta["02"]["gender"] = "female", "male"
    write_meta(source, meta)
    assert run(source, out) == 0
    assert run(source, tmp_path / "fresh") == 0
    assert contents(out) == contents(tmp_path / "fresh")


@pytest.mark.parametrize("what", ["seed", "source"])
def test_other_parameters_are_refused_not_mixed(tmp_path, capsys, what):
    source, out = make_corpus(tmp_path / "in"), tmp_path / "out"
    assert run(source, out) == 0
    before = contents(out) | lists(out)
    capsys.readouterr()
    other = make_corpus(tmp_path / "other") if what == "source" else source
    assert run(other, out, "--seed", "1" if what == "seed" else "0") == 1
    error = capsys.readouterr().err
    assert f"got one made with {what}" in error and len(error.splitlines()) == 1
    assert contents(out) | lists(out) == before


@pytest.mark.parametrize("name", ["01/AlexNet_0_01_0.hdf5", "rejected.csv", ".movie.part", "AlexNet_digit_0_test.txt"])
def test_a_folder_of_unknown_origin_is_left_alone(tmp_path, capsys, name):
    source, out = make_corpus(tmp_path / "in"), tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_bytes(b"precious")
    assert run(source, out) == 1
    expected = "expected an empty folder, or one that preprocessing made"
    assert f"{out}: {expected}, got one with {name.split('/')[0]} and no preprocessing.json" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == {out / name: b"precious"}
    (out / name).unlink()
    if "/" not in name:
        assert run(source, out) == 0


def test_a_run_stopped_before_its_first_recording_is_continued(tmp_path, monkeypatch):
    source, out = make_corpus(tmp_path / "in"), tmp_path / "out"

    def stop(*_):
        raise KeyboardInterrupt

    for step in ("check_manifest", "remove_leftovers", "check_space"):
        with monkeypatch.context() as patched:
            patched.setattr(preprocessing, step, stop)
            assert run(source, out) == 130
    assert run(source, out) == 0


def test_a_lock_that_is_a_link_leaves_its_target_as_it_is(tmp_path):
    source, out, own = make_corpus(tmp_path / "in"), tmp_path / "out", tmp_path / "own.txt"
    own.write_text("precious")
    out.mkdir()
    (out / LOCK).symlink_to(own)
    assert run(source, out) == 0 and own.read_text() == "precious"


def test_two_runs_at_once(tmp_path, capsys):
    source, out = make_corpus(tmp_path / "in"), tmp_path / "out"
    assert run(source, out) == 0
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    other = subprocess.Popen([sys.executable, "-c", hold, out / LOCK], **pipes)
    try:
        other.stdout.readline()
        capsys.readouterr()
        assert run(source, out) == 1
        assert "expected a folder that no other preprocessing writes into" in capsys.readouterr().err
    finally:
        other.kill()
        other.communicate()
    assert run(source, out) == 0  # the dead hold nothing


@pytest.mark.parametrize("call", ["open", "write", "replace"])
def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(tmp_path, capsys, monkeypatch, call):
    source, out = make_corpus(tmp_path / "in"), tmp_path / "out"
    calls = 0
    real = getattr(os, call)

    def full(*arguments):
        nonlocal calls
        calls += 1
        if calls > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    monkeypatch.setattr(atomic.os, call, full)
    assert run(source, out) == 1
    error = capsys.readouterr().err
    assert "expected a writable folder with free space, got a full disk" in error and "Traceback" not in error
    partial = contents(out)
    assert 0 < len(partial) <= 5 and not list(out.rglob("*.part")) and not lists(out)
    monkeypatch.undo()
    assert run(source, out) == 0
    assert run(source, tmp_path / "whole") == 0
    assert contents(out) == contents(tmp_path / "whole") and partial.items() <= contents(out).items()


def test_too_little_space_is_said_before_the_work(tmp_path, capsys, monkeypatch):
    source = make_corpus(tmp_path / "in")
    usage = preprocessing.shutil.disk_usage(tmp_path)._replace(free=4_000_000)
    monkeypatch.setattr(preprocessing.shutil, "disk_usage", lambda _: usage)
    assert run(source, tmp_path / "out") == 1
    assert "0.0 GB free on the disk" in capsys.readouterr().err
    assert not contents(tmp_path / "out")


def test_ctrl_c_says_how_to_go_on(tmp_path):
    source, out = make_corpus(tmp_path / "in", digits=range(10), repetitions=5), tmp_path / "out"
    process = subprocess.Popen(
        command(source, out, "--jobs", "2"), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while process.poll() is None and (not out.exists() or len(list(out.glob("*/*.hdf5"))) < 20):
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)
    error = process.communicate()[1]
    assert process.returncode == 130, error
    assert "the same command continues" in error and "Traceback" not in error
