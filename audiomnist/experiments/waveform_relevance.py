"""Relevance over waveforms with a zoom, and the same relevance in frequency and in time-frequency (DFT-LRP).

DFT-LRP is the same group's later method and not in the paper.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from audiomnist.explain import drawing
from audiomnist.signal.geometry import HOP, SAMPLE_RATE, WAVEFORM, WINDOW, Geometry
from audiomnist.study import relevance
from audiomnist.study.outcome import Experiment, Outcome
from audiomnist.study.setting import Setting
from audiomnist.study.trained import Recordings, TrainedRun
from lrp import Explanation
from lrp.dft import cancellation, dft_frequencies, dft_relevance, kept_share, stdft_relevance

NETWORK = "AudioNet"
DIGITS = (0,)
BAND = 50  # Hz, of the bars of relevance by frequency: single coefficients are 1 Hz apart and too many to see
# sum |R_k| / |sum R_k| from which on nothing is drawn: of ten parts nine or more would be there to cancel the others
MOST_CANCELLATION = 10
FRAMES = Geometry(SAMPLE_RATE, WINDOW, HOP)  # all frames and frequencies of the spectrogram's grid


def by_band(frequencies: np.ndarray, values: np.ndarray, width: float = BAND) -> tuple[np.ndarray, np.ndarray]:
    """(edges in Hz (B + 1,), sums of `values` (K,) in bands of `width` Hz (B,)).

    frequencies: (K,) in Hz, from 0 in equal steps. Edges lie halfway between the coefficients that they part; the last
    band has the last coefficient too.
    """
    bands = np.minimum(frequencies // width, np.ceil(frequencies[-1] / width) - 1).astype(int)
    first = np.searchsorted(bands, np.arange(bands[-1] + 1))
    half = frequencies[1] / 2
    return np.append(frequencies[first], frequencies[-1] + 2 * half) - half, np.bincount(bands, values)


def legible(axes: Axes, carried: np.ndarray) -> bool:
    """Whether relevance in frequency (any shape) can be read; if not, the axes say why."""
    found = cancellation(carried)
    if found < MOST_CANCELLATION:
        return True
    axes.text(
        0.5,
        0.5,
        f"not drawn: expected\nsum |R| / |sum R|\nbelow {MOST_CANCELLATION}, got {found:.3g}",
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize="small",
    )
    return False


def draw_frequency(axes: Axes, carried: np.ndarray, samples: int) -> None:
    """Relevance by frequency (K,) of a waveform of so many samples, in bands."""
    if legible(axes, carried):
        edges, sums = by_band(dft_frequencies(samples, SAMPLE_RATE), carried)
        colours = np.where(sums >= 0, "C3", "C0")
        axes.bar(edges[:-1], sums, width=np.diff(edges), align="edge", color=colours)
        axes.axhline(0, color="0.5", linewidth=0.5)
    axes.set(xlabel="frequency (Hz)", ylabel=f"R in {BAND} Hz", xlim=(0, SAMPLE_RATE / 2))


def draw_time_frequency(axes: Axes, carried: np.ndarray, samples: int) -> None:
    """Relevance in time and frequency (K, M), frames on the spectrogram's grid; symmetric colours around zero."""
    if legible(axes, carried):
        end = drawing.limit(carried)
        extent = FRAMES.extent(*carried.shape)
        axes.imshow(carried, origin="lower", aspect="auto", cmap=drawing.COLOURS, vmin=-end, vmax=end, extent=extent)
    axes.set(xlabel="time (s)", ylabel="frequency (Hz)", xlim=(0, samples / SAMPLE_RATE), ylim=(0, SAMPLE_RATE / 2))


def carry(recordings: Recordings, explanation: Explanation) -> tuple[np.ndarray, np.ndarray]:
    """Relevance of every recording by frequency (N, K), and in time and frequency (N, K', M)."""
    x = recordings.data.reshape(len(recordings.names), -1)
    own = explanation.relevance.reshape(x.shape)
    return dft_relevance(x, own), stdft_relevance(x, own, "hann", WINDOW, HOP)


def draw(run: TrainedRun, recordings: Recordings, explanation: Explanation) -> Figure:
    """A row for each recording: waveform, zoom, relevance by frequency, relevance in time and frequency."""
    count = len(recordings.names)
    figure = Figure(figsize=(14, 3.2 * count + 0.3), dpi=100, layout="constrained")
    for index, (row, frequencies, frames) in enumerate(
        zip(figure.subfigures(count, 1, squeeze=False)[:, 0], *carry(recordings, explanation), strict=True)
    ):
        x, own = recordings.data[index].ravel(), explanation.relevance[index].ravel()
        text = f"{relevance.line(run, recordings, explanation, index)}; {explanation.composite}"
        row.suptitle(
            f"{text}, {drawing.measure(explanation, index, 3)}; DFT-LRP keeps {kept_share(x, own):.0%} of |R|",
            fontsize="small",
            x=0.01,
            ha="left",
        )
        wave, zoom, frequency, both = row.subplots(1, 4, width_ratios=(1.6, 1, 1, 1.2))
        drawing.draw_waveform(row, wave, x, own, zoom, colourbar=False)
        draw_frequency(frequency, frequencies, len(x))
        draw_time_frequency(both, frames, len(x))
        frequency.set_title("DFT-LRP", fontsize="small")
        both.set_title("DFT-LRP, time and frequency", fontsize="small")
    return figure


def measures(recordings: Recordings, explanation: Explanation) -> pd.DataFrame:
    """Columns about DFT-LRP, a row for each recording: the share of |R| that it keeps, and sum |R| / |sum R| of its
    relevance by frequency and in time and frequency."""
    rows = zip(recordings.data, explanation.relevance, *carry(recordings, explanation), strict=True)
    columns = ("dft_kept_share", "dft_cancellation", "stdft_cancellation")
    return pd.DataFrame(
        [(kept_share(x.ravel(), own.ravel()), cancellation(f), cancellation(tf)) for x, own, f, tf in rows],
        columns=columns,
    )


def add_pictures(
    outcome: Outcome, run: TrainedRun, recordings: Recordings, explanations: dict[str, Explanation], frame: pd.DataFrame
) -> None:
    """One run's picture for each composite, and columns of what DFT-LRP kept of the relevance and made of it."""
    found = pd.concat([measures(recordings, e) for e in explanations.values()], ignore_index=True)
    for name, column in found.items():
        frame[name] = column
    for composite, explanation in explanations.items():
        about = filter(None, (drawing.resolution(explanation, WAVEFORM), explanation.note))
        caption = (
            f"Relevance of waveforms for {run.task.label} ({run.run}, weights {run.weights_sha256[:12]}, "
            f"{'; '.join((composite, *about))}): over the samples, in the 50 ms that hold most of it, by frequency "
            f"and in time and frequency (DFT-LRP; frames of {1000 * WINDOW / SAMPLE_RATE:.0f} ms on the spectrogram's "
            "grid). Red speaks for the target, blue against it. DFT-LRP divides relevance by the waveform; what lies "
            "on nearly silent samples stays behind. Where coefficients mostly cancel one another, nothing is drawn."
        )
        outcome.figures[f"{run.run.task}_{composite}"] = draw(run, recordings, explanation), caption


def make(setting: Setting) -> Outcome:
    """A picture for each task's first trained split and each composite, and the table behind the captions."""
    return relevance.pictures(setting, NETWORK, DIGITS, add_pictures)


EXPERIMENT = Experiment("waveform_relevance", "Relevance over waveforms", make, networks=(NETWORK,), position=50)
