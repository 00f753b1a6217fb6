"""The sizes of the networks' inputs: one second of sound, and the grid of its spectrogram."""

from __future__ import annotations

SAMPLE_RATE = 8000  # Hz, what both networks hear
SAMPLES = 8000  # one second
WINDOW = 455  # samples, 56.9 ms, Hann
HOP = WINDOW - 420  # samples, 4.4 ms
FIRST_FRAME, FRAMES = 2, 227  # of the 230 frames that centred windows give, these stay
BINS = 227  # of 228, from 0 Hz in steps of 8000 / 455 Hz
