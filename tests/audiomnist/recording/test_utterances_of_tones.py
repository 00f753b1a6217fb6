"""What is a word, made of pure tones in faint noise: no synthesiser's voice moves the edges that are asserted here."""

import re

import numpy as np
import pytest

from audiomnist.recording.utterances import find_utterances

RATE = 48000  # Hz
BEGIN = 0.4  # s after its digit was shown that each word begins
VOWEL = 0.25  # s
EDGE = 0.03  # s of filtering at either end


def take(*tones, count=10):
    """int16 samples and onsets of `count` words, each of (begin in s after the word's, length in s, Hz, amplitude)."""
    time = np.arange(round((count + 1.5) * RATE)) / RATE
    samples = np.random.default_rng(0).normal(0, 5, len(time))
    onsets = [0.5 + k for k in range(count)]
    for onset in onsets:
        for begin, length, frequency, amplitude in tones:
            first = onset + BEGIN + begin
            samples += amplitude * np.sin(2 * np.pi * frequency * time) * ((time >= first) & (time < first + length))
    return np.rint(samples).astype(np.int16), onsets


def spans(tones):
    """(begin, end) of each digit 0 to 9 in s after its word begins, and whether all are sure."""
    samples, onsets = take(*tones)
    found = find_utterances(samples, RATE, range(10), onsets)
    assert all(u.found for u in found)
    begins = [u.start - onset - BEGIN for u, onset in zip(found, onsets, strict=True)]
    ends = [u.stop - onset - BEGIN for u, onset in zip(found, onsets, strict=True)]
    return np.array(begins), np.array(ends), all(u.sure for u in found)


@pytest.mark.parametrize("gap, length, joined", [(0.12, 0.1, True), (0.18, 0.1, True), (0.23, 0.1, False),
                                                 (0.12, 0.26, True), (0.12, 0.33, False)])  # fmt: skip
def test_six_and_eight_alone_have_an_end_of_their_own(gap, length, joined):
    """Up to 0.2 s behind the vowel and up to 0.3 s long it is their k-s or t; behind all other digits it is noise."""
    begins, ends, sure = spans([(0, VOWEL, 500, 3000), (VOWEL + gap, length, 4000, 800)])
    wanted = [VOWEL + gap + length if joined and digit in (6, 8) else VOWEL for digit in range(10)]
    assert sure and np.abs(begins).max() < EDGE
    np.testing.assert_allclose(ends, wanted, atol=EDGE)


def test_a_word_that_comes_later_than_the_others_is_doubtful():
    """0.45 s more than this speaker's usual 0.4 s, above the 0.4 s that are let pass; 0.35 s more are not doubtful."""
    samples, onsets = take((0, VOWEL, 500, 3000))
    onsets[5] -= 0.45
    onsets[7] -= 0.35
    found = find_utterances(samples, RATE, range(10), onsets)
    (doubt,) = found[5].doubts
    late, usual = re.fullmatch(r"(.*) s after the digit was shown, usually (.*)", doubt).groups()
    assert float(late) == pytest.approx(0.85, abs=EDGE) and float(usual) == pytest.approx(BEGIN, abs=EDGE)
    assert float(late) - float(usual) == pytest.approx(0.45, abs=0.011) and not found[5].sure
    assert [k for k, u in enumerate(found) if u.doubts] == [5]
