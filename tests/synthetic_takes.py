"""Takes of ten digits whose cut points are known: eSpeak's words at chosen places, then noise, clicks, breaths."""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from scipy.signal import butter, resample_poly, sosfilt

from audiomnist.corpus.demo_corpus import WORDS, Synthesiser

RATE = 48000  # Hz
LEAD, TAIL = 0.5, 0.8  # s
TRIM = 0.02  # of the peak: where a clean word begins and ends
VOICES = (("en-us+m3", 45, 150), ("en-us+f4", 55, 160), ("en+m7", 60, 145), ("en-gb-scotland+Andrea", 50, 170),
          ("en-us-nyc+robert", 55, 175), ("en-029+linda", 50, 155))  # name, pitch, words a minute  # fmt: skip


@cache
def _synthesiser():
    return Synthesiser()


@cache
def word(digit, voice):
    """A clean word, float64 (n,) at 48 kHz with peak 1, cut where it rises above 2 % of its peak."""
    name, pitch, rate = VOICES[voice]
    sound = _synthesiser().say(WORDS[digit], name, pitch, rate, 50)
    sound = resample_poly(sound, RATE, _synthesiser().rate)
    sound /= np.abs(sound).max()
    loud = np.flatnonzero(np.abs(sound) > TRIM)
    return sound[loud[0] : loud[-1] + 1]


@dataclass
class SyntheticTake:
    """int16 samples (N,); the digits shown and when (s); (begin, end) in s of each word, None where it was not said."""

    samples: np.ndarray
    digits: list
    onsets: list
    truth: list
    noise: np.ndarray = field(repr=False)


def make_take(seed, snr=20.0, voice=None, left_out=(), clicks=0, breaths=0, extra=None, gain=1.0, delay=None, late=0.0):
    """A take at `snr` dB (power of the words over power of the noise).

    left_out: indices not said; clicks, breaths: how many between the words; extra: index after whose word another
    digit is said; gain: amplification into the converter's end; delay: the speaker's usual one (s); late: added to it
    for all words after the fifth.
    """
    rng = np.random.default_rng([7, seed])
    voice = int(rng.integers(len(VOICES))) if voice is None else voice
    digits = [int(d) for d in rng.integers(0, 10, 10)]
    onsets = [LEAD + i for i in range(10)]
    total = np.zeros(round((LEAD + 10 + TAIL) * RATE))
    usual = rng.uniform(0.25, 0.45) if delay is None else delay
    truth, power, end = [], [], 0.0

    def put(sound, start):
        first = round(start * RATE)
        sound = sound[: len(total) - first]
        total[first : first + len(sound)] += sound
        power.append(sound)
        return first / RATE, (first + len(sound)) / RATE

    for i, digit in enumerate(digits):
        if i in left_out:
            truth.append(None)
            continue
        sound = word(digit, voice) * 0.25 * 10 ** (rng.uniform(-3, 3) / 20)
        start = max(onsets[i] + usual + rng.normal(0, 0.05) + (late if i > 5 else 0.0), end + 0.16)
        truth.append(put(sound, start))
        end = truth[-1][1]
        if extra == i:
            end = put(word((digit + 3) % 10, voice) * 0.2, end + 0.15)[1]
    rms = np.sqrt(np.mean(np.concatenate(power) ** 2))
    noise = rng.standard_normal(len(total))
    noise[1:] += 0.5 * noise[:-1]
    noise *= rms * 10 ** (-snr / 20) / np.sqrt(np.mean(noise**2))
    gaps = [(a[1], b[0]) for a, b in zip(truth, truth[1:], strict=False) if a and b and b[0] - a[1] > 0.35]
    for _ in range(clicks):
        a, b = gaps[rng.integers(len(gaps))]
        first = round(rng.uniform(a + 0.1, b - 0.1) * RATE)
        total[first : first + 200] += 0.6 * rng.standard_normal(200) * np.exp(-np.arange(200) / 40)
    for _ in range(breaths):
        a, b = gaps[rng.integers(len(gaps))]
        length = round(min(0.22, b - a - 0.16) * RATE)
        first = round((a + 0.08) * RATE)
        air = sosfilt(butter(2, (500, 4000), "bandpass", fs=RATE, output="sos"), rng.standard_normal(length))
        total[first : first + length] += 0.5 * rms * air / air.std() * np.hanning(length)
    samples = np.clip(np.rint((total + noise) * gain * 32767), -32768, 32767).astype(np.int16)
    return SyntheticTake(samples, digits, onsets, truth, noise)
