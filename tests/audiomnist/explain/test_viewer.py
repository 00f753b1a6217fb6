"""What viewer.js draws, pixel by pixel, from a hand-made report: where red and blue lie, and how tall the curve is."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from audiomnist.explain.page import document, part
from tests.chromium import look

SHOW = """
const reports = JSON.parse(document.getElementById("data").textContent);
for (const report of reports) view(document.querySelector("main").appendChild(document.createElement("div")), report);
"""


def bytes_of(values):
    return base64.b64encode(np.asarray(values, np.int8).tobytes()).decode()


def report(shape, data, relevance, hertz):
    """A report of one recording, from 0 to 1 s, of a class with that relevance (127: the colour scale's end)."""
    shown = {"relevance": bytes_of(relevance), "limit": 1.5, "score": 2.0, "measure": "m", "sound": None}
    one = {"name": "r", "label": None, "prediction": 0, "sound": None, "explanations": {"rule": {"0": shown}}}
    one |= {"shape": shape, "start": 0.0, "end": 1.0, "hertz": hertz, "input": bytes_of(data)}
    return {"classes": ["0"], "rules": {"rule": "about it"}, "recordings": [one]}


@pytest.mark.slow
def test_relevance_is_drawn_where_it_is(tmp_path):
    spectrogram = np.full((4, 4), -127)  # (frequencies, frames) in dB: silence, which is white
    spectrogram[1, 2] = 127  # the loudest: black
    relevance = np.zeros((4, 4))
    relevance[3, 0], relevance[0, 3] = 127, -127  # for, high and early; against, low and late
    wave, spots = np.zeros(1000), np.zeros(1000)
    wave[:500:2], wave[1:500:2], wave[500:] = 127, -127, 0  # full height in the first half
    spots[100:120], spots[300:320] = 64, -64
    both = [report([1, 4, 4], spectrogram, relevance, [0, 4000]), report([1, 1, 1000], wave, spots, None)]
    page = tmp_path / "page.html"
    page.write_text(document("T", f"<main></main>{part('viewer.html')}", [part("viewer.js"), SHOW], both), "utf-8")
    steps = """
      const shots = [];
      for (const canvas of await page.locator("canvas").all())
        shots.push(await canvas.evaluate(one => one.toDataURL().split(",")[1]));
      return [shots, await page.locator(".facts").allTextContents()];
    """
    shots, facts = look(page.as_uri(), steps)
    assert facts == ["r: predicted 0, explained 0; rule, m, score = 2.000"] * 2
    first, second = (
        np.array(Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB")).astype(int) for shot in shots
    )
    # the frame: the first and the last column and row that is grey for the most part
    grey = (first.sum(axis=2) < 500) & (np.ptp(first, axis=2) < 10)
    (left, right), (top, bottom) = (np.flatnonzero(grey.mean(axis=axis) > 0.5)[[0, -1]] for axis in (0, 1))

    def at(picture, across, up):
        return picture[round(bottom - up * (bottom - top)), round(left + across * (right - left))]

    cells = {(row, column): at(first, (column + 0.5) / 4, (row + 0.5) / 4) for row in range(4) for column in range(4)}
    assert tuple(cells.pop((3, 0))) == (128, 0, 0) and tuple(cells.pop((0, 3))) == (0, 0, 128)
    assert cells.pop((1, 2)).max() < 5 and min(cell.min() for cell in cells.values()) > 250
    # the bar beside it: for above, against below, in the same colours
    bar = first[:, right + 16]
    coloured = np.flatnonzero(np.ptp(bar, axis=1) > 50)
    assert (bar[coloured[0]] > 50).tolist() == [True, False, False]
    assert (bar[coloured[-1]] > 50).tolist() == [False, False, True]
    # the curve: full height in the first half, in red and blue where there is relevance; a line in the second
    more = second[top:bottom, :, 0] - second[top:bottom, :, 2]  # red than blue
    for mask, begin, end in ((more > 30, 0.1, 0.12), (more < -30, 0.3, 0.32)):
        columns = np.flatnonzero(mask[:, left + 1 : right].any(axis=0)) / (right - left)
        assert begin - 0.005 < columns.min() < begin + 0.005 and end - 0.005 < columns.max() < end + 0.005
        assert mask.any(axis=1).mean() == pytest.approx(0.96, abs=0.02)
    inked = second[top + 2 : bottom - 2, round(left + 0.6 * (right - left))].min(axis=1) < 250
    assert inked.sum() <= 3 and np.flatnonzero(inked).mean() == pytest.approx(inked.size / 2, abs=2)
