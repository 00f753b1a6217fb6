"""Relevance over waveforms with a zoom, and the same relevance in frequency and in time-frequency (DFT-LRP).

DFT-LRP is the same group's later method and not in the paper.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from audiomnist.explain import drawing
from audiomnist.signal.geometry import HOP, SAMPLE_RATE, WINDOW
from audiomnist.study import relevance
from audiomnist.study.outcome import Experiment, Outcome
from audiomnist.study.setting import Setting
from audiomnist.study.trained import Recordings, TrainedRun
from lrp import Explanation
from lrp.dft import dft_frequencies, dft_relevance, stdft_axes, stdft_relevance

NETWORK = "AudioNet"
DIGITS = (0,)
BAND = 50  # Hz, of the bars of relevance by frequency: single coefficients are 1 Hz apart and too many to see


def by_band(frequencies: np.ndarray, values: np.ndarray, width: float = BAND) -> tuple[np.ndarray, np.ndarray]:
    """(lower edges in Hz (B,), sums of `values` (K,) in bands of `width` Hz (B,)); the last band has its upper edge."""
    bands = np.minimum(frequencies // width, np.ceil(frequencies[-1] / width) - 1).astype(int)
    return np.arange(bands[-1] + 1) * width, np.bincount(bands, values)


def draw_frequency(axes, x: np.ndarray, own: np.ndarray) -> None:
    """Relevance (T,) of the waveform (T,) by frequency, in bands."""
    edges, sums = by_band(dft_frequencies(len(x), SAMPLE_RATE), dft_relevance(x, own))
    axes.bar(edges + BAND / 2, sums, width=BAND, color=np.where(sums >= 0, "C3", "C0"))
    axes.axhline(0, color="0.5", linewidth=0.5)
    axes.set(xlabel="frequency (Hz)", ylabel=f"R in {BAND} Hz", xlim=(0, SAMPLE_RATE / 2))


def draw_time_frequency(axes, x: np.ndarray, own: np.ndarray) -> None:
    """Relevance (T,) of the waveform (T,) in time and frequency; symmetric colours around zero."""
    values = stdft_relevance(x, own, "hann", WINDOW, HOP)
    frequencies, times = stdft_axes(len(x), WINDOW, HOP, SAMPLE_RATE)
    end = drawing.limit(values)
    extent = (times[0], times[-1], 0, frequencies[-1])
    axes.imshow(values, origin="lower", aspect="auto", cmap=drawing.COLOURS, vmin=-end, vmax=end, extent=extent)
    axes.set(xlabel="time (s)", ylabel="frequency (Hz)", xlim=(0, len(x) / SAMPLE_RATE))


def draw(run: TrainedRun, recordings: Recordings, explanation: Explanation) -> Figure:
    """A row for each recording: waveform, zoom, relevance by frequency, relevance in time and frequency."""
    count = len(recordings.names)
    figure = Figure(figsize=(14, 3.2 * count + 0.3), dpi=100, layout="constrained")
    for index, row in enumerate(figure.subfigures(count, 1, squeeze=False)[:, 0]):
        text = f"{relevance.line(run, recordings, explanation, index)}; {explanation.composite}, sum(R)/score = "
        row.suptitle(f"{text}{explanation.conserved[index]:.3f}", fontsize="small", x=0.01, ha="left")
        wave, zoom, frequency, both = row.subplots(1, 4, width_ratios=(1.6, 1, 1, 1.2))
        x, own = recordings.data[index].ravel(), explanation.relevance[index].ravel()
        drawing.draw_waveform(row, wave, x, own, zoom, colourbar=False)
        draw_frequency(frequency, x, own)
        draw_time_frequency(both, x, own)
        frequency.set_title("DFT-LRP", fontsize="small")
        both.set_title("DFT-LRP, time and frequency", fontsize="small")
    return figure


def add_pictures(
    outcome: Outcome, run: TrainedRun, recordings: Recordings, explanations: dict[str, Explanation], frame: pd.DataFrame
) -> None:
    """One run's picture for each composite, and the column of what DFT-LRP kept of the relevance."""
    samples = recordings.data.reshape(len(recordings.names), -1)
    carried = [dft_relevance(samples, e.relevance.reshape(samples.shape)).sum(axis=-1) for e in explanations.values()]
    frame["dft_sum_over_score"] = np.concatenate(carried) / frame["score"]
    for composite, explanation in explanations.items():
        caption = (
            f"Relevance of waveforms for {run.task.label} ({run.run}, weights {run.weights_sha256[:12]}, "
            f"{composite}): over the samples, in the 50 ms that hold most of it, by frequency and in time and "
            "frequency (DFT-LRP). Red speaks for the target, blue against it."
        )
        outcome.figures[f"{run.run.task}_{composite}"] = draw(run, recordings, explanation), caption


def make(setting: Setting) -> Outcome:
    """A picture for each task's first trained split and each composite, and the table behind the captions."""
    return relevance.pictures(setting, NETWORK, DIGITS, add_pictures)


EXPERIMENT = Experiment("waveform_relevance", "Relevance over waveforms", make, networks=(NETWORK,), position=50)
