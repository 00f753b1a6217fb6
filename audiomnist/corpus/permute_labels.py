"""A corpus whose labels say nothing: every speaker's digits, and the genders of the speakers, shuffled.

What a network learns of it, it learns by heart. An explanation that looks the same for such a network and for one that
recognises speech explains neither (Adebayo et al. 2018, the data randomisation test).

    audiomnist permute-labels data data_permuted --seed 0
    ./train_test.sh --data data_permuted --preprocessed preprocessed_permuted --runs runs_permuted

The recordings are links. `audiomnist sanity --runs runs` looks for `runs_permuted` beside its runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np

from audiomnist.arguments import command_parser, number
from audiomnist.corpus.layout import CorpusError, Recording, scan
from audiomnist.corpus.metadata import META_NAME, read_metadata
from audiomnist.corpus.splits import SPLITS_NAME
from audiomnist.door import door
from caffe_proto import write_file


def permuted(recordings: list[Recording], seed: int) -> dict[str, Recording]:
    """{new path relative to the corpus: the recording there}: the digits of each speaker's recordings shuffled, by the
    seed and the speaker's name; as many recordings of each digit as before."""
    found = {}
    by_speaker: dict[str, list[Recording]] = {}
    for recording in sorted(recordings):
        by_speaker.setdefault(recording.speaker, []).append(recording)
    for speaker, own in by_speaker.items():
        rng = np.random.default_rng([seed, *speaker.encode()])
        taken: Counter[int] = Counter()
        for recording, digit in zip(own, rng.permutation([one.digit for one in own]).tolist(), strict=True):
            found[f"{speaker}/{digit}_{speaker}_{taken[digit]}.wav"] = recording
            taken[digit] += 1
    return found


def permute(source: Path, destination: Path, seed: int) -> int:
    """Make the permuted corpus; returns its number of recordings. Raises CorpusError, also for a destination that
    exists."""
    if destination.exists():
        raise CorpusError(destination, "a folder that is not there yet", "one that is")
    recordings, _ = scan(source)
    if not recordings:
        raise CorpusError(source, "recordings", "none")
    meta = read_metadata(source / META_NAME)
    for speaker, entry in meta.items():
        if not isinstance(entry.get("gender", ""), str):
            got = f"{entry['gender']!r:.60} of speaker {speaker}"
            raise CorpusError(source / META_NAME, "genders that are texts", got)
    rng = np.random.default_rng(seed)
    genders = rng.permutation([entry.get("gender", "") for entry in meta.values()]).tolist()
    shuffled = {
        speaker: {**entry, "gender": gender} for (speaker, entry), gender in zip(meta.items(), genders, strict=True)
    }
    for name, recording in permuted(recordings, seed).items():
        place = destination / name
        place.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(os.path.realpath(recording.path), place)
    if (source / SPLITS_NAME).exists():
        shutil.copyfile(source / SPLITS_NAME, destination / SPLITS_NAME)
    write_file(destination / META_NAME, json.dumps(shuffled, indent=1))  # last: a corpus with it is whole
    return len(recordings)


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        "audiomnist permute-labels",
        __doc__.split("\n")[0],
        "audiomnist permute-labels data data_permuted",
        "audiomnist permute-labels demo/data demo/data_permuted --seed 1",
    )
    p.add_argument("source", type=Path, metavar="SOURCE", help="a corpus")
    p.add_argument("destination", type=Path, metavar="DESTINATION", help="folder to make")
    p.add_argument("--seed", type=number, default=0, metavar="N", help="of the order (default: %(default)s)")
    return p


@door("permute-labels", "remove the folder and call it again")
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parser().parse_args(arguments)
    print(f"{permute(options.source, options.destination, options.seed)} recordings in {options.destination}")
    return 0
