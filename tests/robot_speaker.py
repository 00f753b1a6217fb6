"""A speaker for the end-to-end test of the recorder: says each digit that the recorder shows into a virtual microphone.

python tests/robot_speaker.py words FOLDER      the ten words as WAV files
python tests/robot_speaker.py speak FOLDER      reads markers (seconds, digit, repetition) from standard input
python tests/robot_speaker.py check FOLDER SPEAKER_FOLDER    which word is in each recording?
python tests/robot_speaker.py sound FOLDER      a known file comes back from the microphone, which then vanishes
"""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy.signal import correlate

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

REACTION = 0.3  # s
ATTEMPTS = 5
PLAY = ["paplay", "--latency-msec=30"]


def make_words(folder):
    from synthetic_takes import word

    from audiomnist.recording.session import SAMPLE_RATE
    from audiomnist.signal.wav import wav_bytes

    for digit in range(10):
        samples = np.rint(word(digit, voice=0) * 12000).astype(np.int16)
        (folder / f"{digit}.wav").write_bytes(wav_bytes(samples, SAMPLE_RATE))


def speak(folder):
    """One stream that never ends: streams of their own would be faded in, and lose their beginnings."""
    import sounddevice

    from audiomnist.signal.wav import read_wav

    words = [read_wav(folder / f"{digit}.wav")[0].astype(np.int16) for digit in range(10)]
    pending = [np.zeros(0, np.int16)]

    def fill(block, frames, _time, _status):
        block[:] = 0
        block[: min(frames, len(pending[0])), 0] = pending[0][:frames]
        pending[0] = pending[0][frames:]

    with sounddevice.OutputStream(48000, device="pulse", channels=1, dtype="int16", latency=0.25, callback=fill):
        for line in sys.stdin:
            _, digit, _ = line.split("\t")
            time.sleep(REACTION)
            pending[0] = words[int(digit)]


def check(folder, recordings):
    """Every recording correlates best with the word that its name says. Returns the exit code."""
    from audiomnist.signal.wav import read_wav

    words = [read_wav(folder / f"{digit}.wav")[0] for digit in range(10)]
    paths = sorted(recordings.glob("*.wav"))
    wrong = 0
    for path in paths:
        samples = read_wav(path)[0]
        scores = []
        for spoken in words:
            a, b = (samples, spoken) if len(samples) >= len(spoken) else (spoken, samples)
            scores.append(np.abs(correlate(a, b, "full", method="fft")).max() / np.linalg.norm(a) / np.linalg.norm(b))
        if int(np.argmax(scores)) != int(path.name[0]) or max(scores) < 0.95:
            wrong += 1
            print(f"{path.name}: sounds like {int(np.argmax(scores))} ({max(scores):.3f})")
    print(f"{len(paths)} recordings, {wrong} with another word than their name says")
    return 1 if wrong or not paths else 0


def check_sound(folder):
    """Noise that is played must come back bit by bit; a microphone whose server dies must be told. Exit code."""
    from audiomnist.recording.session import SAMPLE_RATE
    from audiomnist.recording.sound import Microphone, SoundError
    from audiomnist.signal.wav import wav_bytes

    noise = (np.random.default_rng(0).standard_normal(3 * SAMPLE_RATE) * 3000).astype(np.int16)
    silence = np.zeros(SAMPLE_RATE, np.int16)  # the server may fade a stream in
    known = folder / "known.wav"
    known.write_bytes(wav_bytes(np.concatenate([silence, noise, silence]), SAMPLE_RATE))
    microphone = Microphone("pulse")
    for attempt in range(1, ATTEMPTS + 1):  # a busy machine starves the virtual loudspeaker
        microphone.begin()
        subprocess.run(["paplay", "--latency-msec=300", known], check=True)
        time.sleep(0.7)
        capture = microphone.end()
        sound = capture.samples.astype(float)
        lag = int(np.argmax(correlate(sound, noise[:4800].astype(float), "valid", method="fft")))
        heard = capture.samples[lag : lag + len(noise)]
        equal = np.array_equal(heard, noise)
        print(f"attempt {attempt}: {len(noise)} samples played, captured {'bit by bit' if equal else 'DIFFERENTLY'}, "
              f"{capture.gaps} gaps", flush=True)  # fmt: skip
        if equal and not capture.gaps:
            break
    microphone.begin()
    begun = time.monotonic()
    subprocess.run(["pactl", "exit"], check=True)
    told = None
    while told is None and time.monotonic() - begun < 10:
        time.sleep(0.05)
        try:
            microphone.seconds()
        except SoundError as error:
            told = str(error)
    print(f"microphone gone: {told or 'NOT TOLD'} after {time.monotonic() - begun:.1f} s")
    return 0 if equal and told and not capture.gaps else 1


def main(command, *paths):
    actions = {"words": make_words, "speak": speak, "check": check, "sound": check_sound}
    return actions[command](*map(Path, paths))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
