"""Facts of the paper and of the formats, written down here a second time and compared with what the code does.

Nothing on the left side comes from the code: the figures are the paper's and its authors' files', the formats Caffe's
and ours. Architectures, fillers and solvers are compared in tests/audiomnist/runs/test_models.py, in the same way.
"""

import json
import math
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import scipy.signal

from audiomnist.corpus import demo_corpus, layout, metadata
from audiomnist.corpus.splits import OFFICIAL_SPLITS, PARTS, load_splits
from audiomnist.experiments import gender_hypothesis
from audiomnist.experiments.corpus import PAPER
from audiomnist.preprocessing import command
from audiomnist.preprocessing.lists import list_name
from audiomnist.recording import record
from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.summary import mean_and_deviation
from audiomnist.signal import inputs
from audiomnist.signal.geometry import SPECTROGRAM, WAVEFORM
from caffe_proto import caffe_pb2
from tests.small_corpus import make_corpus, speech, wav_file

FEMALE = {12, 26, 28, 36, 43, 47, 52, 56, 57, 58, 59, 60}
MALES_OF_THE_GENDER_TASK = {2, 7, 23, 25, 37, 38, 41, 44, 45, 48, 50, 53}
DIGIT_FOLDS = {
    1: {28, 56, 7, 19, 35, 1, 6, 16, 23, 34, 46, 53},
    2: {36, 57, 9, 24, 37, 2, 8, 17, 29, 39, 48, 54},
    3: {43, 58, 14, 25, 38, 3, 10, 20, 30, 40, 49, 55},
    4: {12, 47, 59, 15, 27, 41, 4, 11, 21, 31, 44, 50},
    5: {26, 52, 60, 18, 32, 42, 5, 13, 22, 33, 45, 51},
}
GENDER_FOLDS = {
    "A": {58, 59, 60, 7, 23, 38},
    "B": {36, 47, 56, 2, 44, 50},
    "C": {26, 12, 57, 25, 37, 45},
    "D": {43, 28, 52, 48, 53, 41},
}
SPLITS = {  # folds to train on, to validate on, to test on
    "digit": [([1, 2, 3], [4], [5]), ([2, 3, 4], [5], [1]), ([3, 4, 5], [1], [2]), ([4, 5, 1], [2], [3]),
              ([5, 1, 2], [3], [4])],
    "gender": [("BC", "D", "A"), ("CD", "A", "B"), ("DA", "B", "C"), ("AB", "C", "D")],
}  # fmt: skip
FOLDS = {"digit": DIGIT_FOLDS, "gender": GENDER_FOLDS}
PUBLISHED = {
    ("AlexNet", "digit"): (95.82, 1.49), ("AlexNet", "gender"): (95.87, 2.85),
    ("AudioNet", "digit"): (92.53, 2.04), ("AudioNet", "gender"): (91.74, 8.60),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# who speaks, and who trains, validates and tests


def test_the_folds_written_here_are_consistent():
    assert set.union(*DIGIT_FOLDS.values()) == set(range(1, 61)) and all(len(f) == 12 for f in DIGIT_FOLDS.values())
    assert set.union(*GENDER_FOLDS.values()) == FEMALE | MALES_OF_THE_GENDER_TASK
    assert all(len(fold & FEMALE) == len(fold - FEMALE) == 3 for fold in GENDER_FOLDS.values())


@pytest.mark.parametrize("task", SPLITS)
def test_the_official_splits(task):
    official = load_splits(OFFICIAL_SPLITS).folds
    assert set(official) == set(SPLITS)
    found = [[{int(name) for name in split[part]} for part in PARTS] for split in official[task]]
    folds = FOLDS[task]
    assert found == [[set.union(*(folds[name] for name in part)) for part in split] for split in SPLITS[task]]
    assert all(len(split[part]) == len(set(split[part])) for split in official[task] for part in PARTS)


def test_what_the_official_splits_parts_are_called():
    assert PARTS == ("train", "validate", "test")


@pytest.mark.parametrize("task, sizes", [("digit", (18_000, 6_000, 6_000)), ("gender", (6_000, 3_000, 3_000))])
def test_sizes_of_the_official_splits(task, sizes):
    """Each speaker says ten digits fifty times."""
    for split in load_splits(OFFICIAL_SPLITS).folds[task]:
        assert tuple(len(split[part]) * 10 * 50 for part in PARTS) == sizes


def test_labels():
    """Digit first, gender second; male is 0 and female 1; speakers are numbered with two digits."""
    splits = load_splits(OFFICIAL_SPLITS)
    assert splits.columns == ("digit", "gender") and metadata.GENDERS == ("male", "female")
    assert splits.tasks["digit"].classes == tuple("0123456789") and splits.tasks["gender"].classes == ("male", "female")
    assert splits.labels(7, {"gender": "male"}) == [7, 0] and splits.labels(3, {"gender": "female"}) == [3, 1]
    assert {name for split in splits.folds["digit"] for name in split["test"]} == {f"{n:02d}" for n in range(1, 61)}


def test_the_corpus_in_the_papers_figures():
    assert PAPER == {
        "recordings": 30_000, "speakers": 60, "female speakers": 12, "male speakers": 48, "hours": 9.5,
    }  # fmt: skip
    assert metadata.META_NAME == "audioMNIST_meta.txt"
    assert "".join(layout.DIGITS) == "0123456789"


def test_the_demo_corpus_has_audiomnists_speakers():
    assert demo_corpus.SAMPLE_RATE == 48_000 and demo_corpus.SPEAKERS == 60 and set(demo_corpus.FEMALE) == FEMALE


# ---------------------------------------------------------------------------------------------------------------------
# preprocessing: the paper's figures, as what comes out shows them


def tone(frequency, amplitude=20_000):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(8000) / 8000)


def test_the_second_and_the_grid_of_the_spectrogram():
    blob = wav_file(speech(1, 0.5, 48_000).tobytes(), 48_000)
    made = inputs.network_inputs(blob, "0_01_0.wav")
    assert {name: data.shape for name, data in made.items()} == {
        "AlexNet": (1, 1, 227, 227), "AudioNet": (1, 1, 1, 8000),
    }  # fmt: skip
    assert inputs.padded_signal(blob, "0_01_0.wav").shape == (8000,)
    assert len(inputs.resample(np.zeros(47_998), 48_000)) == 8000  # the longest recording fills the second


@pytest.mark.parametrize("row", [0, 1, 57, 226])
def test_row_k_is_the_frequency_k_times_8000_by_455(row):
    """From 0 Hz on, without the last of 228 frequencies."""
    assert np.argmax(inputs.spectrogram_db(tone(row * 8000 / 455) + 3 * (row == 0))[:, 113]) == row
    assert SPECTROGRAM.bin_width * row == pytest.approx(row * 8000 / 455)


@pytest.mark.parametrize("column", [0, 100, 226])
def test_column_m_is_centred_at_35_times_m_plus_2_samples(column):
    """Frames are 420 of 455 samples apart in overlap, hence hop 35; the first two of 230 and the last are left out."""
    signal = np.zeros(8000)
    signal[(column + 2) * (455 - 420)] = 30_000
    levels = inputs.spectrogram_db(signal)[50]
    assert np.argmax(levels) == column
    left, right, bottom, top = SPECTROGRAM.extent(227, 227)
    centre = left + (column + 0.5) * (right - left) / 227
    assert centre == pytest.approx((column + 2) * 35 / 8000) and bottom + 0.5 * (top - bottom) / 227 == pytest.approx(0)


def test_the_window_is_a_hann_of_455_samples():
    """Ten or so samples beside the centre weigh what the periodic Hann window says."""
    hann = scipy.signal.get_window("hann", 455)
    two = np.zeros(8000)
    two[102 * 35] = 30_000
    at_centre = inputs.spectrogram_db(two)
    for distance in (1, 2, 3, 5):
        wanted = 20 * math.log10(hann[227 + 35 * distance] / hann[227])
        assert at_centre[50, 100 - distance] - at_centre[50, 100] == pytest.approx(wanted, abs=0.01)
    assert at_centre[50, 100 + 6] > -80 and at_centre[50, 100 + 7] == -80  # 210 samples away, and 245: outside


def test_decibels():
    """Relative to the maximum, 80 dB deep, and no amplitude below 1e-5 counts."""
    quiet = inputs.spectrogram_db(tone(1000) + tone(3000, 20_000 * 10 ** (-50 / 20)))
    assert quiet.max() == 0 and quiet.min() == -80
    assert quiet[round(3000 * 455 / 8000), 113] == pytest.approx(-50, abs=1)
    near_the_floor = inputs.spectrogram_db(tone(1000, 2e-4))  # a sinusoid's peak is half its amplitude: 1e-4
    assert near_the_floor.min() == pytest.approx(20 * math.log10(1e-5 / near_the_peak(2e-4)), abs=0.1)


def near_the_peak(amplitude):
    """The largest magnitude of scipy's spectrogram of the tone."""
    _, _, z = scipy.signal.stft(tone(1000, amplitude), 8000, window="hann", nperseg=455, noverlap=420)
    return np.abs(z[0:227, 2:-1]).max()


def test_the_waveform_is_divided_by_its_signed_percentile():
    ramp = np.arange(8000.0) - 4000
    assert inputs.scaled_waveform(ramp) == pytest.approx(ramp / (0.95 * 7999 - 4000 + 0.001), rel=1e-6)


def test_the_file_format(tmp_path):
    """What a recording becomes on the disk: names, data sets, types, label row; and the number of the format."""
    make_corpus(tmp_path / "in", digits=(3, 7))
    assert command.main(["-src", str(tmp_path / "in"), "-dst", str(tmp_path / "out"), "--jobs", "1"]) == 0
    for network, shape in (("AlexNet", (1, 1, 227, 227)), ("AudioNet", (1, 1, 1, 8000))):
        with h5py.File(tmp_path / f"out/02/{network}_7_02_0.hdf5") as file:
            assert sorted(file) == ["data", "label"]
            assert file["data"].shape == shape and file["data"].dtype == "<f4" and file["label"].dtype == "<f4"
            assert file["label"][:].tolist() == [[7, 1]]
        listed = (tmp_path / f"out/{network}_gender_0_test.txt").read_text().split()
        assert listed == [
            f"{speaker}/{network}_{digit}_{speaker}_0.hdf5" for speaker in ("05", "06") for digit in (3, 7)
        ]
    made_with = json.loads((tmp_path / "out/preprocessing.json").read_text())
    assert (made_with["format"], made_with["seed"]) == (4, 0)
    assert list_name("AlexNet", "digit", 3, "validate") == "AlexNet_digit_3_validate.txt"


def test_geometries():
    assert SPECTROGRAM.attributes() == {
        "sample_rate": 8000, "window": 455, "hop": 35, "first_bin": 0, "first_frame": 2,
    }  # fmt: skip
    assert WAVEFORM.attributes() == {"sample_rate": 8000}


# ---------------------------------------------------------------------------------------------------------------------
# results and experiments


@pytest.mark.parametrize("network, task", PUBLISHED)
def test_published_accuracies(network, task):
    assert NETWORKS[network].published[task] == PUBLISHED[network, task]


def test_the_deviation_over_splits_is_the_populations():
    """Of 90 and 94: 2, where a sample's would be 2.83. Which one the paper gives is not known; ours is said to be."""
    assert mean_and_deviation([90.0, 94.0]) == (92.0, 2.0)


def test_a_man_is_stretched_by_a_half_and_a_woman_squeezed_by_a_third():
    """A man's peak at frequency 60 moves to 90, a woman's at 100 to 66; the control swaps the factors."""

    def place(label, peak, condition):
        data = np.full((1, 1, 227, 227), -80.0, np.float32)
        data[..., peak, :] = 0
        recordings = SimpleNamespace(data=data, labels=np.array([[7, label]]))
        moved = gender_hypothesis.in_condition(recordings, condition)
        return int(np.argmax(moved[0, 0, :, 100]))

    male, female = 0, 1
    assert (place(male, 60, "original"), place(female, 60, "original")) == (60, 60)
    assert (place(male, 60, "scaled"), place(female, 100, "scaled")) == (90, 66)
    assert (place(male, 100, "control"), place(female, 60, "control")) == (66, 90)


# ---------------------------------------------------------------------------------------------------------------------
# Caffe's files


@pytest.mark.parametrize(
    "message, field, number",
    [
        ("NetParameter", "layer", 100), ("NetParameter", "layers", 2), ("NetParameter", "name", 1),
        ("LayerParameter", "blobs", 7), ("LayerParameter", "type", 2), ("LayerParameter", "hdf5_data_param", 112),
        ("BlobProto", "data", 5), ("BlobProto", "shape", 7), ("BlobProto", "double_data", 8),
        ("SolverState", "iter", 1), ("SolverState", "learned_net", 2), ("SolverState", "history", 3),
        ("SolverState", "current_step", 4), ("SolverParameter", "base_lr", 5), ("SolverParameter", "max_iter", 7),
        ("SolverParameter", "clip_gradients", 35), ("SolverParameter", "type", 40), ("Datum", "label", 5),
    ],
)  # fmt: skip
def test_field_numbers_of_caffes_formats(message, field, number):
    assert getattr(caffe_pb2, message).DESCRIPTOR.fields_by_name[field].number == number


@pytest.mark.parametrize(
    "message, field, value",
    [
        ("SolverParameter", "regularization_type", "L2"), ("SolverParameter", "delta", 1e-8),
        ("SolverParameter", "momentum2", 0.999), ("SolverParameter", "clip_gradients", -1),
        ("SolverParameter", "iter_size", 1), ("SolverParameter", "test_interval", 0),
        ("SolverParameter", "average_loss", 1), ("SolverParameter", "snapshot_after_train", True),
        ("SolverParameter", "random_seed", -1), ("ParamSpec", "lr_mult", 1), ("ParamSpec", "decay_mult", 1),
        ("DropoutParameter", "dropout_ratio", 0.5), ("PoolingParameter", "pool", 0), ("PoolingParameter", "stride", 1),
        ("ReLUParameter", "negative_slope", 0), ("LRNParameter", "local_size", 5), ("LRNParameter", "alpha", 1),
        ("LRNParameter", "beta", 0.75), ("LRNParameter", "k", 1), ("BatchNormParameter", "eps", 1e-5),
        ("BatchNormParameter", "moving_average_fraction", 0.999), ("ELUParameter", "alpha", 1),
        ("ConvolutionParameter", "group", 1), ("ConvolutionParameter", "axis", 1), ("FillerParameter", "std", 1),
        ("FillerParameter", "min", 0), ("FillerParameter", "max", 1), ("FillerParameter", "sparse", -1),
        ("HDF5DataParameter", "shuffle", False), ("TransformationParameter", "scale", 1),
    ],
)  # fmt: skip
def test_defaults_of_caffes_formats(message, field, value):
    found = getattr(getattr(caffe_pb2, message)(), field)
    assert found == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value)


def test_a_speaker_says_each_digit_50_times_where_nobody_asks_for_another_number():
    session = record.open_session(record.parser().parse_args(["--no-mic"]))
    assert sorted(session.missing) == [(digit, repetition) for digit in range(10) for repetition in range(50)]
