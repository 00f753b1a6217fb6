"""Pictures by their artists: arrays, extents, colour scales; and what captions say."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from audiomnist.explain import drawing
from audiomnist.signal.geometry import SPECTROGRAM, WAVEFORM, Geometry
from lrp import COMPOSITES, Explanation, Network
from tests.lrp.test_lrp_network import inputs, layer, parse


def explanation(**more):
    R = np.array([[[[0.5, 0.25]]]])
    fixed = {"scores": np.array([[2.0, 1.0]]), "score": np.array([2.0]), "prediction": np.array([0])}
    return Explanation(R, target=np.array([0]), composite="c", rules={}, **fixed, **more)


def test_colours_end_at_the_999th_of_a_thousand():
    assert drawing.limit(np.arange(1001.0)) == drawing.limit(-np.arange(1001.0)) == pytest.approx(999)


def test_relevance_lies_on_its_spectrogram():
    rng = np.random.default_rng(0)
    data, R = rng.normal(size=(1, 20, 30)), rng.normal(size=(1, 20, 30))
    figure = Figure()
    axes = figure.subplots()
    drawing.draw_spectrogram(figure, axes, data, R, geometry=Geometry(8000, 400, 100, 2, 1))
    below, above = axes.get_images()
    np.testing.assert_array_equal(below.get_array(), data[0])
    for image in (below, above):  # from 40 - 10 to 420 + 10 Hz, frames 12.5 ms apart from half of that before the first
        assert image.origin == "lower"
        np.testing.assert_allclose(image.get_extent(), (0.00625, 0.38125, 30, 430))
    shown, end = np.asarray(above.get_array()), np.percentile(np.abs(R), 99.9)
    np.testing.assert_allclose(shown[..., 3], np.minimum(np.abs(R[0]) / end, 1) ** 0.5, atol=1e-12)
    red = shown[..., 0] > shown[..., 2]
    np.testing.assert_array_equal(red[np.abs(R[0]) > 0.1 * end], (R[0] > 0)[np.abs(R[0]) > 0.1 * end])


def test_samples_have_the_colour_of_their_own_relevance():
    rng = np.random.default_rng(1)
    x, R = rng.normal(size=12), rng.normal(size=12)
    R[3] = 0
    figure = Figure()
    axes = figure.subplots()
    drawing.draw_waveform(figure, axes, x, R, geometry=Geometry(4))
    (lines,) = (one for one in axes.collections if isinstance(one, LineCollection))
    np.testing.assert_array_equal(lines.get_array(), R)
    end = np.percentile(np.abs(R), 99.9)
    assert lines.norm.vmin == -end and lines.norm.vmax == end
    colours = lines.cmap(lines.norm(lines.get_array()))
    np.testing.assert_allclose(colours[3][:3], to_rgba("white")[:3], atol=0.01)
    np.testing.assert_array_equal((colours[:, 0] > colours[:, 2])[R != 0], (R > 0)[R != 0])
    times = np.arange(12) / 4
    for n, piece in enumerate(lines.get_segments()):
        np.testing.assert_allclose(piece[1], (times[n], x[n]))
        np.testing.assert_allclose(piece[0], (max(times[n] - 0.125, 0), x[max(n - 1, 0) : n + 1].mean()))
        np.testing.assert_allclose(piece[2], (min(times[n] + 0.125, 2.75), x[n : n + 2].mean()))


def test_captions_say_within_what_relevance_is_shared_out():
    text = inputs(1, 1, 30, 30) + layer(
        "conv1", "Convolution", "data", "c", "convolution_param { num_output: 2 kernel_size: 11 dilation: 1 stride: 4 }"
    )
    text += layer("score", "InnerProduct", "c", "score", "inner_product_param { num_output: 2 }")
    weights = {"conv1": [np.ones((2, 1, 11, 11)), np.zeros(2)], "score": [np.ones((2, 50)), np.zeros(2)]}
    network, x = Network(parse(text), weights), np.ones((1, 1, 30, 30))
    words = {"epsilon_plus": "", "epsilon_plus_flat": "shared out within 193 Hz x 48 ms"}
    words["toolbox_104"] = f"{words['epsilon_plus_flat']}; {COMPOSITES['toolbox_104'].note}"
    for composite, wanted in words.items():
        lines = drawing.caption(network.relevance(x, composite=composite), geometry=SPECTROGRAM).split("\n")
        assert lines[1:-1] == ([wanted] if wanted else []) and "sum(R)/score" in lines[0]
        assert lines[-1].startswith("conv1 ")


@pytest.mark.parametrize(
    ("shared", "geometry", "wanted"),
    [
        ((1, 3), WAVEFORM, "shared out within 3 samples (0.38 ms)"),
        ((11, 11), None, "shared out within 11 x 11 values"),
        ((1, 1), SPECTROGRAM, ""),
        (None, SPECTROGRAM, ""),
    ],
)
def test_resolution(shared, geometry, wanted):
    assert drawing.resolution(explanation(shared=shared), geometry) == wanted


def test_a_method_with_a_measure_of_its_own_shows_that():
    assert "sum(R)/score = 0.3750" in drawing.caption(explanation())
    text = drawing.caption(explanation(measures={"completeness error": np.array([0.0123])}))
    assert "completeness error = 1.23%" in text and "sum(R)" not in text


def test_no_line_of_a_caption_is_wider_than_its_picture():
    made = explanation(note=COMPOSITES["toolbox_102"].note, shared=(11, 11))
    text = drawing._wrapped(drawing.caption(made, geometry=SPECTROGRAM), 80)
    assert max(map(len, text.split("\n"))) <= 80 and made.note in text.replace("\n", " ")
