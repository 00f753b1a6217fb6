"""Small made-up corpora for tests: written byte by byte, so that anything can be wrong with them."""

import json
import struct
from pathlib import Path

import numpy as np

GENDERS = {"01": "male", "02": "female", "03": "male", "04": "female", "05": "male", "06": "female"}


def wav_file(payload, rate=8000, bits=16, channels=1, tag=1, extensible=False, promised=None, before=b""):
    """The bytes of a WAV file. `promised` is the data chunk's length field, `before` other chunks in front of it."""
    block = channels * bits // 8
    fmt = struct.pack("<HHIIHH", 0xFFFE if extensible else tag, channels, rate, rate * block, block, bits)
    if extensible:
        guid = struct.pack("<H", tag) + bytes.fromhex("0000000010008000 00aa00389b71".replace(" ", ""))
        fmt += struct.pack("<HHI", 22, bits, 4) + guid
    size = len(payload) if promised is None else promised
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(fmt)) + fmt + before + b"data" + struct.pack("<I", size) + payload
    return b"RIFF" + struct.pack("<I", len(body) & 0xFFFFFFFF) + body


def speech(seed, seconds=0.5, rate=8000, peak=9000):
    """int16 samples that have what speech has: harmonics, an envelope, some noise. Not symmetric about zero."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    f0 = rng.uniform(90, 250) * (1 + 0.05 * np.sin(2 * np.pi * 3 * t))
    phase = 2 * np.pi * np.cumsum(f0) / rate
    x = sum(rng.uniform(0.2, 1) / k * np.cos(k * phase + rng.uniform(0, 6)) for k in range(1, 12))
    x = x * np.hanning(len(t)) ** 0.5 + 0.01 * rng.standard_normal(len(t))
    return np.rint(x / np.abs(x).max() * peak).astype("<i2")


def make_corpus(folder, speakers=GENDERS, digits=range(3), repetitions=1, rate=8000, splits=None):
    """Write a corpus of `speakers` ({name: gender}); returns its folder. `splits` is the content of its splits.json."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number, speaker in enumerate(speakers):
        (folder / speaker).mkdir(parents=True, exist_ok=True)
        for digit in digits:
            for repetition in range(repetitions):
                seed = [number, digit, repetition]
                seconds = np.random.default_rng(seed).uniform(0.2, 0.9)
                blob = wav_file(speech(seed, seconds, rate).tobytes(), rate)
                (folder / speaker / f"{digit}_{speaker}_{repetition}.wav").write_bytes(blob)
    write_meta(folder, {s: {"gender": g, "age": 30, "accent": "German"} for s, g in speakers.items()})
    if splits is None:
        names = list(speakers)
        fold = {"train": names[:-4], "validate": names[-4:-2], "test": names[-2:]}
        splits = {"digit": [fold], "gender": [fold]}
    (folder / "splits.json").write_text(json.dumps(splits))
    return folder


def write_meta(folder, meta):
    (folder / "audioMNIST_meta.txt").write_text(json.dumps(meta))
