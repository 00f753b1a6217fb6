"""The command line end to end: files, lists, composites, pictures, reports in a browser, and one-sentence errors."""

import base64
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import h5py
import numpy as np
import pytest
import random_networks
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from audiomnist.explain import audible as sounds
from audiomnist.explain import cli
from audiomnist.explain.drawing import FORMATS, compare, limit, zoom_window
from audiomnist.explain.faithfulness import Parts, curves
from audiomnist.explain.faithfulness import main as faithfulness
from audiomnist.explain.inputs import read_recording
from audiomnist.explain.progress import Progress
from caffe_proto import array_to_blobproto, write_message
from lrp import COMPOSITES, METHODS, AlphaBeta, Composite, Epsilon, Flat, LRPError, Network, ZBox, read_composite
from lrp.composites import DEFAULT
from tests.chromium import look
from tests.html_structure import faults
from tests.lrp.test_lrp_network import SMALL, parse, small_input, small_weights

ROOT = Path(__file__).resolve().parents[3]


SPECTROGRAM, WAVEFORM = (1, 227, 227), (1, 1, 8000)  # shapes of the study's inputs


def write_hdf5(path, data, label=((3, 1),)):
    with h5py.File(path, "w") as file:
        file["data"] = data.astype(np.float32)
        if label is not None:
            file["label"] = np.array(label, np.float32)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(folder, [options naming the small network]); the folder holds three labelled recordings and list.txt."""
    folder = tmp_path_factory.mktemp("small")
    net = parse(SMALL)
    for layer in net.layer:
        layer.blobs.extend(array_to_blobproto(blob) for blob in small_weights().get(layer.name, ()))
    write_message(folder / "net.caffemodel", net)
    (folder / "deploy.prototxt").write_text(SMALL)
    for index, x in enumerate(small_input()):
        write_hdf5(folder / f"r{index}.hdf5", x[None], [[index, 1]])
    (folder / "list.txt").write_text("r0.hdf5\nr1.hdf5\n\nr2.hdf5\n")
    return folder, ["--model", str(folder / "deploy.prototxt"), "--weights", str(folder / "net.caffemodel")]


@pytest.fixture(scope="module")
def audionet(tmp_path_factory):
    """As `small`, for AudioNet with random weights, and a WAV file 3_01_0.wav of a falling tone."""
    folder = tmp_path_factory.mktemp("audio")
    model, weights = random_networks.stored("AudioNet")
    time = np.arange(36000) / 48000
    tone = 8000 * np.sin(2 * np.pi * (400 * time - 100 * time**2)) * np.hanning(len(time))
    with wave.open(str(folder / "3_01_0.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48000)
        file.writeframes(tone.astype("<i2").tobytes())
    write_hdf5(folder / "AudioNet_3_01_1.hdf5", random_networks.random_inputs("AudioNet", 1))
    return folder, ["--model", str(model), "--weights", str(weights)]


def call(capsys, *arguments):
    """(exit code, stdout, stderr) of the command line in this process."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        code = stopped.code
    done = capsys.readouterr()
    return code, done.out, done.err


def test_one_recording_by_the_documented_command(small, tmp_path):
    folder, network = small
    command = [
        sys.executable,
        "-m",
        "lrp",
        *network,
        "--input",
        str(folder / "r0.hdf5"),
        "--target",
        "2",
        "--composite",
        "epsilon_alpha2_beta1_flat",
        "--save",
        str(tmp_path / "r.hdf5"),
        "--output",
        str(tmp_path / "r.png"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert "target 2; epsilon_alpha2_beta1_flat, sum(R)/score = " in done.stdout
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(os.listdir(tmp_path)) == ["r.hdf5", "r.png"]
    expected = Network(folder / "deploy.prototxt", folder / "net.caffemodel").relevance(
        small_input()[:1], 2, "epsilon_alpha2_beta1_flat"
    )
    with h5py.File(tmp_path / "r.hdf5") as file:
        np.testing.assert_array_equal(file["relevance"], expected.relevance)
        np.testing.assert_array_equal(file["input"], small_input()[:1].astype(np.float32))
        assert file["relevance"].shape == (1, 2, 12, 13) and file["relevance"].dtype == np.float32
        np.testing.assert_allclose(file["score"], expected.scores[:, 2])
        assert file["prediction"][()].tolist() == expected.scores.argmax(1).tolist() and file["target"][0] == 2
        assert json.loads(file.attrs["rules"]) == expected.rules
        assert (
            json.loads(file.attrs["rules"])["conv1"] == "Flat(padding='exclude')"
            and len(file.attrs["weights_sha256"]) == 64
        )


@pytest.mark.parametrize("composite", [*COMPOSITES, *METHODS])
def test_every_composite_and_baseline_is_offered(small, tmp_path, capsys, composite):
    folder, network = small
    code, out, err = call(
        capsys, *network, "--input", folder / "r0.hdf5", "--composite", composite, "--save", tmp_path / "r.hdf5"
    )
    assert (code, err) == (0, "") and composite in out


def test_baselines_take_settings(small, tmp_path, capsys):
    folder, network = small
    text = "integrated_gradients(steps=5, baseline=-0.5)"
    code, out, err = call(
        capsys, *network, "--input", folder / "r0.hdf5", "--composite", text, "--save", tmp_path / "r.hdf5"
    )
    assert (code, err) == (0, "") and f"{text}, completeness error = " in out and "sum(R)" not in out
    wanted = METHODS["integrated_gradients"](
        Network(folder / "deploy.prototxt", folder / "net.caffemodel"), small_input()[:1], steps=5, baseline=-0.5
    )
    with h5py.File(tmp_path / "r.hdf5") as file:
        np.testing.assert_array_equal(file["relevance"], wanted.relevance)


@pytest.mark.parametrize("extension", FORMATS)
def test_pictures_side_by_side_are_reproducible(small, tmp_path, capsys, extension):
    folder, network = small
    for name in ("a", "b"):
        code, _, err = call(
            capsys,
            *network,
            "--input",
            folder / "r1.hdf5",
            "--composite",
            "epsilon_plus",
            "gradient",
            "--output",
            tmp_path / f"{name}{extension}",
        )
        assert (code, err) == (0, "")
    first = (tmp_path / f"a{extension}").read_bytes()
    assert first == (tmp_path / f"b{extension}").read_bytes() and len(first) > 5000


@pytest.mark.parametrize("shape", [SPECTROGRAM, WAVEFORM])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_pictures_show_every_relevance_with_its_caption(shape, count):
    rng = np.random.default_rng(0)
    data, relevances = rng.normal(size=shape), rng.normal(size=(count, *shape))
    figure = compare(data, list(relevances), [f"caption {k}" for k in range(count)])
    parts = [figure, *figure.subfigs]
    captions = [part._supxlabel.get_text() for part in parts if getattr(part, "_supxlabel", None) is not None]
    assert captions == [f"caption {k}" for k in range(count)]
    every_bar = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    bars = [axes for axes in every_bar if axes.get_ylabel() == "R (red: for, blue: against)"]
    ends = [axes._colorbar.norm.vmax for axes in bars]
    assert ends == [limit(one) for one in relevances]
    assert all(axes._colorbar.norm.vmin == -axes._colorbar.norm.vmax for axes in bars)
    levels = [axes for axes in every_bar if axes not in bars]
    assert [axes.get_ylabel() for axes in levels] == ["level (dB)"] * (shape == SPECTROGRAM)
    if shape == SPECTROGRAM:
        assert (levels[0]._colorbar.norm.vmin, levels[0]._colorbar.norm.vmax) == (data.min(), data.max())
        assert {axes.get_ylabel() for axes in figure.axes if axes not in every_bar} == {"frequency (Hz)"}
        top = figure.axes[0].get_images()[0].get_extent()
        np.testing.assert_allclose(top, (1.5 * 35 / 8000, 228.5 * 35 / 8000, -4000 / 455, 226.5 * 8000 / 455))


def test_list_with_labels(small, tmp_path, capsys):
    folder, network = small
    code, out, err = call(
        capsys,
        *network,
        "--list",
        folder / "list.txt",
        "--target",
        "label",
        "--save",
        tmp_path / "all.hdf5",
        "--output",
        tmp_path / "pictures",
    )
    assert (code, err.strip()) == (0, "")
    assert sorted(os.listdir(tmp_path / "pictures")) == ["r0.png", "r1.png", "r2.png"]
    assert len(out.splitlines()) == 3
    expected = Network(folder / "deploy.prototxt", folder / "net.caffemodel").relevance(
        small_input(), np.arange(3), DEFAULT
    )
    with h5py.File(tmp_path / "all.hdf5") as file:
        np.testing.assert_array_equal(file["relevance"], expected.relevance)
        assert file["target"][()].tolist() == [0, 1, 2] and file["label"].shape == (3, 2)
        assert [os.path.basename(name.decode()) for name in file["source"]] == ["r0.hdf5", "r1.hdf5", "r2.hdf5"]
        assert file.attrs["list"].endswith("list.txt")
    code, out, _ = call(
        capsys,
        *network,
        "--list",
        folder / "list.txt",
        "--limit",
        2,
        "--label-column",
        1,
        "--target",
        "label",
        "--save",
        tmp_path / "two.hdf5",
    )
    with h5py.File(tmp_path / "two.hdf5") as file:
        assert code == 0 and file["target"][()].tolist() == [1, 1]


# --- long lists: parts are kept, stopped runs continue ---------------------------------------------------------------
SLOWED = "import sys; from audiomnist.explain import cli; cli.AT_ONCE = 2; sys.exit(cli.main(sys.argv[1:]))"
LONG = 7  # recordings: three parts of two, and one


@pytest.fixture
def long_list(small, tmp_path):
    """Options that explain LONG recordings of the small network, by list."""
    _, network = small
    folder = tmp_path / "in"
    folder.mkdir()
    for index, x in enumerate(small_input(count=LONG, seed=5)):
        write_hdf5(folder / f"r{index}.hdf5", x[None], [[index % 3, 1]])
    (folder / "list.txt").write_text("".join(f"r{index}.hdf5\n" for index in range(LONG)))
    return [*network, "--list", str(folder / "list.txt"), "--target", "label"]


def outputs(folder):
    """({path: bytes} of all files in a folder but HDF5, {dataset: array} and attributes of its relevance.hdf5)."""
    files = {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".hdf5"
    }
    with h5py.File(folder / "relevance.hdf5") as file:
        return files, {name: file[name][()].tolist() for name in file}, dict(file.attrs)


@pytest.mark.slow
def test_a_killed_run_continues_where_it_was(long_list, tmp_path):
    """SIGKILL after two parts: nothing under a final name is incomplete, the same command makes the rest alone."""

    def options(folder):
        return [
            *long_list,
            "--absorbed",
            "--save",
            str(folder / "relevance.hdf5"),
            "--output",
            str(folder / "pictures"),
        ]

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    wanted = subprocess.run([sys.executable, "-c", SLOWED, *options(whole)], cwd=ROOT, capture_output=True, text=True)
    assert wanted.returncode == 0, wanted.stderr
    partial = killed / "relevance.hdf5.partial"
    with subprocess.Popen(
        [sys.executable, "-c", SLOWED, *options(killed)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and len(list(partial.glob("*.hdf5"))) < 2:
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert sorted(os.listdir(killed)) == ["pictures", "relevance.hdf5.partial"]
    pictures = {p.name: p.stat().st_mtime_ns for p in (killed / "pictures").glob("r[0-3].png")}
    assert len(pictures) == 4
    again = subprocess.run([sys.executable, "-c", SLOWED, *options(killed)], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0 and again.stdout == wanted.stdout
    assert sorted(path.name for path in killed.iterdir()) == ["pictures", "relevance.hdf5"]
    for name, made in pictures.items():
        assert (killed / "pictures" / name).stat().st_mtime_ns == made
    assert outputs(killed) == outputs(whole)


def count_explained(monkeypatch, fail_at=None):
    """Count the recordings that get explained, in a list of one number; stop (as by Ctrl-C) before the given one."""
    counted, real = [0], cli.explain

    def explain(network, x, *rest):
        if fail_at is not None and counted[0] + len(x) > fail_at:
            raise KeyboardInterrupt
        counted[0] += len(x)
        return real(network, x, *rest)

    monkeypatch.setattr(cli, "explain", explain)
    return counted


def test_only_what_is_missing_is_explained(long_list, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "AT_ONCE", 2)
    arguments = [*long_list, "--save", tmp_path / "relevance.hdf5", "--output", f"{tmp_path / 'pictures'}/"]
    with monkeypatch.context() as patched:
        count_explained(patched, fail_at=5)
        code, out, err = call(capsys, *arguments)
    assert code == 130 and "lrp: stopped; the same command continues" in err and len(out.splitlines()) == 4
    assert not (tmp_path / "relevance.hdf5").exists()
    # another composite, precision or network would not give the same: refused, and nothing is lost
    for other, name in (
        (["--composite", "epsilon_plus"], "composites"),
        (["--dtype", "float64"], "dtype"),
        (["--target", "1"], "target"),
    ):
        code, out, err = call(capsys, *arguments, *other)
        assert code == 1 and out == "" and f"expected an unfinished run with the same {name}, got others" in err, err
    os.unlink(tmp_path / "pictures" / "r2.png")  # its part is made again
    (tmp_path / "in" / "r0.hdf5").unlink()  # other content: that part too
    write_hdf5(tmp_path / "in" / "r0.hdf5", small_input(seed=9, count=1), [[0, 1]])
    counted = count_explained(monkeypatch)
    code, out, _ = call(capsys, *arguments)
    assert code == 0 and counted == [LONG] and len(out.splitlines()) == LONG
    counted[0] = 0
    assert call(capsys, *arguments)[0] == 0 and counted == [LONG]  # a finished run leaves no parts


def test_a_list_that_is_one_part_keeps_no_parts(long_list, tmp_path, capsys, monkeypatch):
    """Nothing could be continued: it would only be written twice."""
    begun, real = [], cli.Progress
    monkeypatch.setattr(cli, "Progress", lambda *arguments: begun.append(arguments) or real(*arguments))
    for at_once, parts in ((LONG, 0), (LONG - 1, 1)):
        monkeypatch.setattr(cli, "AT_ONCE", at_once)
        assert call(capsys, *long_list, "--save", tmp_path / "relevance.hdf5")[0] == 0
        assert len(begun) == parts


def test_a_partial_folder_of_somebody_else_is_left_alone(long_list, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "AT_ONCE", 2)
    counted = count_explained(monkeypatch)
    arguments = [*long_list, "--save", tmp_path / "r.hdf5"]
    partial = tmp_path / "r.hdf5.partial"
    partial.mkdir()
    for found, words in (
        (["thesis.txt"], "expected an empty folder, or one with an unfinished run's parts, got one with thesis.txt"),
        (["settings.json", "thesis.txt"], "expected an unfinished run with the same"),
    ):
        for name in found:
            (partial / name).write_text("precious")
        code, out, err = call(capsys, *arguments)
        assert code == 1 and f"lrp: {partial}: {words}" in err and err.count("\n") == 1 and counted == [0]
        assert sorted(path.name for path in partial.iterdir() if path.name != ".lock") == found
        assert {path.read_text() for path in partial.glob("*.*") if path.name != ".lock"} == {"precious"}
    for path in partial.iterdir():
        path.unlink()
    assert call(capsys, *arguments)[0] == 0 and not partial.exists()  # an empty folder is as good as none


def test_what_comes_into_the_partial_folder_stays(long_list, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "AT_ONCE", 2)
    arguments = [*long_list, "--save", tmp_path / "r.hdf5"]
    with monkeypatch.context() as patched:
        count_explained(patched, fail_at=5)
        assert call(capsys, *arguments)[0] == 130
    partial = tmp_path / "r.hdf5.partial"
    (partial / "thesis.hdf5").write_text("precious")
    (partial / "folder").mkdir()
    assert call(capsys, *arguments)[0] == 0 and (tmp_path / "r.hdf5").exists()
    assert sorted(os.listdir(partial)) == ["folder", "thesis.hdf5"]
    assert (partial / "thesis.hdf5").read_text() == "precious"


def test_a_run_without_a_part_leaves_no_folder(long_list, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "AT_ONCE", 2)
    arguments = [*long_list, "--save", tmp_path / "r.hdf5"]
    with monkeypatch.context() as patched:
        count_explained(patched, fail_at=0)
        code, _, err = call(capsys, *arguments)
    assert code == 130 and "nothing was left half-written" in err and sorted(os.listdir(tmp_path)) == ["in"]


def test_a_second_run_on_an_output_is_refused_at_its_start(long_list, tmp_path, capsys, monkeypatch):
    """While one works on an output, another one, of the same settings or not, touches nothing; then it may."""
    monkeypatch.setattr(cli, "AT_ONCE", 2)
    arguments = [*map(str, long_list), "--save", str(tmp_path / "r.hdf5")]
    slow = f"import time; {SLOWED.replace('sys.exit', 'cli.explain = lambda *_: time.sleep(60); sys.exit')}"
    with subprocess.Popen([sys.executable, "-c", slow, *arguments], cwd=ROOT, stderr=subprocess.DEVNULL) as first:
        while not (tmp_path / "r.hdf5.partial" / "settings.json").exists():
            assert first.poll() is None
            time.sleep(0.01)
        counted = count_explained(monkeypatch)
        for other in ([], ["--dtype", "float64"]):
            code, out, err = call(capsys, *arguments, *other)
            assert code == 1 and out == "" and counted == [0]
            assert f"another run works on {tmp_path / 'r.hdf5.partial'}" in err
            assert err.count("\n") == 1
        first.kill()
    assert call(capsys, *arguments, "--dtype", "float64")[0] == 0  # nothing was kept: other settings may follow
    assert sorted(os.listdir(tmp_path)) == ["in", "r.hdf5"]


def test_a_report_continues(audionet, tmp_path, capsys, monkeypatch):
    folder, network = audionet
    monkeypatch.setattr(cli, "AT_ONCE", 1)
    for index in range(3):
        shutil.copy(folder / "AudioNet_3_01_1.hdf5", tmp_path / f"AudioNet_3_01_{index}.hdf5")
    (tmp_path / "list.txt").write_text("".join(f"AudioNet_3_01_{index}.hdf5\n" for index in range(3)))
    arguments = [*network, "--list", tmp_path / "list.txt", "--report"]
    assert call(capsys, *arguments, tmp_path / "whole")[0] == 0
    with monkeypatch.context() as patched:
        count_explained(patched, fail_at=2)
        assert call(capsys, *arguments, tmp_path / "stopped")[0] == 130
    assert not (tmp_path / "stopped").exists() and (tmp_path / "stopped.partial").is_dir()
    counted = count_explained(monkeypatch)
    assert call(capsys, *arguments, tmp_path / "stopped")[0] == 0 and counted == [1]
    assert (tmp_path / "stopped" / "index.html").read_bytes() == (tmp_path / "whole" / "index.html").read_bytes()


def test_a_list_is_mended_and_continues(long_list, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "AT_ONCE", 2)
    broken = tmp_path / "in" / "r5.hdf5"
    good = broken.read_bytes()
    broken.write_bytes(good[:100])
    arguments = [*long_list, "--save", tmp_path / "relevance.hdf5"]
    code, _, err = call(capsys, *arguments)
    assert code == 1 and "r5.hdf5: expected a preprocessed recording, got no readable HDF5 file" in err
    broken.write_bytes(good)
    counted = count_explained(monkeypatch)
    kept = sorted((tmp_path / "relevance.hdf5.partial").glob("*.hdf5"))
    assert len(kept) == 2
    kept[0].write_bytes(b"damaged")  # made again
    assert call(capsys, *arguments)[0] == 0 and counted == [3 + 2]


def test_a_part_that_cannot_be_read_in_the_end_is_said_and_made_again(long_list, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "AT_ONCE", 2)
    keep, arguments = Progress.keep, [*long_list, "--save", tmp_path / "relevance.hdf5"]

    def spoil(self, key, part):
        keep(self, key, part)
        if len(os.listdir(self.folder)) == 2 + 3:  # the third part, beside settings and lock
            Path(self.folder, f"{key}.hdf5").write_bytes(b"damaged")

    with monkeypatch.context() as context:
        context.setattr(Progress, "keep", spoil)
        code, _, err = call(capsys, *arguments)
    assert code == 1 and "hdf5: expected a part of this run, got one that is gone or cannot be read any more" in err
    assert not (tmp_path / "relevance.hdf5").exists()
    counted = count_explained(monkeypatch)
    assert call(capsys, *arguments)[0] == 0 and counted == [2]


def test_recordings_that_would_share_a_picture(small, tmp_path, capsys):
    folder, network = small
    (tmp_path / "other").mkdir()
    write_hdf5(tmp_path / "other" / "r0.hdf5", small_input(count=2), [[0, 1], [1, 1]])
    (tmp_path / "list.txt").write_text(f"{folder / 'r0.hdf5'}\nother/r0.hdf5\n")
    code, out, err = call(capsys, *network, "--list", tmp_path / "list.txt", "--output", tmp_path / "pictures")
    assert code == 1 and out == "" and "expected recordings with different names, got" in err
    (tmp_path / "list.txt").write_text("other/r0.hdf5\n")
    code, out, err = call(capsys, *network, "--list", tmp_path / "list.txt", "--output", tmp_path / "pictures")
    assert code == 0 and sorted(os.listdir(tmp_path / "pictures")) == ["r0_0.png", "r0_1.png"]


def test_absorbed_relevance_is_printed_and_saved(small, tmp_path, capsys):
    folder, network = small
    code, out, _ = call(
        capsys,
        *network,
        "--input",
        folder / "r0.hdf5",
        "--absorbed",
        "--dtype",
        "float64",
        "--save",
        tmp_path / "r.hdf5",
    )
    assert code == 0
    with h5py.File(tmp_path / "r.hdf5") as file:
        layers = json.loads(file.attrs["absorbed_layers"])
        bias, stabiliser = file["absorbed_bias"][0], file["absorbed_stabiliser"][0]
        score, total = file["score"][0], file["relevance"][0].sum()
        assert file["relevance"].dtype == np.float64
    assert layers == ["fc4", "fc3", "conv2", "conv1"] and bias.shape == stabiliser.shape == (4,)
    np.testing.assert_allclose(total + bias.sum() + stabiliser.sum(), score, rtol=1e-9)
    line = out.splitlines()[1]
    assert line.startswith(f"absorbed: {bias.sum() / score:.4f} of the score by biases (fc4 {bias[0] / score:.4f}, ")


def test_audible_heatmaps(audionet, small, tmp_path, capsys):
    folder, network = audionet
    for formula in sounds.FORMULAS:
        code, _, err = call(
            capsys,
            *network,
            "--input",
            folder / "3_01_0.wav",
            "--audible",
            tmp_path / "a.wav",
            "--formula",
            formula,
            "--save",
            tmp_path / "r.hdf5",
        )
        assert (code, err) == (0, "")
        with h5py.File(tmp_path / "r.hdf5") as file:
            wanted = sounds.wav_bytes(sounds.of_waveform(file["input"][0], file["relevance"][0], formula))
        assert (tmp_path / "a.wav").read_bytes() == wanted
    folder, network = small
    code, _, err = call(capsys, *network, "--input", folder / "r0.hdf5", "--audible", tmp_path / "b.wav")
    assert code == 1 and "--audible needs a waveform" in err and not (tmp_path / "b.wav").exists()


def test_composite_files(tmp_path):
    toml = tmp_path / "mine.toml"
    toml.write_text(
        'default = {rule = "Epsilon", epsilon = 0.25}\nfirst = "Flat"\n[types]\n'
        'Convolution = {rule = "AlphaBeta", alpha = 3, beta = 2}\n[names]\n"fc[67]" = "ZPlus"\n'
    )
    found = read_composite(toml)
    assert found.name == "mine" and found.first == Flat() and found.default == Epsilon(0.25)
    assert dict(found.types) == {"Convolution": AlphaBeta(3, 2)}
    network = Network(parse(SMALL), small_weights())
    names = (("conv1", ZBox(-3, 3)), ("fc*", Flat()))
    rules = network.rules(Composite("c", Epsilon(), (("Convolution", AlphaBeta()),), None, names))
    assert [repr(rule).split("(")[0] for rule in rules.values()] == ["ZBox", "AlphaBeta", "Flat", "Flat"]
    as_json = tmp_path / "mine.json"
    as_json.write_text(json.dumps({"name": "j", "names": {"conv1": {"rule": "ZBox", "low": -80, "high": 0}}}))
    assert dict(read_composite(as_json).names) == {"conv1": ZBox(-80, 0)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default = 3", "default: rule: expected one of Epsilon, .*, got 3"),
        ('default = "Omega"', "default: rule: expected one of Epsilon, .*, got 'Omega'"),
        ('default = {rule = "Flat", epsilon = 1}', "rule Flat: expected setting padding, got 'epsilon'"),
        ('default = {rule = "Epsilon", epsilon = "big"}', "epsilon: expected a number, got 'big'"),
        ('default = {rule = "AlphaBeta", alpha = 3}', "alpha - beta = 1"),
        ("defaults = 3", "expected the keys name, default, .*, got 'defaults'"),
        ("types = 3", "types: expected a table, got 3"),
        ("default = ", "expected a composite as TOML or JSON, got "),
    ],
)
def test_wrong_composite_files(tmp_path, text, message):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(LRPError, match=message):
        read_composite(path)


def test_wav_is_preprocessed_for_the_network(audionet, tmp_path, capsys):
    from audiomnist.signal import inputs

    folder, network = audionet
    code, _, err = call(capsys, *network, "--input", folder / "3_01_0.wav", "--seed", 4, "--save", tmp_path / "r.hdf5")
    assert (code, err) == (0, "")
    wanted = inputs.network_inputs(folder / "3_01_0.wav", "3_01_0.wav", 4)["AudioNet"]
    with h5py.File(tmp_path / "r.hdf5") as file:
        np.testing.assert_array_equal(file["input"], wanted)


# --- errors: one sentence, exit code, nothing left behind ------------------------------------------------------------
def bad_files(folder):
    """{name: (file to explain, what the error says)} made in `folder`."""
    x = small_input()[:1]
    write_hdf5(folder / "nan.hdf5", np.full_like(x, np.nan))
    write_hdf5(folder / "shape.hdf5", x[:, :1])
    with h5py.File(folder / "empty.hdf5", "w"):
        pass
    with h5py.File(folder / "text.hdf5", "w") as file:
        file["data"] = "hello"
    (folder / "broken.hdf5").write_bytes(b"\x89HDF\r\n\x1a\nrest")
    (folder / "noise.wav").write_bytes(b"RIFFnothing")
    return {
        "nan.hdf5": "expected finite numbers, got",
        "shape.hdf5": "expected data of shape (N, 2, 12, 13)",
        "empty.hdf5": "expected a preprocessed recording, got no dataset data (but nothing)",
        "text.hdf5": "got data of type object",
        "broken.hdf5": "got no readable HDF5 file",
        "missing.hdf5": "no such file",
        "notes.txt": "extensions .hdf5, .h5, .wav, got .txt",
        "noise.wav": "noise.wav",
    }


def test_bad_recordings(small, tmp_path, capsys):
    _, network = small
    for name, message in bad_files(tmp_path).items():
        before = sorted(os.listdir(tmp_path))
        code, out, err = call(
            capsys,
            *network,
            "--input",
            tmp_path / name,
            "--save",
            tmp_path / "out.hdf5",
            "--output",
            tmp_path / "out.png",
        )
        assert code == 1 and out == "" and message in err, (name, err)
        assert err.startswith("lrp: ") and err.count("\n") == 1
        assert sorted(os.listdir(tmp_path)) == before


def test_a_bad_recording_in_a_list_leaves_no_half_file(small, tmp_path, capsys):
    folder, network = small
    write_hdf5(tmp_path / "nan.hdf5", np.full((1, 2, 12, 13), np.nan))
    (tmp_path / "list.txt").write_text(f"{folder / 'r0.hdf5'}\nnan.hdf5\n")
    before = sorted(os.listdir(tmp_path))
    code, _, err = call(capsys, *network, "--list", tmp_path / "list.txt", "--save", tmp_path / "out.hdf5")
    assert code == 1 and "nan.hdf5: expected finite numbers, got 312" in err and sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--input", "r0.hdf5"], 2, "expected --output, --audible, --save or --report"),
        (["--input", "r0.hdf5", "--output", "x.png", "--composite", "omega"], 2, "expected one of epsilon_plus"),
        (
            ["--input", "r0.hdf5", "--output", "x.png", "--composite", "smoothgrad(noise=-1)"],
            2,
            "smoothgrad: noise: expected a finite number of at least 0, got -1",
        ),
        (
            ["--input", "r0.hdf5", "--output", "x.png", "--target", "first"],
            2,
            "expected predicted, label or a class number, got 'first'",
        ),
        (["--input", "r0.hdf5", "--output", "x.png", "--limit", "2"], 2, "--limit: expected --list with it, got none"),
        (
            ["--input", "r0.hdf5", "--save", "x.h5", "--composite", "gradient", "epsilon_plus"],
            2,
            "--composite: expected one with --save, got 2",
        ),
        (["--input", "r0.hdf5", "--output", "x.bmp"], 1, "x.bmp: expected an extension of .png, .svg, .pdf, got .bmp"),
        (
            ["--input", "r0.hdf5", "--output", "x.png", "--target", "3"],
            1,
            "expected classes from 0 to 2, got [3]",
        ),
        (
            ["--input", "r0.hdf5", "--output", "nowhere/x.png"],
            1,
            "a path in a folder that exists, got nowhere",
        ),
        (["--list", "list.txt", "--save", "nowhere/x.h5"], 1, "a path in a folder that exists, got nowhere"),
        (["--input", "r0.hdf5", "--audible", "x.mp3"], 1, "--audible: expected a name that ends in .wav, got x.mp3"),
        (["--input", "r0.hdf5", "--report", "x"], 1, "expected a spectrogram or a waveform for a report"),
        (
            ["--list", "nothing.txt", "--save", "x.h5"],
            1,
            "nothing.txt: expected a text file with one",
        ),
        (
            ["--input", "r0.hdf5", "--output", "x.png", "--composite", "c.toml"],
            1,
            "c.toml: expected a composite as TOML",
        ),
        (
            ["--input", "r0.hdf5", "--output", "x.png", "--composite", "gradient", "gradient"],
            1,
            "--composite: expected composites of different names, got gradient, gradient",
        ),
        (["--input", "r0.hdf5", "--output", "x" * 300 + ".png"], 1, "x.png: File name too long"),
    ],
)
def test_misuse_and_failure(small, capsys, monkeypatch, arguments, code, message):
    folder, network = small
    monkeypatch.chdir(folder)
    before = sorted(os.listdir(folder))
    found, out, err = call(capsys, *network, *arguments)
    assert found == code and message in err and out == "" and "Traceback" not in err
    assert sorted(os.listdir(folder)) == before


def test_wrong_weights_and_models(small, tmp_path, capsys):
    folder, network = small
    cut = tmp_path / "cut.caffemodel"
    cut.write_bytes((folder / "net.caffemodel").read_bytes()[:700])
    wrong = tmp_path / "wrong.prototxt"
    wrong.write_text(SMALL.replace("num_output: 3", "num_output: 4"))
    for model, weights, message in (
        (network[1], cut, "cut.caffemodel"),
        (wrong, network[3], "layer fc4: expected weight of shape (4, 5) in the weights, got (3, 5)"),
        (tmp_path / "none.prototxt", network[3], "none.prototxt"),
        (network[3], network[3], "net.caffemodel"),
    ):
        code, out, err = call(
            capsys,
            "--model",
            model,
            "--weights",
            weights,
            "--input",
            folder / "r0.hdf5",
            "--output",
            tmp_path / "x.png",
        )
        assert code == 1 and message in err and err.count("\n") == 1 and not (tmp_path / "x.png").exists()


def test_faithfulness_command(small, tmp_path, capsys):
    folder, network = small
    listed = [*network, "--list", str(folder / "list.txt"), "--units", "values"]
    picture = ["--output", str(tmp_path / "c.png")]
    assert (
        faithfulness([*listed, "--composite", "epsilon_plus", "gradient", "--save", str(tmp_path / "c.csv"), *picture])
        == 0
    )
    lines = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    own = ["most first", "least first", "energy-matched random"]
    assert lines == [
        *(f"epsilon_plus, {kind}" for kind in (*own, "magnitude first", "most first for the rival")),
        *(f"gradient, {kind}" for kind in (*own, "magnitude first")),
        *(f"{source}, {kind}" for source in ("amplitude", "random") for kind in own[:2]),
        *("epsilon_plus", "gradient", "amplitude", "random"),
    ]
    assert sorted(os.listdir(tmp_path)) == ["c.csv", "c.png"]


def test_faithfulness_follows_the_predicted_class_or_the_label(small, tmp_path, capsys):
    folder, network = small
    listed = [*network, "--list", str(folder / "list.txt"), "--units", "values", "--replacement", "silence"]
    listed += ["--composite", "epsilon_plus", "--label-column", "0", "--save"]
    for name, more in (("p", ()), ("again", ("--batch", "2", "--limit", "0")), ("l", ("--target", "label"))):
        assert faithfulness([*listed, str(tmp_path / name), *more]) == 0
    tables = {name: read_rows(tmp_path / name) for name in ("p", "again", "l")}
    assert tables["p"] == tables["again"]  # recordings come in batches
    files = [read_recording(folder / f"r{k}.hdf5").data for k in range(3)]
    x, lrp_network = np.concatenate(files), Network(network[1], network[3])
    prediction = lrp_network.forward(x).argmax(axis=1)
    labels = np.arange(3)
    assert (prediction != labels).any()
    for name, target in (("p", prediction), ("l", labels)):
        parts = Parts(x)
        order = parts.order(lrp_network.relevance(x, target, "epsilon_plus").relevance)
        wanted = curves(lrp_network.forward, parts, target, order)
        own = [row for row in tables[name] if row["kind"] == "most first" and row["source"] == "epsilon_plus"]
        np.testing.assert_allclose([float(row["accuracy"]) for row in own], wanted.right.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose([float(row["margin"]) for row in own], wanted.margin.mean(axis=0), rtol=1e-4)


def read_rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_colour_limit_and_zoom():
    assert limit(np.zeros(5)) == 1
    values = np.zeros(10000)
    values[3] = -2.0
    assert limit(values) == 2  # the percentile is zero: the largest
    assert zoom_window(np.array([0, 0, 5, -5, 0, 0, 1]), 2) == 2


# --- the report ------------------------------------------------------------------------------------------------------
# switching class, composite and recording; both sounds with their moving line; by keyboard; in every window
LOOK = """
  const picture = () => page.locator("canvas").evaluate(one => one.toDataURL());
  const choose = (name, value) => page.locator(`[name=${name}]`).selectOption(value);
  const said = {}, first = await picture();
  said.mistakes = await mistakes(await page.content());
  said.prediction = await page.locator("[name=target]").inputValue();
  await page.keyboard.press("Tab"); await page.keyboard.press("Tab"); await page.keyboard.press("Tab");
  await page.keyboard.press("ArrowDown");  // of the class, the third control
  if (await page.locator("[name=target]").inputValue() === said.prediction) await page.keyboard.press("ArrowUp");
  said.switches = [await picture() !== first];
  await choose("target", said.prediction);
  said.returns = await picture() === first;
  await choose("composite", "gradient"); said.switches.push(await picture() !== first);
  await choose("composite", "epsilon_plus"); await choose("recording", "1");
  said.switches.push(await picture() !== first);
  await choose("recording", "0");
  said.facts = await page.locator(".facts").textContent();
  said.label = await page.locator("canvas").getAttribute("aria-label");
  said.rules = await page.locator(".rules").textContent();
  said.sounds = [];
  for (const sound of await page.locator("audio").all()) {
    const line = page.locator(".cursor"), place = () => line.evaluate(one => parseFloat(one.style.left));
    await sound.focus();
    await page.keyboard.press("Space");
    await line.waitFor();
    const before = await place();
    await page.waitForFunction(then => parseFloat(document.querySelector(".cursor").style.left) > then, before);
    await line.waitFor({state: "hidden"});  // at the end of the sound
    said.sounds.push(await sound.evaluate(one => [one.duration, one.ended]));
    said.places = [];
    for (const share of [0, 0.5, 1]) {
      await sound.evaluate(async (one, share) => {
        one.currentTime = 0.01 + 0.98 * share;
        await new Promise(done => { one.addEventListener("seeked", done); });
      }, share);
      said.places.push(await place());
    }
  }
  const session = await page.context().newCDPSession(page);
  said.seen = {};
  for (const type of ["none", "protanopia", "deuteranopia", "tritanopia"]) {
    await session.send("Emulation.setEmulatedVisionDeficiency", {type});
    said.seen[type] = (await page.locator(".picture").screenshot()).toString("base64");
  }
  await session.send("Emulation.setEmulatedVisionDeficiency", {type: "none"});
  said.windows = await windows();
  return said;
"""


@pytest.mark.slow
def test_report_in_a_browser(audionet, tmp_path, capsys):
    """The page in Chromium, with a network of waveforms: everything that it offers, to everybody, in every window."""
    folder, network = audionet
    (tmp_path / "list.txt").write_text(f"{folder / '3_01_0.wav'}\n{folder / 'AudioNet_3_01_1.hdf5'}\n")
    code, out, err = call(
        capsys,
        *network,
        "--list",
        tmp_path / "list.txt",
        "--composite",
        "epsilon_plus",
        "gradient",
        "--report",
        tmp_path / "report",
    )
    assert code == 0, err
    page = tmp_path / "report" / "index.html"
    assert out.splitlines()[-1] == str(page) and os.listdir(tmp_path / "report") == ["index.html"]
    text = page.read_text(encoding="utf-8")
    assert "http:" not in text and "https:" not in text  # complete in itself
    assert faults(text) == []
    result = look(page.as_uri(), LOOK)
    assert result["mistakes"] == [] and result["windows"] == [[[], 0]] * 4
    assert result["switches"] == [True] * 3 and result["returns"]
    assert "3_01_0.wav" in result["facts"] and "sum(R)/score" in result["facts"] and "ZPlus" in result["rules"]
    assert result["facts"] in result["label"] and "over the waveform" in result["label"]
    assert result["sounds"] == [[1, True]] * 2
    first, middle, last = result["places"]  # of the picture's width, in percent: within the axes, evenly
    assert middle - first == pytest.approx(last - middle, abs=0.01) and 5 < first < 15 and 85 < last < 95
    for eyes, picture in result["seen"].items():  # the middles of the bar's two halves: for and against
        colours = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
        red, blue = (colours.getpixel((colours.width - 69, round(share * colours.height))) for share in (0.25, 0.7))
        lab = rgb2lab(np.array([red, blue]) / 255)
        assert deltaE_ciede2000(*lab) > 20, (eyes, red, blue)  # 1 can just be told apart
