"""Say a digit, see what both networks make of it, and see and hear why.

    python recording_scripts/recognise.py --runs runs
    python recording_scripts/recognise.py --runs demo/runs --wav recordings/corpus/zoe/7_zoe_0.wav --output out
    python recording_scripts/recognise.py --page --network DEPLOY WEIGHTS

See recording_scripts/README.md.
"""

from __future__ import annotations

import argparse
import sys
import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiomnist.arguments import command_parser, number, whole_number
from audiomnist.corpus.layout import CorpusError
from audiomnist.corpus.splits import OFFICIAL_SPLITS, load_splits
from audiomnist.door import door
from audiomnist.explain import audible, drawing
from audiomnist.places import HOME
from audiomnist.recording.review import show_pictures
from audiomnist.recording.session import SAMPLE_RATE
from audiomnist.recording.sound import Microphone, SoundError, is_playing, play
from audiomnist.recording.utterances import MARGIN, SHORT, find_sounds
from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.run_folder import snapshots
from audiomnist.signal.inputs import NETWORKS as FORMS
from audiomnist.signal.inputs import network_inputs, padded_signal
from audiomnist.signal.wav import RecordingError, read_wav, wav_bytes, wav_file
from caffe_proto import sentence
from caffe_proto.atomic import make_folder, write_file
from lrp import COMPOSITES, Explanation, LRPError, Network
from lrp.composites import DEFAULT

LISTEN = 2.0  # s for which the microphone is heard
LONGEST = 1.0  # s that the networks can hear
NAME = "spoken.wav"  # what a take counts as: its place in the padded second depends on the name


@dataclass(frozen=True)
class Answer:
    """What a network makes of a recording: its classes' probabilities (classes,), the relevance and its input."""

    network: str
    classes: tuple[str, ...]
    probabilities: np.ndarray
    explanation: Explanation
    data: np.ndarray  # (1, C, H, W)

    @property
    def best(self) -> int:
        return int(np.argmax(self.probabilities))

    def __str__(self) -> str:
        order = np.argsort(-self.probabilities)[:3]
        return f"{self.network}: " + ", ".join(f"{self.classes[k]} {100 * self.probabilities[k]:.1f} %" for k in order)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Scores (classes,) -> probabilities (classes,)."""
    shifted = np.exp(scores.astype(np.float64) - scores.max())
    return shifted / shifted.sum()


def load_networks(runs: Path, task: str, split: int) -> dict[str, Network]:
    """The trained networks of a task and split, from their newest snapshots; at least one.

    Raises LRPError or CaffeFileError.
    """
    found = {}
    for name in NETWORKS:
        folder = runs / f"{name}_{task}_{split}"
        models = snapshots(folder, name)
        if models:
            found[name] = Network(str(folder / "deploy.prototxt"), str(models[-1][1]))
    if not found:
        folders = " or ".join(f"{name}_{task}_{split}" for name in NETWORKS)
        raise LRPError(runs, f"a snapshot in {folders} (train_test.sh makes them), or --network", "none")
    return found


def check(network: Network, classes: tuple[str, ...]) -> None:
    """LRPError where a network reads no form of a recording, or answers with other than the classes."""
    shapes = [form.shape[1:] for form in FORMS.values()]
    shape = network.input_shape and network.input_shape[1:]
    if shape not in shapes:
        raise LRPError(network.model, f"an input of one of the shapes {', '.join(map(str, shapes))}", shape)
    if (count := network.classes((1, *shape))) != len(classes):
        raise LRPError(network.model, f"{len(classes)} classes, as the task has", count)


def single_utterance(samples: np.ndarray, rate: int) -> np.ndarray:
    """The loudest utterance of int16 samples (N,), with margins, at most a second long. Raises RecordingError."""
    if len(samples) < SHORT * rate:
        raise RecordingError("a spoken digit", f"{len(samples) / rate:.3f} s of sound")
    sounds = [sound for sound in find_sounds(samples, rate) if sound.word]
    if not sounds:
        raise RecordingError("a spoken digit", "nothing that sounds like a word")
    place = max(range(len(sounds)), key=lambda k: sounds[k].peak)
    first = last = place  # a word of two sounds, such as eight
    while first and sounds[last].stop - sounds[first - 1].start < LONGEST - 2 * MARGIN and _near(sounds, first - 1):
        first -= 1
    while (
        last + 1 < len(sounds)
        and sounds[last + 1].stop - sounds[first].start < LONGEST - 2 * MARGIN
        and _near(sounds, last)
    ):
        last += 1
    start = max(0, round((sounds[first].start - MARGIN) * rate))
    return samples[start : round((sounds[last].stop + MARGIN) * rate)]


def _near(sounds: list, first: int) -> bool:
    return sounds[first + 1].start - sounds[first].stop < 0.2


def recognise(
    networks: dict[str, Network], wav: bytes, name: str, composite: str, classes: tuple[str, ...]
) -> list[Answer]:
    """What each network makes of a WAV file's bytes. Raises RecordingError, LRPError."""
    inputs = {form.shape[1:]: form for form in network_inputs(wav, name).values()}
    answers = []
    for network, model in networks.items():
        data = inputs[model.input_shape[1:]].astype(np.float32)
        explanation = model.relevance(data, None, composite)
        answers.append(Answer(network, classes, softmax(explanation.scores[0]), explanation, data))
    return answers


def write_answers(answers: list[Answer], wav: bytes, name: str, output: Path) -> list[tuple[str, np.ndarray]]:
    """Write the recording, and for each network a picture and a sound of its relevance.

    Returns what can be heard: (description, int16 samples at 8 kHz). Raises WriteError, LRPError.
    """
    make_folder(output)
    write_file(output / name, wav)
    stem, heard = Path(name).stem, []
    for answer in answers:
        text = drawing.caption(answer.explanation, 0, answer.classes)
        figure = drawing.draw(answer.data[0], answer.explanation.relevance[0], text, f"{name}, {answer}")
        drawing.write(figure, str(output / f"{stem}_{answer.network}.png"))
        relevance = answer.explanation.relevance[0]
        if answer.data.shape[1:3] == (1, 1):
            signal = audible.of_waveform(answer.data, relevance)
        else:
            signal = audible.of_spectrogram(padded_signal(wav, name), relevance)
        audible.write_wav(str(output / f"{stem}_{answer.network}_relevance.wav"), signal)
        samples = np.rint(signal * 32767).astype(np.int16)
        heard.append((f"what {answer.network} listened to", samples))
    return heard


def play_all(heard: list[tuple[str, np.ndarray]]) -> None:
    """Play one after the other at 8 kHz. Raises SoundError."""
    for what, samples in heard:
        print(f"playing {what}", file=sys.stderr)
        play(np.repeat(samples, SAMPLE_RATE // audible.SAMPLE_RATE), SAMPLE_RATE)
        while is_playing():
            time.sleep(0.05)


def listen(microphone: Microphone) -> np.ndarray:
    """Two seconds of sound, int16 (N,) at 48 kHz. Raises SoundError."""
    microphone.begin()
    while microphone.seconds() < LISTEN:
        time.sleep(0.02)
    return microphone.end().samples


def from_microphone(options: argparse.Namespace, explain) -> None:
    """ENTER, two seconds of listening, an answer; until the input ends or Q."""
    microphone = Microphone(options.device)
    try:
        number = 0
        while True:
            print("ENTER, then say a digit (Q ends)", file=sys.stderr)
            line = sys.stdin.readline()
            if not line or line.strip().casefold() == "q":
                return
            number += 1
            try:
                sound = single_utterance(listen(microphone), SAMPLE_RATE)
                explain(wav_bytes(sound, SAMPLE_RATE), f"{Path(NAME).stem}{number}.wav")
            except RecordingError as error:
                print(f"{error}; once more, please", file=sys.stderr)
    finally:
        microphone.close()


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        "recognise.py",
        "Say a digit, see both networks' answers and why.",
        "python recording_scripts/recognise.py --runs demo/runs --device 'RODE*'",
        "python recording_scripts/recognise.py --runs demo/runs --wav notebooks/one_recording/seven.wav --no-play",
        "python recording_scripts/recognise.py --page --network notebooks/one_recording/deploy.prototxt "
        "notebooks/one_recording/small.caffemodel",
    )
    add = p.add_argument_group("the networks").add_argument
    add("--runs", type=Path, default=HOME / "runs", metavar="DIR", help="trained runs (default: runs/)")
    add("--task", default="digit", metavar="TASK", help="of the runs (default: %(default)s)")
    add("--split", type=number, default=0, metavar="SPLIT", help="of the runs (default: %(default)s)")
    add("--network", type=Path, nargs=2, metavar=("DEPLOY", "WEIGHTS"), help="a network, instead of the runs")
    add("--splits", type=Path, default=OFFICIAL_SPLITS, metavar="FILE",
        help="splits that name the classes (default: AudioMNIST's)")  # fmt: skip
    group = p.add_argument_group("what is heard")
    source = group.add_mutually_exclusive_group()
    source.add_argument("--wav", type=Path, nargs="+", metavar="FILE", help="recordings, instead of the microphone")
    source.add_argument("--page", action="store_true", help="listen and show in the browser; nothing is written")
    add = group.add_argument
    add("--port", type=whole_number(0, 65535), default=0, metavar="N", help="of --page (default: a free one)")
    add("--device", metavar="NAME", help='the microphone, by index or pattern such as "RODE*" (default: the system\'s)')
    add = p.add_argument_group("what is shown").add_argument
    add("--composite", choices=COMPOSITES, default=DEFAULT, metavar="NAME",
        help=f"of {', '.join(COMPOSITES)} (default: %(default)s)")  # fmt: skip
    add("--output", type=Path, default=HOME / "recognised", metavar="DIR",
        help="pictures and sounds (default: recognised/)")  # fmt: skip
    add("--no-show", action="store_true", help="write the pictures or serve the page, but do not show them")
    add("--no-play", action="store_true", help="do not play the explanations")
    return p


@door("recognise.py")
def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)

    def show_page(address: str) -> None:
        print(address, flush=True)
        if not options.no_show:
            webbrowser.open(address)

    def explain(wav: bytes, name: str) -> None:
        answers = recognise(networks, wav, name, options.composite, classes)
        for answer in answers:
            print(answer, flush=True)
        heard = write_answers(answers, wav, name, options.output)
        pictures = [str(options.output / f"{Path(name).stem}_{answer.network}.png") for answer in answers]
        if options.no_show or not show_pictures(pictures):
            print(f"see {', '.join(pictures)}", file=sys.stderr)
        if not options.no_play:
            try:
                play_all(heard)
            except SoundError as error:
                print(error, file=sys.stderr)

    failed = 0
    stays = bool(options.wav) and not options.no_show and sys.stdin.isatty()  # or the windows would close at once
    splits = load_splits(options.splits)
    if options.task not in splits.tasks:
        raise CorpusError(options.splits, f"one of the tasks {', '.join(splits.tasks)}", repr(options.task))
    classes = splits.tasks[options.task].classes
    if options.network:
        deploy, weights = map(str, options.network)
        networks = {Path(weights).stem: Network(deploy, weights)}
    else:
        networks = load_networks(options.runs, options.task, options.split)
    for network in networks.values():
        check(network, classes)
    if options.page:
        from audiomnist.recording.recognise_page import serve

        serve(networks, classes, options.composite, options.port, show_page)
    elif not options.wav:
        from_microphone(options, explain)
    for path in options.wav or ():
        try:
            blob = wav_file(path)
            read_wav(blob)
            explain(blob, path.name)
        except (RecordingError, OSError) as error:
            got = getattr(error, "strerror", None) or error.got
            print(sentence(path, "a WAV file of a spoken digit", got), file=sys.stderr)
            failed += 1
    if stays:
        print("ENTER ends", file=sys.stderr)
        sys.stdin.readline()
    return 1 if failed else 0
