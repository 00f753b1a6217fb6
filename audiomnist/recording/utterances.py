"""Finding the utterances in a take: where each of the shown digits was spoken, how sure that is, and what looks wrong.

The functions stand in the order of the data: samples, bands, levels, sounds, utterances. Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d, minimum_filter1d, uniform_filter1d
from scipy.signal import butter, sosfiltfilt

from audiomnist.signal.clipping import clipped_runs
from caffe_proto import sentence

# the band of speech (100 Hz to 10 kHz) in three parts: a vowel is seen in the lowest, an s in the highest
BANDS = ((100.0, 1000.0), (1000.0, 3500.0), (3500.0, 10000.0))  # Hz
FILTER_ORDER = 4  # applied forwards and backwards, so that nothing is delayed
STEP = 0.0025  # s between levels
QUICK, SLOW = 0.015, 0.04  # s over which power is averaged: one for sharp edges, one for the faint f of four
LOW_SHARES = (5, 20)  # percent of a take that is surely no speech
LOW_SCORES = (-1.34, -0.36)  # the normal quantiles they are of the noise, where a good half of the take is noise
MAX_RANGE = 60.0  # dB below the loudest level of a take that anything is looked at
QUICK_ABOVE, SLOW_ABOVE = 6.0, 1.2  # dB above the noise at least
DEVIATIONS = 5.0  # of the noise's own level, above it at least
EDGE_BELOW_PEAK = 38.0  # dB below the speech, at most
PEAK_ABOVE_FLOOR, PEAK_BELOW_SPEECH = 10.0, 26.0  # dB; a sound whose peak is below one of them is no word
END_ABOVE_FLOOR = 4.0  # dB; but it may be the s of six
SPIKE = 0.02  # s; shorter peaks are clicks, not even the burst of a t
CLOSING = 0.07  # s; pauses within a word are shorter, but for two words
CLICK = 0.045  # s; shorter sounds are no words, at most the end of one
PARTED = (6, 8)  # before their last consonants (ks, t) there can be a longer pause
PART_GAP, PART_LENGTH = 0.2, 0.3  # s; that pause and that end are shorter
FAINT_BEGINNING = (4, 5)  # their f can be so far below the vowel that noise hides all or part of it
FAINT_LENGTH, FAINT_LEVEL = 0.06, 33.0  # s that it lasts; dB below the speech from which on noise hides it
FAINT_HIDDEN = 0.05  # s of it that are supposed to be hidden, at most
VOICE_ABOVE = 10.0  # dB above the noise in the lowest band: the vowel is there
SHORT, LONG = 0.12, 1.0  # s; utterances beyond these are doubtful, and a recording may not last longer
MARGIN = 0.05  # s around an utterance
EARLIEST, LATEST = -0.1, 1.35  # s after a digit was shown that its utterance may begin
USUAL_DELAY, DELAY_SPREAD = 0.4, 0.3  # s
ODD_DELAY = 0.4  # s off this speaker's usual delay that make an utterance doubtful
PLAIN_DELAYS = 0.12, 0.85  # s of usual delay; beyond, one cannot tell whether the speaker is a digit behind
RIVAL = 12.0  # dB; another sound this little below an utterance makes it doubtful
WEAK = 15.0  # dB above the floor; utterances weaker than that are doubtful
HALF_SCALE = 16384  # of 16-bit samples; a converter's end is not below it
SURE = 0.5  # confidence from which an utterance is taken without being looked at


@dataclass(frozen=True)
class Sound:
    """Something that rises above the noise: begin and end (s), its level's peak and how far that is above the floor."""

    start: float
    stop: float
    peak: float  # dB
    above: float  # dB
    hidden: float  # s; begin that it has if it begins with a consonant that the noise hides; else `start`
    word: bool  # loud and long enough to be one; else at most the end of one

    @property
    def length(self) -> float:
        return self.stop - self.start


@dataclass(frozen=True)
class Utterance:
    """What was found for one digit: begin and end (s), None where nothing was; confidence 0 to 1; what is doubtful."""

    digit: int
    start: float | None
    stop: float | None
    confidence: float
    doubts: tuple[str, ...] = ()

    @property
    def found(self) -> bool:
        return self.start is not None

    @property
    def sure(self) -> bool:
        return self.found and self.confidence >= SURE


def band_levels(samples: np.ndarray, rate: int, window: float = QUICK) -> np.ndarray:
    """Samples (N,) at `rate` Hz -> levels (bands, frames) in dB, a frame every 2.5 ms.

    Power of each band, filtered with zero phase (Butterworth, forwards and backwards), averaged over `window` s.
    """
    return _levels(_band_powers(samples, rate), rate, window)


def _band_powers(samples: np.ndarray, rate: int) -> list[np.ndarray]:
    powers = []
    for low, high in BANDS:
        if low < 0.45 * rate:
            sos = butter(FILTER_ORDER, (low, min(high, 0.45 * rate)), "bandpass", fs=rate, output="sos")
            powers.append(sosfiltfilt(sos, np.asarray(samples, np.float64)) ** 2)
    return powers


def _levels(powers: list[np.ndarray], rate: int, window: float) -> np.ndarray:
    step = round(STEP * rate)
    means = [uniform_filter1d(power, round(window * rate), mode="nearest")[step // 2 :: step] for power in powers]
    return 10 * np.log10(np.maximum(means, 1e-6))


def noise_floor(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The median level (bands,) in dB when nobody speaks, and its standard deviation (bands,).

    From two low percentiles, as if the quieter part of the take were normal. Never more than 60 dB below the loudest:
    digital silence has no level.
    """
    low, high = np.percentile(levels, LOW_SHARES, axis=1)
    deviation = (high - low) / (LOW_SCORES[1] - LOW_SCORES[0])
    return np.maximum(high - LOW_SCORES[1] * deviation, levels.max() - MAX_RANGE), deviation


def envelope(values: np.ndarray) -> np.ndarray:
    """Rolling maximum (frames,), then rolling minimum of the same 60 ms: pauses shorter than that are filled, edges
    stay where they are."""
    size = 2 * (round(CLOSING / STEP) // 2) + 1
    return minimum_filter1d(maximum_filter1d(values, size), size)


def find_sounds(samples: np.ndarray, rate: int) -> list[Sound]:
    """Everything that is loud and long enough to be a word, or the end of one, in the order of time.

    Samples (N,) at `rate` Hz, on any scale.
    """
    powers = _band_powers(samples, rate)
    quick, slow = _levels(powers, rate, QUICK), _levels(powers, rate, SLOW)
    if not quick.size or np.ptp(quick) == 0:
        return []
    level = 10 * np.log10((10 ** (quick / 10)).sum(axis=0))
    speech = np.percentile(level, 95)
    # each band by itself: faint ends count as long as one band stands out and is not far below the loudest speech
    floor, _ = noise_floor(quick)
    above = (quick - floor[:, None]).max(axis=0)
    half = round(SLOW / STEP / 2)
    lasting = _longer(_standing_out(quick, QUICK_ABOVE, speech), round(SPIKE / STEP))
    faint = minimum_filter1d(_standing_out(slow, SLOW_ABOVE, speech), 2 * half - 3)  # a mean begins half a window early
    active = envelope(np.maximum(lasting, _longer(faint, round(SPIKE / STEP)))) > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
    sounds = []
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        peak, rise = float(level[first:last].max()), float(above[first:last].max())
        start, stop = float(first * STEP), float(last * STEP)
        strong = rise >= PEAK_ABOVE_FLOOR and peak >= speech - PEAK_BELOW_SPEECH
        if strong or (sounds and start - sounds[-1].stop <= PART_GAP and rise >= END_ABOVE_FLOOR):
            voiced = np.flatnonzero(quick[0, first:last] > floor[0] + VOICE_ABOVE)
            hidden = start
            if len(voiced) and floor[-1] > speech - FAINT_LEVEL:
                hidden = max(0.0, start - FAINT_HIDDEN, min(start, start + float(voiced[0] * STEP) - FAINT_LENGTH))
            sounds.append(Sound(start, stop, peak, rise, hidden, strong and stop - start >= CLICK))
    return sounds


def _standing_out(levels: np.ndarray, least: float, speech: float) -> np.ndarray:
    """Frames (frames,), 1 where some band is above its noise by `least` dB and by five deviations, else 0."""
    floor, deviation = noise_floor(levels)
    threshold = floor + np.maximum(least, DEVIATIONS * deviation)
    return ((levels > threshold[:, None]) & (levels > speech - EDGE_BELOW_PEAK)).any(axis=0).astype(np.int8)


def _longer(active: np.ndarray, size: int) -> np.ndarray:
    """Without the runs of ones that are shorter than `size` frames."""
    return maximum_filter1d(minimum_filter1d(active, size), size, origin=-(1 - size % 2))


@dataclass(frozen=True)
class _Candidate:
    """One or two sounds that may be the utterance of a digit: sounds[first:last]."""

    first: int
    last: int
    start: float
    stop: float
    peak: float
    above: float


def _candidates(sounds: Sequence[Sound], digit: int) -> list[_Candidate]:
    faint = digit in FAINT_BEGINNING
    found = [
        _Candidate(k, k + 1, s.hidden if faint else s.start, s.stop, s.peak, s.above)
        for k, s in enumerate(sounds)
        if s.word
    ]
    if digit in PARTED:
        for k, (word, end) in enumerate(zip(sounds, sounds[1:], strict=False)):
            if word.word and end.start - word.stop <= PART_GAP and end.length <= PART_LENGTH:
                peak, above = max(word.peak, end.peak), max(word.above, end.above)
                found.append(_Candidate(k, k + 2, word.start, end.stop, peak, above))
    return found


def _assign(
    sounds: Sequence[Sound], digits: Sequence[int], onsets: Sequence[float] | None, delay: float, spread: float
) -> list[_Candidate | None]:
    """The cheapest way to give sounds to digits, both in their order: dynamic programming over (digit, sound).

    A sound that is nobody's costs the more the louder it is, a digit without a sound costs more than that; an
    utterance at an unusual time costs, and one at an impossible time is none.
    """
    loudest = max(sound.peak for sound in sounds)
    skip = [max(0.2, 3 + (sound.peak - loudest) / 6) if sound.word else 0.2 for sound in sounds]
    count, total = len(digits), len(sounds)
    cost = np.full((count + 1, total + 1), np.inf)
    came: dict[tuple[int, int], tuple[int, int, _Candidate | None]] = {}
    cost[0, 0] = 0
    for i in range(count + 1):
        options = _candidates(sounds, digits[i]) if i < count else []
        for k in range(total + 1):
            if not np.isfinite(cost[i, k]):
                continue
            moves = [(i, k + 1, skip[k], None)] if k < total else []
            if i < count:
                moves.append((i + 1, k, 8.0, None))
                for c in options:
                    if c.first == k:
                        late = 0.0 if onsets is None else c.start - onsets[i]
                        if onsets is not None and not EARLIEST <= late <= LATEST:
                            continue
                        price = 0.0 if onsets is None else ((late - delay) / spread) ** 2 / 2
                        price += max(0.0, (c.stop - c.start - 0.8) * 10) + max(0.0, (0.15 - c.stop + c.start) * 20)
                        merged = c.last - c.first == 2
                        moves.append((i + 1, c.last, price - (0.3 if merged else 0.0), c))
            for to_i, to_k, price, c in moves:
                if cost[i, k] + price < cost[to_i, to_k]:
                    cost[to_i, to_k] = cost[i, k] + price
                    came[to_i, to_k] = (i, k, c)
    chosen: list[_Candidate | None] = [None] * count
    place = (count, total)
    while place != (0, 0):
        i, k, c = came[place]
        if place[0] == i + 1:
            chosen[i] = c
        place = (i, k)
    return chosen


def _perhaps_shifted(place: int, chosen: Sequence[_Candidate | None], spare: Sequence[Sound]) -> bool:
    """Whether a digit without a word on one side of this one and a word too many on the other would allow that all
    words in between are their neighbours'."""
    here = chosen[place]
    missing = [k for k, c in enumerate(chosen) if c is None]
    before, after = any(s.start < here.start for s in spare), any(s.start > here.start for s in spare)
    return (before and any(k > place for k in missing)) or (after and any(k < place for k in missing))


def clipped_times(samples: np.ndarray, rate: int) -> np.ndarray:
    """The times (K,) in s at which runs of clipped samples start, in order.

    The converter's end is not always the format's: the largest value of the take counts when it is above half scale.
    """
    high, low = max(samples.max(initial=0), HALF_SCALE), min(samples.min(initial=0), -HALF_SCALE)
    return clipped_runs(samples, high, low)[0] / rate


def find_utterances(
    samples: np.ndarray, rate: int, digits: Sequence[int], onsets: Sequence[float] | None = None
) -> list[Utterance]:
    """An utterance for each of `digits`, in their order, found or not.

    samples: int16 (N,) at `rate` Hz. onsets: when each digit was shown (s); they keep a word that is missing or one too
    many from shifting all labels behind it. Without them nothing is sure: the right number of sounds proves nothing.
    """
    if onsets is not None and len(onsets) != len(digits):
        raise ValueError(sentence("onsets", f"one for each of {len(digits)} digits", len(onsets)))
    sounds = find_sounds(samples, rate) if len(samples) > rate * 0.1 else []
    words = [sound for sound in sounds if sound.word]
    if not words:
        return [Utterance(digit, None, None, 0.0, ("nothing heard",)) for digit in digits]
    chosen = _assign(sounds, digits, onsets, USUAL_DELAY, DELAY_SPREAD)
    usual = USUAL_DELAY
    if onsets is not None:  # once more, with this speaker's delay
        delays = [c.start - onset for c, onset in zip(chosen, onsets, strict=True) if c is not None]
        usual = float(np.median(delays)) if delays else USUAL_DELAY
        chosen = _assign(sounds, digits, onsets, usual, DELAY_SPREAD)
    used = {k for c in chosen if c is not None for k in range(c.first, c.last)}
    spare = [s for k, s in enumerate(sounds) if k not in used and s.word]
    clipped = clipped_times(samples, rate)
    found = []
    for i, (digit, c) in enumerate(zip(digits, chosen, strict=True)):
        if c is None:
            found.append(Utterance(digit, None, None, 0.0, ("nothing heard",)))
            continue
        doubts: list[tuple[float, str]] = []  # what confidence is left, and why
        length = c.stop - c.start
        if onsets is None:
            doubts.append((0.4, f"{len(words)} sounds for {len(digits)} digits, and not known when they were shown"))
        if length + 2 * MARGIN > LONG:
            doubts.append((0.3, f"{length:.2f} s long"))
        if length < SHORT:
            doubts.append((0.4, f"{1000 * length:.0f} ms short"))
        if c.above < WEAK:
            doubts.append((0.4, f"only {c.above:.0f} dB above the noise"))
        if onsets is not None:
            late = c.start - onsets[i]
            if not PLAIN_DELAYS[0] <= usual <= PLAIN_DELAYS[1]:
                doubts.append((0.2, f"words begin {usual:.2f} s after their digits: perhaps they are the next one's"))
            elif _perhaps_shifted(i, chosen, spare):
                doubts.append((0.3, "a word is missing on one side and there is one too many on the other"))
            elif abs(late - usual) > ODD_DELAY:
                doubts.append((0.3, f"{late:.2f} s after the digit was shown, usually {usual:.2f}"))
            end = onsets[i + 1] if i + 1 < len(onsets) else np.inf
            rivals = [s for s in spare if onsets[i] - 0.1 <= s.start < end + 0.3 and s.peak > c.peak - RIVAL]
            rivals += [s for s in spare if (s.start < c.stop + 0.1 and s.stop > c.start - 0.1) and s not in rivals]
            if rivals:
                doubts.append((0.3, f"another sound at {rivals[0].start:.2f} s"))
        hits = int(np.searchsorted(clipped, c.stop) - np.searchsorted(clipped, c.start))
        if hits:
            doubts.append((0.4, f"clipped at {hits} places"))
        certainty = min(1.0, 0.5 + (c.above - PEAK_ABOVE_FLOOR) / 40)
        if onsets is not None:
            certainty *= 1 - 0.3 * min(1.0, abs(c.start - onsets[i] - usual) / ODD_DELAY)
        confidence = min([certainty, *(left for left, _ in doubts)])
        if confidence < SURE and not doubts:
            doubts.append((confidence, "weak, and at an unusual time"))
        found.append(Utterance(digit, c.start, c.stop, round(confidence, 2), tuple(why for _, why in doubts)))
    return found


def cut_marks(utterances: Sequence[Utterance], total: float) -> list[tuple[float, float] | None]:
    """Where to cut (s): the utterances with a margin of 50 ms, less where a neighbour or the take's end is nearer."""
    marks: list[tuple[float, float] | None] = []
    there = [u for u in utterances if u.found]
    for u in utterances:
        if not u.found:
            marks.append(None)
            continue
        place = there.index(u)
        before = (there[place - 1].stop + u.start) / 2 if place else 0.0
        after = (u.stop + there[place + 1].start) / 2 if place + 1 < len(there) else total
        marks.append((max(u.start - MARGIN, min(before, u.start)), min(u.stop + MARGIN, max(after, u.stop))))
    return marks
