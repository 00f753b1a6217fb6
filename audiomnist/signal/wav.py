"""Read and write WAV files. Reading is strict, and samples of every common format are on the scale of 16 bits."""

from __future__ import annotations

import io
import os
import stat
import struct
import wave
from pathlib import Path

import numpy as np

from caffe_proto import UserError

PCM, IEEE_FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # wFormatTag
FORMATS = {PCM: (8, 16, 24, 32), IEEE_FLOAT: (32, 64)}  # bits of a sample
FULL_SCALE = 32768.0  # of 16-bit samples; that of a floating-point WAV is 1.0
MAX_FLOAT_PEAK = 8.0  # a floating-point WAV with larger samples does not have full scale at 1.0
LARGEST = 2**26  # bytes of a file: eleven minutes of 16 bits at 48 kHz
UNFINISHED = 0xFFFFFFFF  # the length in files whose writer streamed and could not know it


class RecordingError(UserError, ValueError):
    """One recording that cannot be used: what was expected of it, and what it is; the caller knows its place."""

    def __init__(self, expected: str, got: str):
        super().__init__("", expected, got)


def wav_file(path: Path) -> bytes:
    """The bytes of a WAV file, read whole, so that a digest and the samples are of the same content.

    Raises RecordingError for what is no file (a pipe would be waited for, a device never ends) or a huge one, and
    OSError for one that cannot be opened.
    """
    found = os.stat(path)
    if stat.S_ISREG(found.st_mode):
        if found.st_size > LARGEST:
            raise RecordingError(f"a recording of at most {LARGEST:,} bytes", f"{found.st_size:,}")
    elif not stat.S_ISDIR(found.st_mode):  # which opening says in words
        raise RecordingError("a file", "a pipe or a device")
    return Path(path).read_bytes()


def read_wav(source: Path | bytes, max_seconds: float | None = None) -> tuple[np.ndarray, int]:
    """The samples of a mono WAV file and its sample rate in Hz.

    Samples are float64 (N,) on the scale of 16-bit integers whatever the file holds: 8-bit is unsigned around 128 and
    times 256, 24- and 32-bit are divided by 256 and 65,536, floating point is times 32,768 (the same meaning of full
    scale). Several channels are read as one only if all are equal. `source` is a path or the file's bytes; with
    `max_seconds` a longer file is an error before its samples are converted.

    Raises RecordingError for bytes that cannot be read so, OSError for a file that cannot be opened.
    Format: Microsoft, "Multiple Channel Audio Data and WAVE Files" (RIFF chunks, WAVEFORMATEXTENSIBLE).
    """
    blob = source if isinstance(source, bytes) else wav_file(source)
    if not blob:
        raise RecordingError("a WAV file", "an empty file")
    if blob[:4] != b"RIFF" or blob[8:12] != b"WAVE":
        raise RecordingError("a WAV file", f"no RIFF/WAVE header (the file begins with {blob[:4]!r})")
    fmt = data = None
    position = 12
    while position + 8 <= len(blob) and data is None:
        name, size = struct.unpack_from("<4sI", blob, position)
        body = position + 8
        if name == b"data":
            if size == UNFINISHED or body + size > len(blob):
                promised = "an unknown number of" if size == UNFINISHED else f"{size}"
                got = f"a truncated one: {promised} bytes of samples promised, {len(blob) - body} there"
                raise RecordingError("a whole file", got)
            data = memoryview(blob)[body : body + size]
        elif name == b"fmt ":
            fmt = blob[body : body + size]
        position = body + size + size % 2  # chunks begin at even positions
    if fmt is None or len(fmt) < 16:
        got = "a truncated header" if data is None else "no format chunk before the samples"
        raise RecordingError("a whole file", got)
    if data is None:
        raise RecordingError("a whole file", "a truncated one: no chunk of samples")

    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", fmt)
    if tag == EXTENSIBLE and len(fmt) >= 26:
        tag = struct.unpack_from("<H", fmt, 24)[0]  # the first two bytes of the sub-format's GUID
    width = block // channels if channels else 0
    if bits not in FORMATS.get(tag, ()) or width * 8 != bits:
        got = f"sample format {tag} with {bits} bits, {channels} channels in {block} bytes"
        raise RecordingError("PCM of 8, 16, 24 or 32 bits or floating point of 32 or 64", got)
    if rate == 0:
        raise RecordingError("the sample rate of the recording", "0 Hz")
    if len(data) % block:
        raise RecordingError("a whole file", f"a truncated one: {len(data)} bytes of samples in blocks of {block}")
    count = len(data) // block
    if count == 0:
        raise RecordingError("a spoken digit", "no samples")
    if max_seconds is not None and count > max_seconds * rate:
        raise RecordingError(f"at most {max_seconds:g} s", f"{count / rate:.3f} s")

    if tag == IEEE_FLOAT:
        samples = np.frombuffer(data, f"<f{width}").astype(np.float64)
        peak = float(np.max(np.abs(samples)))
        if not np.isfinite(peak):
            raise RecordingError("finite samples", "samples that are NaN or infinite")
        if peak > MAX_FLOAT_PEAK:
            raise RecordingError("full scale at 1.0", f"floating-point samples up to {peak:.4g}")
        samples *= FULL_SCALE
    elif bits == 8:
        samples = (np.frombuffer(data, "u1").astype(np.float64) - 128) * 256
    elif bits == 16:
        samples = np.frombuffer(data, "<i2").astype(np.float64)
    elif bits == 24:
        wide = np.zeros((count * channels, 4), "u1")
        wide[:, 1:] = np.frombuffer(data, "u1").reshape(-1, 3)
        samples = wide.view("<i4")[:, 0] / 65536.0
    else:
        samples = np.frombuffer(data, "<i4") / 65536.0
    if channels > 1:
        frames = samples.reshape(count, channels)
        if not np.all(frames == frames[:, :1]):
            raise RecordingError("mono (or equal channels)", f"{channels} channels that differ")
        samples = frames[:, 0].copy()
    return samples, rate


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Samples (N,) on the scale of 16-bit integers -> int16 (N,), rounded; what is beyond the scale is clipped."""
    return np.clip(np.rint(samples), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def wav_bytes(samples: np.ndarray, rate: int) -> bytes:
    """int16 samples (N,) at `rate` Hz -> the bytes of a mono 16-bit WAV file. Raises TypeError for wider samples."""
    blob = io.BytesIO()
    with wave.open(blob, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples).astype("<i2", casting="same_kind").tobytes())
    return blob.getvalue()
