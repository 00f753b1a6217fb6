"""What counts as AudioMNIST and as the paper's training: everything else is no evidence, whatever its numbers."""

import json
import shutil

import pytest

from audiomnist.corpus.metadata import META_NAME
from audiomnist.corpus.splits import OFFICIAL_SPLITS, load_splits
from audiomnist.runs.render import Training, open_run
from audiomnist.runs.run_folder import RunName
from audiomnist.study import paper
from audiomnist.study.catalogue import names
from audiomnist.study.setting import Setting
from audiomnist.study.trained import TrainedRun
from tests.stand_in_engine import make_inputs

DATES = json.loads(paper.RECORDING_DATES.read_text())


def write_meta(folder, dates):
    folder.mkdir(exist_ok=True)
    (folder / META_NAME).write_text(json.dumps({s: {"gender": "male", "recordingdate": d} for s, d in dates.items()}))


def test_the_table_of_dates_is_of_audiomnist_s_speakers():
    everybody = {speaker for part in load_splits(OFFICIAL_SPLITS).folds["digit"][0].values() for speaker in part}
    assert everybody - set(DATES) == {"17", "22", "34"} and set(DATES) < everybody
    assert len(set(DATES.values())) == 57


def test_a_corpus_is_known_by_its_speakers_recording_dates(tmp_path):
    data = tmp_path / "data"
    assert "no metadata" in paper.other_corpus(data)
    write_meta(data, DATES)
    assert paper.other_corpus(data) is None
    write_meta(data, {**DATES, "17": "17-08-11-00-00-00", "01": "corrected later"})
    assert paper.other_corpus(data) is None
    write_meta(data, dict.fromkeys(DATES, "17-06-22-11-04-28"))
    assert paper.other_corpus(data) == "the recordings are not AudioMNIST"
    write_meta(data, dict(list(DATES.items())[:52]))  # nine in ten of 57 are 51.3
    assert paper.other_corpus(data) is None
    write_meta(data, dict(list(DATES.items())[:51]))
    assert paper.other_corpus(data) == "the recordings are not AudioMNIST"
    write_meta(data, DATES)
    (data / paper.DEMO_MANIFEST).touch()
    assert "demo" in paper.other_corpus(data)


@pytest.fixture(scope="module")
def audiomnist(tmp_path_factory):
    """As if AudioMNIST were preprocessed and AlexNet trained on gender as the paper does: only the files' names."""
    folder = tmp_path_factory.mktemp("audiomnist")
    write_meta(folder / "data", DATES)
    make_inputs(folder / "pre")
    splits = load_splits(OFFICIAL_SPLITS)
    for split, fold in enumerate(splits.folds["gender"]):
        for network in paper.NETWORKS:
            for part, speakers in fold.items():
                lines = [
                    f"{speaker}/{network}_{digit}_{speaker}_{repetition}.hdf5\n"
                    for speaker in speakers
                    for digit in range(10)
                    for repetition in range(50)
                ]
                (folder / "pre" / f"{network}_gender_{split}_{part}.txt").write_text("".join(lines))
        train(folder, split)
    return folder


def train(folder, split, **options):
    run = RunName("AlexNet", "gender", split)
    open_run(run, folder / "pre", folder / "runs" / str(run), "e", Training(**options))


def comparable(folder, splits=range(4), networks=("AlexNet",), pre="pre"):
    setting = Setting(folder / "data", folder / pre, folder / "runs")
    known = load_splits(setting.preprocessed / "splits.json")
    runs = []
    for split in splits:
        run = RunName("AlexNet", "gender", split)
        runs.append(TrainedRun(folder / "runs" / str(run), run, setting, known, folder / "weights"))
    return paper.not_comparable(setting, runs, "gender", networks)


def test_the_paper_s_own_training_on_audiomnist_is_comparable(audiomnist, tmp_path):
    assert comparable(audiomnist) is None
    assert comparable(audiomnist, networks=paper.NETWORKS) == "AudioNet is not trained on gender splits 0, 1, 2, 3"
    assert comparable(audiomnist, splits=(0, 1, 3)) == "AlexNet is not trained on gender split 2"
    moved = shutil.copytree(audiomnist, tmp_path / "moved")
    assert comparable(moved) is None
    (moved / "data" / META_NAME).write_text("{}")
    assert comparable(moved) == "the recordings are not AudioMNIST"


@pytest.mark.parametrize("options", [{"demo": True}, {"max_iter": 9_999}])
def test_another_training_is_not_comparable(audiomnist, tmp_path, options):
    folder = shutil.copytree(audiomnist, tmp_path / "own")
    shutil.rmtree(folder / "runs" / "AlexNet_gender_3")
    train(folder, 3, **options)
    assert comparable(folder).endswith("of AlexNet_gender_3 is not the paper's")
    shutil.rmtree(folder / "runs" / "AlexNet_gender_3")
    train(folder, 3, seed=5, snapshot=100)
    assert comparable(folder) is None


def test_other_splits_and_missing_recordings_are_not_comparable(audiomnist, tmp_path):
    folder = shutil.copytree(audiomnist, tmp_path / "own")
    path = folder / "pre" / "splits.json"
    content = json.loads(path.read_text())
    content["gender"][1]["test"], content["gender"][1]["validate"] = (
        content["gender"][1]["validate"],
        content["gender"][1]["test"],
    )
    path.write_text(json.dumps(content))
    assert comparable(folder) == "the splits of gender are not the authors'"
    folder = shutil.copytree(audiomnist, tmp_path / "fewer")
    path = folder / "pre" / "AlexNet_gender_1_test.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    shutil.rmtree(folder / "runs" / "AlexNet_gender_1")
    train(folder, 1)
    assert comparable(folder) == "AlexNet_gender_1 is tested on 2999 of AudioMNIST's 3000 recordings"


def test_every_part_of_the_paper_is_an_experiment_or_says_why_not():
    for part, experiment, remark in paper.PARTS_OF_THE_PAPER:
        assert part and (experiment in names() or remark.startswith("not reproduced, because"))
