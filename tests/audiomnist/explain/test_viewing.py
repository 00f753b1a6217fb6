"""Explanations in one's hand: the README's four lines as written, and what draw, play and save give."""

import base64
import io
import json
import re
import shutil
import wave
from pathlib import Path

import h5py
import numpy as np
import pytest

import lrp
from audiomnist.explain import cli
from audiomnist.preprocessing import command

ROOT = Path(__file__).resolve().parents[3]
RUNS = {"AlexNet": "AlexNet_digit_0", "AudioNet": "AudioNet_digit_0"}


def four_lines(page="lrp/README.md"):
    """The first block of Python of a page."""
    return re.search(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)[1]


@pytest.fixture(params=RUNS)
def folder(request, small_study, tmp_path, monkeypatch):
    """The current folder, with what the four lines name, for either network."""
    run = small_study / "runs" / RUNS[request.param]
    shutil.copy(run / "deploy.prototxt", tmp_path)
    shutil.copy(next(run.glob("snapshots/*.caffemodel")), tmp_path / "X.caffemodel")
    shutil.copy(small_study / "data" / "06" / "1_06_0.wav", tmp_path / "7.wav")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def network():
    return lrp.Network("deploy.prototxt", "X.caffemodel")


def samples(path):
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64), file.getframerate()


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_the_four_lines_do_as_written_what_the_command_does(folder):
    assert len(list(filter(None, four_lines().splitlines()))) == 4
    assert four_lines("notebooks/README.md") == four_lines()
    scope = {}
    exec(four_lines(), scope)
    e = scope["e"]
    assert e.relevance.shape[0] == 1 and Path("seven.png").read_bytes()[:4] == b"\x89PNG"
    files = ["--model", "deploy.prototxt", "--weights", "X.caffemodel", "--input", "7.wav"]
    assert cli.main([*files, "--save", "other.hdf5", "--audible", "other.wav"]) == 0
    assert Path("seven.wav").read_bytes() == Path("other.wav").read_bytes()
    with h5py.File("seven.hdf5") as ours, h5py.File("other.hdf5") as theirs:
        assert set(ours) == set(theirs) and dict(ours.attrs) == dict(theirs.attrs)
        for name in ours:
            assert np.array_equal(ours[name][()], theirs[name][()]), name
        assert np.array_equal(ours["relevance"][()], e.relevance)
        assert list(json.loads(ours.attrs["rules"])) == [layer.name for layer in scope["network"].linear_layers]


def test_an_array_is_explained_as_what_was_read_is(folder):
    read = network().relevance(lrp.read("7.wav"), 3)
    array = network().relevance(np.asarray(read.input), 3)
    assert np.array_equal(read.relevance, array.relevance) and read.target.tolist() == [3]
    scores = network().forward(lrp.read("7.wav"))
    assert np.array_equal(scores, network().forward(np.asarray(read.input)))
    # the pass that relevance makes rounds otherwise
    np.testing.assert_allclose(scores, read.scores, rtol=0, atol=1e-5 * np.abs(scores).max())
    gradient = lrp.explain(network(), lrp.read("7.wav"), "gradient")
    assert np.array_equal(gradient.relevance, network().gradient(np.asarray(read.input)))
    assert gradient.input is not None and gradient.draw(0).axes
    pictures = [e.draw(0) for e in (read, array)]
    first, second = ([a.get_array() for axes in f.axes for a in axes.images] for f in pictures)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert pictures[0].get_suptitle() == "7.wav" and pictures[1].get_suptitle() == ""
    said = pictures[0]._supxlabel.get_text()
    assert "shared out within 193 Hz x 48 ms" in said or "shared out within 3 samples (0.38 ms)" in said


def test_an_item_of_several_is_drawn_and_played_by_its_number(folder, small_study):
    run = RUNS["AlexNet" if network().input_shape[-1] == 227 else "AudioNet"]
    name = run.partition("_")[0]
    files = [small_study / "preprocessed" / "06" / f"{name}_{digit}_06_0.hdf5" for digit in range(3)]
    x = np.concatenate([lrp.read(path).data for path in files])
    e = network().relevance(x)
    alone = network().relevance(lrp.read(files[2]))
    for item in (2, -1):
        drawn, single = e.draw(item), alone.draw(0)
        for one, other in zip(drawn.axes, single.axes, strict=True):
            for mine, its in zip(one.images, other.images, strict=True):
                assert np.array_equal(mine.get_array(), its.get_array())
            for mine, its in zip(one.collections, other.collections, strict=True):
                assert np.array_equal(mine.get_array(), its.get_array())
    assert all(f"target {alone.target[0]}" in figure.get_supxlabel() for figure in (e.draw(2), alone.draw(0)))
    with pytest.raises(lrp.LRPError, match="^explanation: expected an item from 0 to 2, got 3$"):
        e.draw(3)
    # the spectrogram's sound lies beside its file
    heard = alone.play(0)
    assert heard.rate == 8000 and heard.signal.shape == (8000,)


def test_what_is_played_is_the_formula_at_the_recordings_rate(small_study, tmp_path):
    run = small_study / "runs" / "AudioNet_digit_0"
    net = lrp.Network(run / "deploy.prototxt", next(run.glob("snapshots/*.caffemodel")))
    e = net.relevance(lrp.read(small_study / "data" / "05" / "2_05_0.wav"))
    x, r = e.input.data.ravel().astype(np.float64), e.relevance.ravel().astype(np.float64)
    wanted = {"relu(R)*x": np.where(r > 0, r, 0) * x, "relu(x)*R": np.where(x > 0, x, 0) * r}
    for formula, signal in wanted.items():
        played = e.play(0, formula)
        assert cosine(played.signal, signal) == pytest.approx(1, abs=1e-9)
        played.write(tmp_path / "a.wav")
        stored, rate = samples(tmp_path / "a.wav")
        assert rate == 8000 and cosine(stored, signal) > 0.999
        encoded = re.fullmatch(
            r'<audio controls aria-label="audible heatmap" src="data:audio/wav;base64,(.*)"></audio>',
            played._repr_html_(),
        )[1]
        assert np.array_equal(samples_of(base64.b64decode(encoded)), stored)


def samples_of(blob):
    with wave.open(io.BytesIO(blob)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)


def test_a_seed_places_what_is_seen_and_heard(small_study):
    run = small_study / "runs" / "AlexNet_digit_0"
    net = lrp.Network(run / "deploy.prototxt", next(run.glob("snapshots/*.caffemodel")))
    wav = small_study / "data" / "05" / "2_05_0.wav"
    spans = []
    for seed in (1, 2):
        e = net.relevance(lrp.read(wav, seed))
        first, last = np.flatnonzero(lrp.read(wav, seed).forms["AudioNet"].data.ravel())[[0, -1]]
        spans.append((first, last))
        heard = np.abs(e.play(0).signal)
        assert heard.max() > 0.01
        assert heard[: max(first - 455, 0)].max(initial=0) == heard[last + 455 :].max(initial=0) == 0
    assert abs(spans[0][0] - spans[1][0]) > 455
    assert not np.array_equal(lrp.read(wav, 1).for_input((1, 227, 227)).data, e.input.data)


def test_what_preprocessing_wrote_is_what_reading_the_wav_gives(small_study, tmp_path):
    """The seed and file name decide: a WAV file read with the preprocessing's seed is its HDF5 file."""
    source, made = small_study / "data", tmp_path / "made"
    assert command.main(["-src", str(source), "-dst", str(made), "--jobs", "1", "--seed", "4"]) == 0
    forms = lrp.read(source / "05" / "0_05_0.wav", 4).forms
    assert sorted(forms) == ["AlexNet", "AudioNet"]
    for name, form in forms.items():
        assert np.array_equal(form.data, lrp.read(made / "05" / f"{name}_0_05_0.hdf5").data)


def test_what_cannot_be_is_one_sentence(folder, small_study):
    e = network().relevance(lrp.read("7.wav"))
    lost = lrp.Explanation(e.relevance, e.scores, e.score, e.prediction, e.target, e.composite, e.rules)
    for use in (lost.draw, lost.play, lambda: lost.save("lost.hdf5")):
        with pytest.raises(lrp.LRPError, match="^explanation: expected the input that was explained, got none$"):
            use()
    with pytest.raises(lrp.LRPError, match="^7.mp3: expected one of the extensions .hdf5, .h5, .wav, got .mp3$"):
        lrp.read("7.mp3")
    with pytest.raises(lrp.LRPError, match="^nothing.wav: expected a WAV file, got no such file$"):
        lrp.read("nothing.wav")
    text = Path("deploy.prototxt").read_text()
    if "dim: 227" in text:
        array = network().relevance(np.asarray(e.input))
        with pytest.raises(lrp.LRPError, match="^explanation: expected a WAV file, .*, got nothing that sounds$"):
            array.play(0)
        wanted = r"^7.wav: expected a network for WAV files \(.*\), got one with input \(3, 4, 5\)$"
        with pytest.raises(lrp.LRPError, match=wanted):
            lrp.read("7.wav").for_input((3, 4, 5))
    assert not Path("lost.hdf5").exists()
