"""data.corpus and data.make_splits: the grammar, the official folds, tasks, and what is wrong with splits."""

import json
import math
from itertools import combinations

import pytest
from small_corpus import GENDERS, make_corpus, speech, wav_file

from audiomnist.corpus import layout, make_splits, metadata, table
from audiomnist.corpus.splits import OFFICIAL_SPLITS, PARTS, check_splits, find_splits, load_splits, members

FEMALE = {12, 26, 28, 36, 43, 47, 52, 56, 57, 58, 59, 60}


# ---------------------------------------------------------------------------------------------------------------------
# AudioMNIST's folds: facts of the paper, restated by other means than the file's


def speakers(split):
    return [set(map(int, split[part])) for part in PARTS]


def test_official_digit_splits():
    splits = load_splits(OFFICIAL_SPLITS).folds["digit"]
    assert len(splits) == 5
    for k, split in enumerate(splits):
        train, validate, test = speakers(split)
        assert (len(train), len(validate), len(test)) == (36, 12, 12)
        assert train | validate | test == set(range(1, 61))
        following = speakers(splits[(k + 1) % 5])
        assert following[1] == test and following[2] <= train and validate <= following[0]  # the folds move on by one
    tests = [speakers(split)[2] for split in splits]
    assert not any(a & b for a, b in combinations(tests, 2))
    assert tests[0] == {26, 52, 60, 18, 32, 42, 5, 13, 22, 33, 45, 51}  # F5
    assert {56, 16} < tests[1] and {57, 54} < tests[2] and {43, 30} < tests[3] and {12, 50} < tests[4]


def test_official_gender_splits():
    splits = load_splits(OFFICIAL_SPLITS).folds["gender"]
    assert len(splits) == 4
    for k, split in enumerate(splits):
        train, validate, test = speakers(split)
        for part, size in ((train, 6), (validate, 3), (test, 3)):
            assert len(part & FEMALE) == len(part - FEMALE) == size
        assert (train | validate | test) & FEMALE == FEMALE
        assert speakers(splits[(k + 3) % 4])[2] == validate  # B C D A: tests A, validates D, and so on
    assert [speakers(split)[2] for split in splits] == [
        {58, 59, 60, 7, 23, 38}, {36, 47, 56, 2, 44, 50}, {26, 12, 57, 25, 37, 45}, {43, 28, 52, 48, 53, 41},
    ]  # fmt: skip


def test_official_tasks_have_caffes_two_columns():
    splits = load_splits(OFFICIAL_SPLITS)
    assert splits.columns == ("digit", "gender") and splits.column("digit") == 0 and splits.column("gender") == 1
    assert splits.labels(7, {"gender": "female"}) == [7, 1] and splits.labels(0, {"gender": " Male"}) == [0, 0]


# ---------------------------------------------------------------------------------------------------------------------
# the grammar


def test_scanning_finds_every_recording_and_names_everything_else(tmp_path):
    make_corpus(tmp_path, {"01": "male", "b2": "female"}, digits=(0, 9), repetitions=11)
    wav = wav_file(speech(1).tobytes())
    wrong = {
        "01/10_01_0.wav": "the name", "01/1_01_01.wav": "the name", "01/1_01_0.WAV": "the name", "01/one.wav": "name",
        "01/1_b2_0.wav": "a name with speaker b2 in the folder 01", "1_01_0.wav": "not in a speaker's folder",
        "01/deeper/1_deeper_0.wav": "not in a speaker's folder", "x y/1_x y_0.wav": "the name",
    }  # fmt: skip
    for name in [*wrong, "01/.hidden.wav", ".trash/1_01_0.wav", "01/notes.txt"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(wav)
    found, defects = layout.scan(tmp_path)
    grid = [(s, d, r) for s in ("01", "b2") for d in (0, 9) for r in range(11)]
    assert [r.relative for r in found] == [f"{s}/{d}_{s}_{r}.wav" for s, d, r in grid]
    assert all(r.path.is_file() for r in found)
    assert {d.where: d.recordings for d in defects} == {name: (name,) for name in wrong}
    for defect in defects:
        assert wrong[defect.where] in defect.got and defect.expected == layout.GRAMMAR


def test_a_speakers_folder_may_be_a_link_and_links_may_be_circles(tmp_path):
    make_corpus(tmp_path / "real", {"01": "male"})
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/01").symlink_to(tmp_path / "real/01", target_is_directory=True)
    (tmp_path / "linked/loop").symlink_to(tmp_path / "linked", target_is_directory=True)
    found, _ = layout.scan(tmp_path / "linked")
    assert len(found) == 3


def test_a_corpus_that_is_none():
    with pytest.raises(layout.CorpusError, match="/nowhere: expected a folder of recordings, got none"):
        layout.scan("/nowhere")
    with pytest.raises(layout.CorpusError, match="expected a folder of recordings, got a file"):
        layout.scan(__file__)


# ---------------------------------------------------------------------------------------------------------------------
# metadata


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "no such file"),
        (b"{'01': 1}", "invalid JSON"),
        (b"[1]", "a JSON list"),
        (b'{"01": "male"}', "got speaker 01 with 'male'"),
        (b"\xff\xfe\x00", "no UTF-8 text"),
    ],
)
def test_metadata_that_is_none(tmp_path, content, message):
    path = tmp_path / "meta.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(layout.CorpusError, match=message):
        metadata.read_metadata(path)


def test_speakers_without_a_usable_gender(tmp_path):
    make_corpus(tmp_path, digits=(1,))
    said = {"01": "MALE ", "03": "m", "04": None, "05": "female"}
    meta = {"02": {}} | {speaker: {"gender": gender} for speaker, gender in said.items()}
    found, _ = layout.scan(tmp_path)
    defects = metadata.check_metadata(found, meta, tmp_path / "m.txt")
    assert [str(d) for d in defects] == [
        "m.txt: expected male or female, got speaker 02 (1 recording) with no gender",
        "m.txt: expected male or female, got speaker 03 (1 recording) with gender 'm'",
        "m.txt: expected male or female, got speaker 04 (1 recording) with no gender",
        "m.txt: expected an entry with a gender for every speaker, got none for speaker 06 (1 recording)",
    ]
    assert [d.recordings for d in defects] == [(f"{s}/1_{s}_0.wav",) for s in ("02", "03", "04", "06")]


# ---------------------------------------------------------------------------------------------------------------------
# splits and tasks

FOLD = {"train": ["01", "02"], "validate": ["03", "04"], "test": ["05", "06"]}


def load(tmp_path, content):
    path = tmp_path / "s.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return load_splits(path)


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "invalid JSON"),
        ([], "a JSON list"),
        ({}, "no task with splits"),
        ({"digit": {}}, "digit: expected a list of splits, got {}"),
        ({"digit": []}, r"digit: expected a list of splits, got \[\]"),
        ({"digit": [{"train": [], "test": []}]}, "digit split 0: expected exactly train, validate, test, got "),
        ({"digit": [{**FOLD, "extra": []}]}, "extra"),
        ({"digit": [FOLD, {**FOLD, "test": [5]}]}, "digit split 1 test: expected a list of speakers as text, got .5."),
        ({"accent": [FOLD]}, "task 'accent': expected an entry under tasks"),
        ({"a b": [FOLD]}, "expected tasks named .*, got 'a b'"),
        ({"accent": [FOLD], "tasks": {"accent": 3}}, "task 'accent': expected an object .*, got 3"),
        ({"accent": [FOLD], "tasks": {"accent": {"label": "accent"}}}, "classes None"),
        ({"accent": [FOLD], "tasks": {"accent": {"label": "accent", "classes": ["x"]}}}, "1 class"),
        ({"accent": [FOLD], "tasks": {"accent": {"label": "accent", "classes": ["x", "x"]}}}, "different names"),
        ({"a": [FOLD], "tasks": {"a": {"label": "age", "classes": ["x", "y"], "bins": [1, 2]}}}, "3 rising numbers"),
        ({"a": [FOLD], "tasks": {"a": {"label": "age", "classes": ["x", "y"], "bins": [1, 3, 2]}}}, "rising"),
        ({"a": [FOLD], "tasks": {"a": {"label": "age", "classes": ["x", "y"], "bins": [1, 2, math.inf]}}}, "no number"),
        ({"a": [FOLD], "tasks": {"a": {"label": "age", "classes": ["x", "y"], "bins": [1, 2, "3"]}}}, "rising"),
        ({"a": [FOLD], "tasks": {"a": {"label": "b", "classes": ["x", "y"], "groups": {"x": []}}}}, "for each class"),
        ({"a": [FOLD], "tasks": {"a": {"label": "b", "classes": ["x", "y"], "typo": 1}}}, "unknown key 'typo'"),
        ({"a": [FOLD], "tasks": {"a": {"label": "digit", "classes": ["x", "y"]}}}, "the digits themselves"),
        (
            {"digit": [FOLD], "tasks": {"digit": {"label": "digit", "classes": ["1", "0"]}}},
            "the paper's, or another",
        ),
    ],
)
def test_splits_that_cannot_be_read(tmp_path, content, message):
    with pytest.raises(layout.CorpusError, match=message) as caught:
        load(tmp_path, content)
    assert "s.json: " in str(caught.value) and ": expected " in str(caught.value)


TASKS = {
    "accent": {"label": "accent", "classes": ["German", "other"], "groups": {"German": ["german"], "other": ["*"]}},
    "native": {"label": "native speaker", "classes": ["no", "yes"]},
    "age": {"label": "age", "classes": ["young", "old"], "bins": [18, 30, 99]},
    "yesno": {"label": "digit", "classes": ["0", "1"]},
    "digits-again": {"label": "digit", "classes": list("0123456789")},
}


def test_tasks_beyond_the_paper_append_label_columns(tmp_path):
    splits = load(tmp_path, {**{name: [FOLD] for name in TASKS}, "digit": [FOLD], "tasks": TASKS})
    assert splits.columns == ("digit", "gender", "accent", "native", "age", "yesno")
    assert splits.column("digits-again") == 0 and splits.column("accent") == 2  # equal definitions share a column
    entry = {"gender": "male", "accent": " GERMAN", "native speaker": "Yes", "age": "30"}
    assert splits.labels(4, entry) == [4, 0, 0, 1, 1, -1]
    assert splits.labels(1, {"gender": "female", "accent": "Tamil", "age": 29}) == [1, 1, 1, -1, 0, 1]
    assert splits.labels(1, {"age": "1234"})[4] == -1 and splits.labels(1, {"age": "?"})[4] == -1
    path = tmp_path / "again.json"
    path.write_text(splits.to_json())
    again = load_splits(path)
    assert again.folds == splits.folds and again.tasks == splits.tasks and again.columns == splits.columns


def test_members_are_the_recordings_of_the_parts_speakers_with_a_class(tmp_path):
    splits = load(tmp_path, {"yesno": [{**FOLD, "train": ["02", "01"]}], "tasks": {"yesno": TASKS["yesno"]}})
    found, _ = layout.scan(make_corpus(tmp_path / "c", digits=(0, 1, 2), repetitions=2))
    rows = [(r, splits.labels(r.digit, {"gender": "male"})) for r in found]
    names = [(r.stem, label) for r, label in members(splits, "yesno", 0, "train", rows)]
    assert names == [(f"{d}_{s}_{r}", d) for s in ("02", "01") for d in (0, 1) for r in (0, 1)]


def check(tmp_path, split, task="gender", genders=GENDERS, **tasks):
    splits = load(tmp_path, {task: [split], "tasks": tasks})
    found, _ = layout.scan(make_corpus(tmp_path / "c", genders))
    meta = {s: {"gender": g, "age": 20} for s, g in genders.items()}
    rows = [(r, splits.labels(r.digit, meta[r.speaker])) for r in found]
    defects, unusable = check_splits(splits, rows, meta)
    return [str(d) for d in defects], unusable


def test_sound_splits_have_no_defects(tmp_path):
    assert check(tmp_path, FOLD) == ([], set())


def test_absent_speakers_are_named_and_the_rest_is_usable(tmp_path):
    defects, unusable = check(tmp_path, {**FOLD, "test": ["05", "06", "77", "88"]})
    got = "speakers 77, 88 of test without any usable recording"
    assert defects == [f"s.json gender split 0: expected speakers of this corpus, got {got}"] and unusable == set()


def test_a_speaker_on_both_sides_makes_a_split_unusable(tmp_path):
    defects, unusable = check(tmp_path, {**FOLD, "test": ["05", "06", "01"]})
    assert defects == ["s.json gender split 0: expected each speaker once, got speaker 01 2 times (train, test)"]
    assert unusable == {("gender", 0)}


@pytest.mark.parametrize("part, fatal", [("train", True), ("validate", False), ("test", False)])
def test_one_class_only(tmp_path, part, fatal):
    split = {"train": ["01", "02"], "validate": ["03", "04"], "test": ["05", "06"]}
    split[part] = split[part][:1]
    defects, unusable = check(tmp_path, split)
    assert defects == [f"s.json gender split 0: expected two classes or more, got the class 'male' alone in {part}"]
    assert unusable == ({("gender", 0)} if fatal else set())


def test_an_empty_part_makes_a_split_unusable(tmp_path):
    defects, unusable = check(tmp_path, {**FOLD, "validate": []})
    assert defects == ["s.json gender split 0: expected recordings in every part, got no recording in validate"]
    assert unusable == {("gender", 0)}


def test_a_speaker_without_a_class_is_named(tmp_path):
    age = {"label": "age", "classes": ["young", "old"], "bins": [30, 40, 50]}
    defects, _ = check(tmp_path, FOLD, task="age", age=age)
    got = "speaker 01 of train, whose age is 20"
    assert f"s.json age split 0: expected speakers of the task's classes (young, old), got {got}" in defects


# ---------------------------------------------------------------------------------------------------------------------
# made splits


@pytest.mark.parametrize("men, women, folds", [(48, 12, 5), (48, 12, 4), (5, 3, 3), (3, 7, 4), (30, 0, 3), (10, 2, 5)])
@pytest.mark.parametrize("seed", [0, 1])
def test_made_splits_are_disjoint_complete_and_balanced(men, women, folds, seed):
    genders = {f"m{i}": 0 for i in range(men)} | {f"w{i}": 1 for i in range(women)}
    splits = make_splits.make_splits(genders, folds, seed)
    assert splits == make_splits.make_splits(dict(reversed(genders.items())), folds, seed)  # order does not matter
    assert ("gender" in splits.folds) == (min(men, women) >= folds)
    for task, made in splits.folds.items():
        everybody = sorted(genders) if task == "digit" else sorted(s for f in made for s in f["test"])
        assert sorted(s for f in made for s in f["test"]) == everybody  # everybody is tested once
        assert sorted(s for f in made for s in f["validate"]) == everybody
        for fold in made:
            assert sorted(fold["train"] + fold["validate"] + fold["test"]) == everybody
        for gender in (0, 1):
            numbers = [sum(genders[s] == gender for s in f["test"]) for f in made]
            assert max(numbers) - min(numbers) <= 1
        sizes = [len(f["test"]) for f in made]
        assert max(sizes) - min(sizes) <= (1 if task == "digit" else 2)
        if task == "gender":
            assert all(sum(genders[s] for s in f[p]) * 2 == len(f[p]) for f in made for p in PARTS)


def test_folds_take_turns_as_the_papers_do():
    """Folds 1 to 5; split k tests on fold k + 5, validates on k + 4, trains on k + 1 to k + 3, wrapped after 5."""
    made = make_splits.rotate([["1"], ["2"], ["3"], ["4"], ["5", "6"]])
    assert [(split["train"], split["validate"], split["test"]) for split in made] == [
        (("1", "2", "3"), ("4",), ("5", "6")),
        (("2", "3", "4"), ("5", "6"), ("1",)),
        (("3", "4", "5", "6"), ("1",), ("2",)),
        (("4", "5", "6", "1"), ("2",), ("3",)),
        (("5", "6", "1", "2"), ("3",), ("4",)),
    ]


def test_speakers_are_dealt_in_turn_and_the_next_gender_goes_on():
    assert make_splits.deal([["a", "b", "c", "d"], ["e", "f"]], 3) == [["a", "d"], ["b", "e"], ["c", "f"]]


def test_the_folds_of_a_seed_stay_what_they_are():
    """Another order would move speakers between training and testing of everybody's corpus.

    Python's shuffle makes e a c g of the men and b f d of the women, who are dealt first: b e g, f a and d c.
    """
    genders = {"a": 0, "b": 1, "c": 0, "d": 1, "e": 0, "f": 1, "g": 0}
    made = make_splits.make_splits(genders, 3, 0)
    assert [split["test"] for split in made.folds["digit"]] == [("d", "c"), ("b", "e", "g"), ("f", "a")]
    assert [split["test"] for split in made.folds["gender"]] == [("c", "d"), ("e", "b"), ("a", "f")]


def test_other_seeds_give_other_splits():
    genders = {f"m{i}": 0 for i in range(10)}
    assert make_splits.make_splits(genders, 3, 0).folds != make_splits.make_splits(genders, 3, 1).folds


def test_the_command_writes_splits_and_overwrites_none(tmp_path, capsys):
    make_corpus(tmp_path)
    assert make_splits.main([str(tmp_path), "--make-splits", "3"]) == 1
    assert "expected no such file, or --force to replace it, got one" in capsys.readouterr().err
    assert make_splits.main([str(tmp_path), "--make-splits", "3", "--force"]) == 0
    splits = find_splits(tmp_path)
    assert set(splits.folds) == {"digit", "gender"} and len(splits.folds["digit"]) == 3
    assert make_splits.main([str(tmp_path), "--make-splits", "2", "--force"]) == 1
    assert "expected 3 or more folds" in capsys.readouterr().err
    assert make_splits.main([str(tmp_path), "--make-splits", "7", "--force"]) == 1
    assert find_splits(tmp_path).folds == splits.folds


# ---------------------------------------------------------------------------------------------------------------------
# the table of speakers


def test_a_table_of_nobody_has_the_columns_of_any_other():
    everybody, nobody = table.speaker_table({"01": {"gender": "female", "age": 33}}), table.speaker_table({})
    assert len(nobody) == 0 and nobody.index.name == everybody.index.name == "speaker"
    assert dict(nobody.dtypes) == dict(everybody.dtypes) and list(nobody.columns) == list(everybody.columns)
    assert list(nobody.columns) == ["gender", "age", "accent", "native_speaker", "origin", "room", "date"]
