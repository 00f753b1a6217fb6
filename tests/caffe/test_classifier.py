"""Classifier and Detector: the original's predictions (golden/pycaffe), and the context crop against a slow twin."""

from pathlib import Path

import numpy as np
import pycaffe_cases
import pytest

HERE = Path(__file__).resolve().parents[1]
IMAGES = HERE / "golden/pycaffe/images"
GOLDEN = np.load(HERE / "golden/pycaffe/arrays.npz")


@pytest.mark.parametrize("case", pycaffe_cases.ENGINE)
def test_predictions_are_the_originals(case, tmp_path):
    made = pycaffe_cases.ENGINE[case](str(IMAGES), str(tmp_path))
    wanted = {key.split(" ", 1)[1]: GOLDEN[key] for key in GOLDEN if key.startswith(f"{case} ")}
    assert set(made) == set(wanted) and wanted
    for name, array in made.items():
        np.testing.assert_allclose(array, wanted[name], rtol=1e-4, atol=1e-7, err_msg=name)


def test_predictions_tell_the_images_apart(tmp_path):
    predictions = pycaffe_cases.classified(str(IMAGES), str(tmp_path))["default_ten"]
    assert predictions.shape == (3, 6)
    np.testing.assert_allclose(predictions.sum(1), 1, rtol=1e-5)
    assert np.abs(predictions[0] - predictions[1]).max() > 1e-3


def slow_context_crop(image, window, size, context_pad, fill):
    """R-CNN's warp with context, one axis at a time; returns (crop, mask of what is filled)."""
    import caffe.io

    spans, sources = [], []
    for low, high, limit in ((window[0], window[2], image.shape[0]), (window[1], window[3], image.shape[1])):
        half = (high - low + 1) / 2
        centre = low + half
        half = half * size / (size - 2 * context_pad)
        start, stop = round(centre - half), round(centre + half)
        pixels_per_pixel = size / (stop - start + 1)
        before = round(max(0, -start) * pixels_per_pixel)
        start, stop = max(start, 0), min(stop, limit)
        spans.append((before, min(before + round((stop - start + 1) * pixels_per_pixel), size)))
        sources.append((start, stop))
    (top, bottom), (left, right) = spans
    (y0, y1), (x0, x1) = sources
    crop = np.empty((size, size, image.shape[2]))
    crop[...] = fill
    crop[top:bottom, left:right] = caffe.io.resize_image(image[y0:y1, x0:x1], (bottom - top, right - left))
    outside = np.ones((size, size), dtype=bool)
    outside[top:bottom, left:right] = False
    return crop, outside


@pytest.mark.parametrize("window", [(4, 5, 11, 12), (0, 0, 9, 6), (12, 15, 19, 23), (3, 0, 6, 23)])
@pytest.mark.parametrize("context_pad", [1, 3])
def test_context_crop(window, context_pad, tmp_path):
    net = pycaffe_cases.scorer("Detector", str(tmp_path), context_pad=context_pad)
    image = pycaffe_cases.random_image(30, 20, 24, 3) % 1
    # the mean is in input space (BGR, times 255); crops are in image space (RGB, in [0, 1])
    fill = (pycaffe_cases.SCORER_SETTINGS["mean"] / 255)[::-1]
    wanted, outside = slow_context_crop(image, window, 12, context_pad, fill)
    made = net.crop(image, np.array(window))
    np.testing.assert_allclose(made, wanted, atol=1e-6)
    inside_only = net.transformer.preprocess("data", made)[:, outside]
    np.testing.assert_allclose(inside_only, 0, atol=1e-4)  # what was filled with the mean is zero to the net


def test_windows_with_context_are_scored(tmp_path):
    net = pycaffe_cases.scorer("Detector", str(tmp_path), context_pad=2)
    found = net.detect_windows([(str(IMAGES / "rgb.png"), pycaffe_cases.WINDOWS)])
    assert [d["window"] for d in found] == pycaffe_cases.WINDOWS
    for detection in found:
        np.testing.assert_allclose(detection["prediction"].sum(), 1, rtol=1e-5)
    assert net.detect_windows([]) == []
    with pytest.raises(ValueError, match="expected a part of the image of 20 x 24 pixels, got what lies outside"):
        net.detect_windows([(str(IMAGES / "rgb.png"), [(40, 40, 50, 50)])])


def test_selective_search_says_what_it_needs(tmp_path):
    with pytest.raises(ImportError, match="expected the package selective_search_ijcv_with_python"):
        pycaffe_cases.scorer("Detector", str(tmp_path)).detect_selective_search([str(IMAGES / "rgb.png")])


@pytest.mark.bvlc
def test_the_golden_files_are_what_the_original_makes_today(bvlc, tmp_path):
    import json
    import shutil

    shutil.copytree(IMAGES, tmp_path / "images")
    bvlc("python3", HERE / "golden/pycaffe/recipe.py", tmp_path)
    golden = HERE / "golden/pycaffe"
    assert json.loads((tmp_path / "texts.json").read_text()) == json.loads((golden / "texts.json").read_text())
    for name in ("arrays.npz", "nets.npz"):
        made, kept = np.load(tmp_path / name), np.load(golden / name)
        assert set(made) == set(kept)
        for key in kept:
            # OpenBLAS sums in an order that depends on the machine and its threads
            scale = np.abs(kept[key]).max()
            np.testing.assert_allclose(made[key], kept[key], rtol=1e-4, atol=1e-6 * scale, err_msg=key)
