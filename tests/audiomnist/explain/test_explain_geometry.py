"""Inputs of another rate or window than the study's: their files say so, and pictures, sounds and reports follow."""

import json
import wave

import h5py
import numpy as np
import pytest

from audiomnist.explain import audible, cli, drawing
from audiomnist.preprocessing import store
from audiomnist.signal.geometry import SPECTROGRAM, WAVEFORM, Geometry, read_geometry
from audiomnist.signal.inputs import NETWORKS
from audiomnist.signal.wav import RecordingError
from caffe_proto import array_to_blobproto, write_message
from tests.lrp.test_lrp_network import inputs, layer, parse

# 16 kHz, frames of 25 ms every 10 ms: 40 Hz between frequencies; the first kept are 120 Hz and 50 ms
OTHER = {"sample_rate": 16000, "window": 400, "hop": 160, "first_bin": 3, "first_frame": 5}
SHAPES = {"spectrogram": (1, 20, 30), "waveform": (1, 1, 6400)}
NAMES = {"spectrogram": "AlexNet_a.hdf5", "waveform": "AudioNet_a.hdf5"}  # the second is the sound of the first


@pytest.fixture(params=SHAPES)
def kind(request):
    return request.param


def write(path, shape, attributes):
    with h5py.File(path, "w") as file:
        file["data"] = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
        file["label"] = np.zeros((1, 1), np.float32)
        file.attrs.update(attributes)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a network and a recording for each kind; it is the current one."""
    monkeypatch.chdir(tmp_path)
    for kind, shape in SHAPES.items():
        text = inputs(1, *shape) + layer(
            "score", "InnerProduct", "data", "score", "inner_product_param { num_output: 2 bias_term: false }"
        )
        net = parse(text)
        values = int(np.prod(shape))
        weights = np.random.default_rng(1).normal(size=(2, values)).astype(np.float32)
        net.layer[1].blobs.append(array_to_blobproto(weights))
        (tmp_path / f"{kind}.prototxt").write_text(text)
        write_message(tmp_path / f"{kind}.caffemodel", net)
        write(NAMES[kind], shape, OTHER if kind == "spectrogram" else {"sample_rate": 16000})
    return tmp_path


def run(kind, *arguments):
    return cli.main(["--model", f"{kind}.prototxt", "--weights", f"{kind}.caffemodel", *arguments])


def figure_of(monkeypatch, kind):
    """The figure that the command draws."""
    figures = []
    monkeypatch.setattr(drawing, "write", lambda figure, path: figures.append(figure))
    assert run(kind, "--input", NAMES[kind], "--output", "a.png") == 0
    return figures[0]


def test_axes_of_a_spectrogram_by_hand(here, monkeypatch):
    figure = figure_of(monkeypatch, "spectrogram")
    pictures = [picture for axes in figure.axes for picture in axes.get_images()]
    assert len(pictures) == 3  # the input, and relevance over it
    for picture in pictures:
        # frames centred at 0.05, 0.06, ... 0.34 s and frequencies 120, 160, ... 880 Hz, half a step around them
        np.testing.assert_allclose(picture.get_extent(), (0.045, 0.345, 100, 900), rtol=1e-12)
        assert (picture.axes.get_xlabel(), picture.axes.get_ylabel()) == ("time (s)", "frequency (Hz)")


def test_axes_of_a_waveform_by_hand(here, monkeypatch):
    figure = figure_of(monkeypatch, "waveform")
    whole, zoom = (axes for axes in figure.axes if axes.get_xlabel() == "time (s)")
    np.testing.assert_allclose(whole.get_xlim(), (0, 6399 / 16000))
    np.testing.assert_allclose(np.diff(zoom.get_xlim()), 799 / 16000)  # 50 ms are 800 samples


def test_sounds_have_the_inputs_rate(here, kind):
    assert run(kind, "--input", NAMES[kind], "--audible", "a.wav") == 0
    with wave.open("a.wav") as file:
        assert (file.getframerate(), file.getnframes()) == (16000, 6400)


def test_saved_relevance_carries_the_geometry_on(here, kind):
    assert run(kind, "--input", NAMES[kind], "--save", "r.hdf5") == 0
    with h5py.File("r.hdf5") as file:
        wanted = OTHER if kind == "spectrogram" else {"sample_rate": 16000}
        assert {name: file.attrs[name] for name in OTHER if name in file.attrs} == wanted
        assert read_geometry(file.attrs, file["relevance"].shape[1:]) == Geometry(**wanted)


def test_a_report_places_every_recording(here, kind):
    assert run(kind, "--input", NAMES[kind], "--report", "page") == 0
    page = (here / "page" / "index.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    one = data["recordings"][0]
    if kind == "waveform":
        assert (one["start"], one["end"], one["hertz"]) == (0, 0.4, None)
    else:
        np.testing.assert_allclose((one["start"], one["end"], *one["hertz"]), (0.045, 0.345, 100, 900))


def test_a_list_with_two_rates(here, kind, capsys):
    other = f"other_{NAMES[kind]}"
    write(other, SHAPES[kind], (OTHER if kind == "spectrogram" else {}) | {"sample_rate": 8000})
    (here / "list.txt").write_text(f"{NAMES[kind]}\n{other}\n")
    assert run(kind, "--list", "list.txt", "--output", "pictures") == 0
    capsys.readouterr()
    assert run(kind, "--list", "list.txt", "--save", "r.hdf5") == 1
    error = "expected sample_rate 16000, as the recordings before have it, got sample_rate 8000\n"
    assert capsys.readouterr().err == f"lrp: {other}: {error}" and not (here / "r.hdf5").exists()


def test_the_sound_beside_a_spectrogram_must_have_its_rate(here, capsys):
    write(NAMES["waveform"], SHAPES["waveform"], {"sample_rate": 8000})
    assert run("spectrogram", "--input", NAMES["spectrogram"], "--audible", "a.wav") == 1
    error = "lrp: AudioNet_a.hdf5: expected sample_rate 16000, as AlexNet_a.hdf5 has it, got 8000\n"
    assert capsys.readouterr().err == error


def test_relevance_of_one_tone_leaves_that_tone():
    time = np.arange(16000) / 16000
    low, high = np.sin(2 * np.pi * 1000 * time), np.sin(2 * np.pi * 5000 * time)
    relevance = np.full((1, 190, 80), -1.0)
    relevance[0, 50:] = 1  # from (3 + 50) * 40 = 2120 Hz on
    found = audible.of_spectrogram(low + high, relevance, geometry=Geometry(**OTHER))
    power = np.abs(np.fft.rfft(found)) ** 2
    assert power.argmax() == 5000 and power[800:1200].sum() < 1e-4 * power.sum()
    # the first frame that is kept is centred at 50 ms and begins 12.5 ms before, the last at 840 ms
    heard = np.flatnonzero(np.abs(found) > 1e-9) / 16000
    assert 0.0375 - 1e-4 < heard[0] < 0.04 and 0.85 < heard[-1] < 0.8525 + 1e-4


WRONG = {
    "expected a whole number of at least 1 as attribute hop, got none": {"sample_rate": 8000, "window": 40},
    "expected a whole number of at least 1 as attribute sample_rate, got 0": {"sample_rate": 0},
    "expected a whole number of at least 1 as attribute sample_rate, got 8000.5": {"sample_rate": 8000.5},
    "expected a whole number of at least 1 as attribute sample_rate, got 'fast'": {"sample_rate": "fast"},
    "expected a whole number of at least 1 as attribute sample_rate, got nan": {"sample_rate": np.nan},
    "expected a whole number of at least 1 as attribute sample_rate, got shape (2,)": {"sample_rate": [8000, 1]},
    "expected a whole number of at least 0 as attribute first_bin, got -1": OTHER | {"first_bin": -1},
    "expected data of shape (1, 1, samples) of a waveform, got (1, 20, 30)": {"sample_rate": 8000},
    "expected data of shape (1, at most 18 frequencies, frames) of a spectrogram with window 40, got (1, 20, 30)": OTHER
    | {"window": 40},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_attributes_are_one_sentence(here, message, capsys):
    write("wrong.hdf5", SHAPES["spectrogram"], WRONG[message])
    assert run("spectrogram", "--input", "wrong.hdf5", "--output", "a.png") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"lrp: wrong.hdf5: {message}") and error.count("\n") == 1


def test_the_study_is_the_default_and_what_its_files_say():
    for network, wanted in (("AlexNet", SPECTROGRAM), ("AudioNet", WAVEFORM)):
        shape = NETWORKS[network].shape[1:]
        assert read_geometry({}, shape) == NETWORKS[network].geometry == wanted
        assert read_geometry(wanted.attributes(), shape) == wanted
    assert read_geometry({"window": "hann"}, (3, 5, 7)) is None  # anybody's attribute, an image
    with pytest.raises(RecordingError):
        read_geometry({"sample_rate": 8000}, (3, 5, 7))


ORIGINAL = """
import caffe
net = caffe.Net("net.prototxt", caffe.TEST)
net.forward()
print(net.blobs["data"].data.shape, float(net.blobs["data"].data.sum()), net.blobs["label"].data.tolist())
"""


@pytest.mark.bvlc
@pytest.mark.parametrize("network", NETWORKS)
def test_the_original_reads_files_with_attributes(network, bvlc, tmp_path):
    shape = NETWORKS[network].shape
    data = np.random.default_rng(0).integers(-8, 8, shape).astype(np.float32)
    (tmp_path / "a.hdf5").write_bytes(store.hdf5_bytes(network, data, (3, 1)))
    (tmp_path / "list.txt").write_text("a.hdf5\n")
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "d" type: "HDF5Data" top: "data" top: "label" '
        'hdf5_data_param { source: "list.txt" batch_size: 1 } }\n'
    )
    (tmp_path / "read.py").write_text(ORIGINAL)
    done = bvlc("python3", "read.py", cwd=tmp_path)
    assert done.stdout.strip() == f"{shape} {float(data.sum())} [[3.0, 1.0]]"
