"""corpus.validate, corpus.corrections, corpus.table: all dirt is found, AudioMNIST's is known, corrections apply."""

import dataclasses
import json
import re

import h5py
import numpy as np
import pandas as pd
import pytest
from small_corpus import GENDERS, make_corpus, speech, wav_file, write_meta

from audiomnist.corpus import attributes, corrections, layout, metadata, table, validate
from audiomnist.corpus.splits import Splits
from audiomnist.preprocessing import command

MARK = {"recordingdate": "17-06-22-11-04-28"}  # of AudioMNIST's first speaker
FOLD = {"train": ["01", "02"], "validate": ["03", "04"], "test": ["05", "06"]}


def findings(folder, capsys, *options):
    code = validate.main([str(folder), "--jobs", "1", "--json", *options])
    report = json.loads(capsys.readouterr().out)
    assert code == (1 if report["errors"] else 0)
    assert report["errors"] == sum(f["level"] == "error" for f in report["findings"])
    return report


def lines(report, level):
    return [f"{f['where']}: {f['got']}" for f in report["findings"] if f["level"] == level]


def test_a_sound_corpus(tmp_path, capsys):
    make_corpus(tmp_path, digits=range(10), repetitions=2)
    report = findings(tmp_path, capsys)
    assert report["findings"] == []
    wanted = {"recordings": 120, "usable": 120, "speakers": 6, "male": 3, "female": 3, "errors": 0}
    assert wanted.items() <= report.items()
    assert report["recordings of a speaker"] == [20, 20] and report["recordings of a digit"] == [12, 12]
    assert report["recordings of a repetition"] == [60, 60]
    assert report["formats"] == {"8000 Hz, 16 bits, 1 channel": 120}
    seconds = [len(path.read_bytes()) - 44 for path in tmp_path.glob("*/*.wav")]
    assert report["seconds"]["all"] == pytest.approx(sum(seconds) / 2 / 8000)
    assert report["seconds"]["longest"] == max(seconds) / 2 / 8000


def test_sounds(tmp_path, capsys):
    make_corpus(tmp_path, digits=range(10), repetitions=1)
    good = speech(1)
    clipped = np.clip(good.astype(int) * 6, -32768, 32767).astype("<i2")
    wrong = {
        "01/0_01_0.wav": wav_file(b""), "01/1_01_0.wav": wav_file(bytes(9000)), "01/2_01_0.wav": b"nothing",
        "01/3_01_0.wav": wav_file(speech(1, 1.2).tobytes()),
        "02/0_02_0.wav": wav_file(clipped.tobytes()),
        "02/1_02_0.wav": wav_file(good.tobytes(), before=b"LIST\x02\x00\x00\x00ab"),
        "02/2_02_0.wav": wav_file(good.tobytes()),  # the same samples in another file
        "02/3_02_0.wav": wav_file(speech(2, 0.5, 16000).tobytes(), 16000),
        "02/4_02_0.wav": wav_file(np.full(700, 900, "<i2").tobytes() + bytes(2)),
    }  # fmt: skip
    for name, blob in wrong.items():
        (tmp_path / name).write_bytes(blob)
    report = findings(tmp_path, capsys)
    assert lines(report, "error") == [
        "01/0_01_0.wav: no samples",
        "01/1_01_0.wav: silence (4500 samples, all 0)",
        "01/2_01_0.wav: no RIFF/WAVE header (the file begins with b'noth')",
        "01/3_01_0.wav: 1.200 s",
    ]
    found = lines(report, "warning")
    assert any(re.fullmatch(r"02/0_02_0.wav: \d+ samples in a row at the limit", line) for line in found)
    assert "02/2_02_0.wav: the same sound as 02/1_02_0.wav" in found
    assert "02/3_02_0.wav: 16000 Hz, 16 bits, 1 channel" in found
    assert "02/4_02_0.wav: 0.088 s" in found
    assert len(found) == 4


@pytest.mark.parametrize("end", [32767, -32767, -32768])
@pytest.mark.parametrize("run, clipped", [(3, True), (2, False)])
def test_clipping_is_seen_at_either_end_alone(tmp_path, end, run, clipped):
    samples = speech(1)
    samples[2000 : 2000 + run] = end
    path = tmp_path / "01/0_01_0.wav"
    path.parent.mkdir()
    path.write_bytes(wav_file(samples.tobytes()))
    (recording,), _ = layout.scan(tmp_path)
    found = [str(finding) for finding in validate.check_sounds([validate.listen(recording)])]
    said = "warning: 01/0_01_0.wav: expected no clipping, got 3 samples in a row at the limit"
    assert found == ([said] if clipped else [])


def test_the_gate_is_preprocessings(tmp_path, capsys):
    """Whatever preprocessing rejects is an error here, in the same words."""
    make_corpus(tmp_path / "in", splits={"digit": [FOLD]}, digits=range(10))
    (tmp_path / "in/01/0_01_0.wav").write_bytes(wav_file((-abs(speech(3))).tobytes()))
    (tmp_path / "in/02/x.wav").write_bytes(b"")
    write_meta(tmp_path / "in", {s: {"gender": g} for s, g in GENDERS.items() if s != "04"})
    report = findings(tmp_path / "in", capsys)
    assert command.main(["-src", str(tmp_path / "in"), "-dst", str(tmp_path / "out"), "--jobs", "1"]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if ": expected" in line and "defects" not in line]
    ours = [
        f"{f['where']}: expected {f['expected']}, got {f['got']}" for f in report["findings"] if f["level"] == "error"
    ]
    assert sorted(ours) == sorted(said) and len(ours) == 4  # 04 is missing, and absent from its split's part


def test_numbers(tmp_path, capsys):
    make_corpus(tmp_path, digits=range(10), repetitions=2)
    (tmp_path / "03/4_03_1.wav").unlink()
    assert lines(findings(tmp_path, capsys), "warning") == ["03/: 1 recordings missing (4_03_1)"]
    report = findings(tmp_path, capsys, "--repetitions", "1")
    assert "01/: 10 recordings too many (0_01_1, 1_01_1, 2_01_1 ...)" in lines(report, "warning")


def test_what_is_alike_is_said_once_unless_all_is_asked_for(tmp_path, capsys):
    """Six speakers lack seven digits each, one of them a further recording; two recordings are broken."""
    make_corpus(tmp_path, repetitions=2, splits={"digit": [FOLD]})
    (tmp_path / "03/1_03_1.wav").unlink()
    for name in ("01/0_01_0.wav", "02/0_02_0.wav"):
        (tmp_path / name).write_bytes(b"nothing")
    said = {}
    for options in ((), ("--verbose",)):
        assert validate.main([str(tmp_path), "--jobs", "1", *options]) == 1
        said[options] = capsys.readouterr().out.splitlines()
    expected = "expected 2 repetitions of 10 digits, got"
    assert [line for line in said[()] if expected in line] == [
        f"warning: 6 times (01/, 02/, 03/ ...): {expected} for example 14 recordings missing (3_01_0, 3_01_1, "
        "4_01_0 ...); audiomnist validate --verbose lists all"
    ]
    each = [line for line in said["--verbose",] if expected in line]
    assert [line.partition(":")[2].split(":")[0] for line in each] == [f" {speaker}/" for speaker in GENDERS]
    assert [line for line in said[()] if expected not in line] == [
        line for line in said["--verbose",] if expected not in line
    ]
    assert sum(line.startswith("error: 0") for line in said[()]) == 2
    assert said[()][-1] == said["--verbose",][-1] == "2 errors, 6 warnings"


def test_lines_of_what_is_alike_keep_their_place():
    defects = [layout.Defect(f"{k}.wav", "sound" if k % 2 else "a name", "none") for k in range(9)]
    assert layout.in_short(defects, verbose=True) == [str(defect) for defect in defects]
    assert layout.in_short(defects[:7]) == [
        "4 times (0.wav, 2.wav, 4.wav ...): expected a name, got none; audiomnist validate --verbose lists all",
        *map(str, defects[1:7:2]),
    ]
    assert layout.in_short([]) == []


def test_metadata_and_balance(tmp_path, capsys):
    unbalanced = {"train": ["01", "03", "05", "02"], "validate": ["04"], "test": ["06"]}
    make_corpus(tmp_path, digits=range(10), splits={"digit": [FOLD, unbalanced]})
    rooms = ["Kino", "VR-Room", "vr-room", "VR-room", "vr-romm", "Ruheraum"]
    meta = {s: {"gender": GENDERS[s], "age": 30, "recordingroom": room} for s, room in zip(GENDERS, rooms, strict=True)}
    meta["02"]["age"], meta["03"]["age"] = "31", "1234"
    meta["77"] = {"gender": "male"}
    write_meta(tmp_path, meta)
    wanted = [
        "audioMNIST_meta.txt: none of speaker 77",
        "audioMNIST_meta.txt: int, str",
        "audioMNIST_meta.txt: '1234'",
        "audioMNIST_meta.txt: 'VR-Room', 'VR-room', 'vr-romm', 'vr-room'",
        "splits.json digit split 1: 25% in train, 100% in validate, 100% in test",
    ]
    report = findings(tmp_path, capsys)
    assert lines(report, "warning") == wanted and not any(f["known"] for f in report["findings"])
    # the same in AudioMNIST's own metadata is named as known
    meta["01"] |= MARK
    write_meta(tmp_path, meta)
    report = findings(tmp_path, capsys)
    known = [f["expected"].split(" ")[:2] for f in report["findings"] if f["known"]]
    assert known == [["ages", "of"], ["an", "age"], ["one", "spelling"]]


def test_speakers_without_recordings_do_not_count_in_the_balance(tmp_path):
    """Of train's four speakers the woman has no recordings: of those present 0 % are women, not a quarter."""
    fold = {"train": ["m1", "m2", "m3", "absent"], "validate": ["m4", "w1"], "test": ["m5", "w2"]}
    meta = {
        speaker: {"gender": "male" if speaker[0] == "m" else "female"} for part in fold.values() for speaker in part
    }
    splits = Splits(tmp_path / "splits.json", {"digit": ({part: tuple(names) for part, names in fold.items()},)}, {})
    (finding,) = validate.check_balance(splits, meta, set(meta) - {"absent"})
    assert finding.got == "0% in train, 50% in validate, 50% in test"
    everybody = validate.check_balance(splits, meta, set(meta))
    assert everybody[0].got == "25% in train, 50% in validate, 50% in test"


@pytest.mark.parametrize("women, told", [(3, False), (4, True)])
def test_parts_may_differ_by_fifteen_percent(tmp_path, women, told):
    """Of ten to train on 2 are women; 3 of 10 tested differ by 10 %, 4 by 20 %."""
    fold = {
        part: tuple(f"{part} {n}{'w' if n < share else 'm'}" for n in range(10))
        for part, share in (("train", 2), ("validate", 2), ("test", women))
    }
    meta = {name: {"gender": "female" if name[-1] == "w" else "male"} for names in fold.values() for name in names}
    splits = Splits(tmp_path / "splits.json", {"digit": (fold,)}, {})
    assert bool(validate.check_balance(splits, meta, set(meta))) == told


@pytest.mark.parametrize("broken", ["audioMNIST_meta.txt", "splits.json"])
def test_broken_files_are_findings_among_others(tmp_path, capsys, broken):
    make_corpus(tmp_path, digits=range(10))
    (tmp_path / broken).write_text("{")
    (tmp_path / "01/0_01_0.wav").write_bytes(b"")
    errors = lines(findings(tmp_path, capsys), "error")
    assert len(errors) == 2 and errors[0] == "01/0_01_0.wav: an empty file" and "invalid JSON" in errors[1]


def test_the_numbers_of_nothing_are_zeros(tmp_path):
    numbers = validate.summary(tmp_path, [], {}, [])
    assert {numbers[f"recordings of a {what}"] == [0, 0] for what in ("speaker", "digit", "repetition")} == {True}
    assert numbers["seconds"] == {"shortest": 0, "longest": 0, "all": 0} and numbers["usable"] == 0


def test_no_corpus_and_plain_text(tmp_path, capsys):
    assert validate.main([str(tmp_path / "nowhere")]) == 1
    assert "expected a folder of recordings, got none" in capsys.readouterr().err
    make_corpus(tmp_path, digits=range(10))
    assert validate.main([str(tmp_path), "--jobs", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 errors, 0 warnings"


@pytest.mark.parametrize("values, groups", [
    (["a", "b"], []), (["German", "german"], [["German", "german"]]),
    (["vr-room", "vr-romm"], [["vr-room", "vr-romm"]]),
    (["South Korean", "South African", "South-Korean"], [["South Korean", "South-Korean"]]), (["Kino", "library"], []),
])  # fmt: skip
def test_spellings(values, groups):
    assert attributes.spellings(values) == groups


# ---------------------------------------------------------------------------------------------------------------------
# corrections


@pytest.fixture
def dirty(tmp_path):
    """A corpus with AudioMNIST's own mistakes."""
    genders = {"01": "male", "12": "female", "17": "male", "19": "male", "26": "female", "45": "male"}
    fold = {"train": ["01", "12"], "validate": ["17", "26"], "test": ["45", "19"]}
    make_corpus(tmp_path / "in", genders, digits=range(4), splits={"digit": [fold]})
    for digit in range(4):
        (tmp_path / f"in/19/{digit}_19_22.wav").write_bytes(wav_file(speech(digit).tobytes()))
    meta = {s: {"gender": g, "age": "1234" if s == "45" else 30} for s, g in genders.items() if s != "17"}
    meta["01"] |= MARK
    write_meta(tmp_path / "in", meta)
    return tmp_path / "in"


def test_corrections_are_off_by_default_and_listed_when_on(dirty, tmp_path, capsys):
    base = ["-src", str(dirty), "-dst", str(tmp_path / "out"), "--jobs", "1"]
    assert command.main(base) == 1
    assert "got none for speaker 17 (4 recordings)" in capsys.readouterr().err
    with h5py.File(tmp_path / "out/19/AudioNet_0_19_22.hdf5") as file:
        assert file["label"][0, 0] == 0
    assert command.main([*base, "--corrections"]) == 0
    log = [line for line in capsys.readouterr().err.splitlines() if line.startswith("corrected: ")]
    assert [line.split(" (")[0] for line in log] == [
        "corrected: speaker 17: gender None -> 'male'",
        "corrected: speaker 22: gender None -> 'male'",
        "corrected: speaker 34: gender None -> 'male'",
        "corrected: speaker 45: age '1234' -> None",
        "corrected: 19/0_19_22.wav: digit 0 -> 3",
    ]
    for name, label in (("19/AudioNet_0_19_22", 3), ("19/AudioNet_0_19_0", 0), ("17/AudioNet_2_17_0", 2)):
        with h5py.File(tmp_path / f"out/{name}.hdf5") as file:
            assert file["label"][:].tolist() == [[label, 0]]


def test_validate_names_what_is_known(dirty, capsys):
    report = findings(dirty, capsys)
    known = {f"{f['level']} {f['where']}" for f in report["findings"] if f["known"]}
    assert {"error audioMNIST_meta.txt", "warning 19/0_19_22.wav"} <= known
    corrected = findings(dirty, capsys, "--corrections")
    assert corrected["errors"] == 0 and len(corrected["corrected"]) == 4
    assert not any(f["known"] and "19" in f["where"] for f in corrected["findings"])


def test_other_corpora_are_not_corrected(tmp_path, capsys):
    make_corpus(tmp_path, {"17": "female", "45": "male", **GENDERS}, digits=range(10), splits={"digit": [FOLD]})
    meta = metadata.read_metadata(tmp_path / metadata.META_NAME)
    corrected, log = corrections.correct_metadata(meta, corrections.load_corrections())
    assert corrected == meta and log == ["nothing: the corrections are for another corpus"]


def test_every_command_takes_corrections_of_a_file(dirty, tmp_path, capsys):
    mark = {"speaker": "01", **MARK}
    entry = {"digit": 2, "why": "heard"}
    content = {"speakers": {"17": {"gender": "male"}}, "recordings": {"1_01_0.wav": entry}, "only where": mark}
    content["speakers"]["17"]["why"] = "asked"
    path = tmp_path / "own.json"
    path.write_text(json.dumps(content))
    csv = tmp_path / "table.csv"
    assert table.main([str(dirty), "--csv", str(csv), "--corrections", str(path)]) == 0
    rows = pd.read_csv(csv).set_index("path")
    assert rows["digit"]["01/1_01_0.wav"] == 2 and rows["digit"]["01/2_01_0.wav"] == 2
    assert rows["digit"]["19/0_19_22.wav"] == 0 and rows["gender"]["17/0_17_0.wav"] == "male"
    capsys.readouterr()
    assert len(findings(dirty, capsys, "--corrections", str(path))["corrected"]) == 1
    options = ["-src", str(dirty), "-dst", str(tmp_path / "out"), "--jobs", "1"]
    assert command.main([*options, "--corrections", str(path)]) == 0
    with h5py.File(tmp_path / "out/01/AudioNet_1_01_0.hdf5") as file:
        assert file["label"][0, 0] == 2


def test_a_file_that_is_no_corrections(tmp_path):
    (tmp_path / "c.json").write_text('{"speakers": {}}')
    with pytest.raises(layout.CorpusError, match=r"c.json: expected corrections"):
        corrections.load_corrections(tmp_path / "c.json")


# ---------------------------------------------------------------------------------------------------------------------
# the table


def test_the_table_has_proper_types_and_no_dirt(tmp_path):
    make_corpus(tmp_path, digits=(0, 7), repetitions=2)
    meta = {
        "01": {"gender": "male", "age": "30", "accent": "german", "native speaker": "no", "recordingroom": "VR-Room",
               "origin": "Europe,  Germany ", "recordingdate": "17-06-22-11-04-28"},
        "02": {"gender": "Female", "age": 1234, "accent": "German", "native speaker": "YES",
               "recordingroom": "vr-room"},
        "03": {"gender": "?", "age": "x", "accent": "German", "recordingroom": "vr-room", "recordingdate": "never"},
        "04": {},
    }  # fmt: skip
    write_meta(tmp_path, meta)
    (tmp_path / "05/0_05_0.wav").write_bytes(b"broken")
    frame = table.corpus_table(tmp_path)
    assert len(frame) == 24 and list(frame.columns) == [
        "path", "speaker", "digit", "repetition", "seconds", "rate", "gender", "age", "accent", "native_speaker",
        "origin", "room", "date",
    ]  # fmt: skip
    first = frame.groupby("speaker").first()
    assert first.loc["01"].to_dict() == {
        "path": "01/0_01_0.wav", "digit": 0, "repetition": 0, "seconds": first.loc["01", "seconds"], "rate": 8000,
        "gender": "male", "age": 30, "accent": "German", "native_speaker": False, "origin": "Europe, Germany",
        "room": "vr-room", "date": pd.Timestamp("2017-06-22 11:04:28"),
    }  # fmt: skip
    assert first.loc["02", "gender"] == "female" and first.loc["02", "native_speaker"]
    assert pd.isna(first.loc["02", "age"])
    assert first.loc[["03", "04", "06"], ["gender", "age", "date"]].isna().all(axis=None)
    assert first.loc["03", "room"] == "vr-room"
    broken = frame.set_index("path")["seconds"]
    assert pd.isna(broken["05/0_05_0.wav"]) and broken.notna().sum() == 23
    samples = (len((tmp_path / "06/7_06_1.wav").read_bytes()) - 44) / 2
    assert broken["06/7_06_1.wav"] == samples / 8000


def test_the_figure_shows_the_tables_numbers(tmp_path):
    make_corpus(tmp_path, digits=(0, 7))
    assert table.main([str(tmp_path), "--figure", str(tmp_path / "c.png"), "--csv", str(tmp_path / "c.csv")]) == 0
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG" and len(pd.read_csv(tmp_path / "c.csv")) == 12
    figure = table.draw_corpus(table.corpus_table(tmp_path))
    by_digit, genders, by_speaker, ages = figure.axes
    assert [t.get_text() for t in by_digit.get_xticklabels()] == ["0", "7"]
    assert [t.get_text() for t in by_speaker.get_xticklabels()] == list(GENDERS)
    assert sorted(bar.get_height() for bar in genders.patches) == [3, 3]
    assert sum(bar.get_height() for bar in ages.patches) == 6
    assert figure.get_suptitle().startswith("12 recordings, 6 speakers")


def test_a_large_corpus_has_a_legible_picture():
    rng, rows = np.random.default_rng(0), []
    for speaker in range(60):
        about = {"speaker": f"{speaker:02}", "gender": (None, "female", "male")[speaker % 3], "age": 20 + speaker}
        rows += [{**about, "digit": digit, "seconds": rng.uniform(0.5, 0.6)} for digit in range(10)]
    frame = pd.DataFrame(rows)
    frame.loc[frame["speaker"] == "05", "age"] = None
    frame.loc[7, "seconds"] = 9.0  # far off: not drawn, or all the boxes would be flat
    figure = table.draw_corpus(frame)
    by_digit, genders, by_speaker, ages = figure.axes
    assert by_digit.get_ylim()[1] < 0.7 and by_speaker.get_ylim()[1] < 0.7
    assert [label.get_text() for label in by_speaker.get_xticklabels() if label.get_visible()] == [
        f"{number:02}" for number in range(0, 60, 2)
    ]
    assert genders.get_ylim() == (0, pytest.approx(20 * 1.1)) and genders.get_title() == "gender"
    assert ages.get_title() == "age (1 unknown)" and ages.get_xlabel() == "years" and ages.get_ylabel() == "speakers"
    assert sum(bar.get_height() for bar in ages.patches) == 59


def test_nothing_is_known_of_a_corpus_unless_it_is_said_to_be():
    plain = validate.Finding("error", "a.wav", "a sound", "none")
    assert str(plain) == "error: a.wav: expected a sound, got none"
    assert str(dataclasses.replace(plain, known=True)) == f"{plain} (known of AudioMNIST)"
