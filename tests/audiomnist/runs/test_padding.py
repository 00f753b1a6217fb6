"""Lists that no good batch divides: padded, and every recording counted exactly once by both engines."""

import json
import subprocess

import numpy as np
import pytest

import caffe
import lrp
from audiomnist.corpus.splits import SPLITS_NAME
from audiomnist.preprocessing.store import hdf5_bytes
from audiomnist.runs.engine import OWN, Engine
from audiomnist.runs.render import LARGEST_BATCH, LEAST_BATCH, Training, cover, open_run
from audiomnist.runs.run_folder import RunError, RunName
from audiomnist.runs.summary import read_test_log
from tests.small_study import draw_weights

RUN = RunName("AudioNet", "digit", 0)
COUNTS = {"train": 3, "validate": 103, "test": 211}  # 103 and 211 are prime: batches of 52 and of 71
LOG = "I1129 12:00:00.000000     1 caffe.cpp:1] "


@pytest.mark.parametrize("count", range(1, 700))
def test_a_cover_has_every_recording_once_in_few_batches(count):
    batches = cover(count)
    assert batches.size * batches.iterations - batches.padding == count
    divisors = [size for size in range(1, LARGEST_BATCH + 1) if count % size == 0]
    if batches.padding:
        assert max(divisors) < LEAST_BATCH and count > LARGEST_BATCH
        assert batches.iterations == int(np.ceil(count / LARGEST_BATCH))
        assert batches.size <= LARGEST_BATCH and batches.padding < batches.iterations
    else:
        assert batches.size == max(divisors)


def test_nothing_is_no_list():
    with pytest.raises(ValueError, match="count: expected at least one recording, got 0"):
        cover(0)


@pytest.fixture(scope="module")
def preprocessed(tmp_path_factory):
    """Noise as AudioNet's recordings, with drawn labels: (folder, {part: (data, labels)})."""
    folder = tmp_path_factory.mktemp("padding") / "inputs"
    (folder / "01").mkdir(parents=True)
    (folder / SPLITS_NAME).write_text(json.dumps({"digit": [{"train": ["01"], "validate": ["02"], "test": ["03"]}]}))
    rng, contents = np.random.default_rng(0), {}
    for part, count in COUNTS.items():
        data = rng.standard_normal((count, 1, 1, 8000)).astype(np.float32) * rng.uniform(0.2, 3, (count, 1, 1, 1))
        labels = rng.integers(0, 10, count)
        names = [f"01/{part}_{k}.hdf5" for k in range(count)]
        for name, one, label in zip(names, data.astype(np.float32), labels, strict=True):
            (folder / name).write_bytes(hdf5_bytes("AudioNet", one[None], [label, 0]))
        (folder / f"AudioNet_digit_0_{part}.txt").write_text("\n".join(names) + "\n")
        contents[part] = data.astype(np.float32), labels
    return folder, contents


@pytest.fixture(scope="module")
def run(preprocessed, tmp_path_factory):
    """A run in a folder whose name has a space, with drawn weights: (its folder, its weights)."""
    folder = tmp_path_factory.mktemp("padded") / "a run"
    state = open_run(RUN, preprocessed[0], folder, OWN, Training(demo=True))
    assert (state.step, state.test_iterations) == ("new", 3)
    net = caffe.Net(str(folder / "deploy.prototxt"), caffe.TEST)
    draw_weights(net, 1)
    net.save(str(folder / "drawn.caffemodel"))
    return folder, folder / "drawn.caffemodel"


def answers(run, data, labels):
    """(share of right answers, mean cross-entropy), by numpy."""
    folder, weights = run
    scores = lrp.Network(folder / "deploy.prototxt", weights).forward(data).astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(labels)), labels]
    return (scores.argmax(axis=1) == labels).mean(), losses.mean()


def check_log(run, preprocessed, log):
    accuracy, loss = answers(run, *preprocessed[1]["test"])
    found = read_test_log(log)
    assert found["accuracy"] == pytest.approx(accuracy, abs=1e-5)
    assert found["loss"] == pytest.approx(loss, rel=1e-4)
    text = log.read_text()
    plain = float(text.rpartition("accuracy = ")[2].split()[0])
    assert 0.02 < accuracy < 0.5 and abs(plain - accuracy) > 1e-5  # the log's own mean is another one


@pytest.mark.slow
def test_every_recording_counts_once_in_a_test(run, preprocessed, monkeypatch):
    monkeypatch.delenv("CAFFE", raising=False)
    folder, weights = run
    arguments = ["test", f"-model={folder / 'test.prototxt'}", f"-weights={weights}", "-iterations=3"]
    with open(folder / "test.log", "wb") as log:
        subprocess.run([*Engine.find().command, *arguments], cwd=preprocessed[0], stderr=log, check=True)
    check_log(run, preprocessed, folder / "test.log")


@pytest.mark.bvlc
def test_the_original_counts_them_once_as_well(run, preprocessed, bvlc):
    folder, weights = run
    test = (f"-model={folder / 'test.prototxt'}", f"-weights={weights}", "-iterations=3")
    log = folder / "test.log"
    log.write_text(bvlc("caffe", "test", *test, cwd=preprocessed[0]).stderr)
    check_log(run, preprocessed, log)


def test_a_validation_leaves_the_padding_out(run, preprocessed, monkeypatch):
    """Of the second batch, 51 recordings and a row of padding, the mean is over the recordings."""
    folder, weights = run
    monkeypatch.chdir(preprocessed[0])
    net = caffe.Net(str(folder / "train.prototxt"), caffe.TEST, weights=str(weights))
    data, labels = preprocessed[1]["validate"]
    for part in (slice(0, 52), slice(52, 103)):
        net.forward()
        accuracy, loss = answers(run, data[part], labels[part])
        assert net.blobs["accuracy"].data == pytest.approx(accuracy, abs=1e-6)
        assert net.blobs["loss"].data == pytest.approx(loss, rel=1e-5)
    assert net.blobs["label_digit"].data[-1] == -1 and not net.blobs["data"].data[-1].any()


def test_a_run_is_known_by_its_padded_lists(run, preprocessed):
    folder, _ = run
    names = (preprocessed[0] / "AudioNet_digit_0_test.txt").read_text().split()
    assert (folder / "test.txt").read_text().split() == [*names, *["AudioNet_padding.hdf5"] * 2]
    assert open_run(RUN, preprocessed[0], folder, OWN, Training(demo=True)).step == "new"
    kept = (folder / "test.txt").read_text()
    (folder / "test.txt").write_text(kept.replace("test_3.hdf5", "test_4.hdf5"))
    with pytest.raises(RunError, match=r"a run whose test.txt has `01/test_3.hdf5`, got another run"):
        open_run(RUN, preprocessed[0], folder, OWN, Training(demo=True))
    (folder / "test.txt").write_text(kept)


def test_batches_weigh_as_many_recordings_as_they_have(tmp_path):
    lines = [f"Batch {k}, {name} = {value}" for k, pair in enumerate(((0.5, 2), (0.25, 4), (1, 8)))
             for name, value in zip(("accuracy", "loss"), pair, strict=True)]  # fmt: skip
    text = "".join(f"{LOG}{line}\n" for line in [*lines, "accuracy = 0.583333", "loss = 4.66667"])
    (tmp_path / "test.log").write_text(text)
    assert read_test_log(tmp_path / "test.log") == {"accuracy": 0.583333, "loss": 4.66667}
    (tmp_path / "test.txt").write_text("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\np\np\n")  # 4, 4 and 2 of 10
    assert read_test_log(tmp_path / "test.log") == pytest.approx({"accuracy": 0.5, "loss": (8 + 16 + 16) / 10})
    (tmp_path / "test.txt").write_text("a\nb\nc\np\np\n")
    with pytest.raises(RunError, match=r"expected lines of all batches of test.txt, got 3 of them for 5 rows"):
        read_test_log(tmp_path / "test.log")
