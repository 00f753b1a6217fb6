"""Splits for any corpus: no speaker both trains and tests, and genders are spread evenly, as in AudioMNIST's own.

    audiomnist make-splits CORPUS --make-splits 5 --seed 0

K folds of speakers; split k (0 .. K-1) tests on fold k+K, validates on fold k+K-1 and trains on the K-2 folds before
them (numbers wrap after K): the paper's scheme. The digit task uses every speaker; the gender task all speakers of the
rarer gender and as many of the other, so that chance is one half.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from audiomnist.arguments import command_parser, number
from audiomnist.corpus.layout import CorpusError, scan
from audiomnist.corpus.metadata import GENDERS, META_NAME, check_metadata, gender_of, read_metadata
from audiomnist.corpus.splits import OFFICIAL_SPLITS, SPLITS_NAME, Splits, load_splits
from audiomnist.door import door
from caffe_proto.atomic import write_file

MIN_FOLDS = 3  # one to train on, one to validate on, one to test on


def deal(by_gender: Sequence[Sequence[str]], folds: int) -> list[list[str]]:
    """Deal speakers (a list for each gender) into folds of equal size (give or take one), for each gender too."""
    hands: list[list[str]] = [[] for _ in range(folds)]
    position = 0
    for speakers in by_gender:
        for speaker in speakers:
            hands[position % folds].append(speaker)
            position += 1  # the next gender goes on where this one ended, so that the totals stay even
    return hands


def rotate(hands: Sequence[Sequence[str]]) -> tuple[dict[str, tuple[str, ...]], ...]:
    """Folds -> splits, each fold the test set once."""
    count = len(hands)
    splits = []
    for k in range(count):
        turn = [tuple(hands[(k + i) % count]) for i in range(count)]
        splits.append({"train": sum(turn[:-2], ()), "validate": turn[-2], "test": turn[-1]})
    return tuple(splits)


def make_splits(genders: Mapping[str, int], folds: int, seed: int, path: Path = Path(SPLITS_NAME)) -> Splits:
    """Splits of the official tasks for speakers with these gender labels.

    Without enough speakers of both genders (`folds` of each) there is no gender task. Raises CorpusError when there are
    fewer folds than 3 or fewer speakers than folds.
    """
    if folds < MIN_FOLDS:
        raise CorpusError(path, f"{MIN_FOLDS} or more folds (to train, to validate and to test on)", folds)
    if len(genders) < folds:
        raise CorpusError(path, f"at least a speaker for each of {folds} folds", f"{len(genders)} speakers")
    shuffle = random.Random(seed)
    by_gender = []
    for gender in range(len(GENDERS)):
        speakers = sorted(s for s, g in genders.items() if g == gender)
        shuffle.shuffle(speakers)
        by_gender.append(speakers)
    made = {"digit": rotate(deal(by_gender[::-1], folds))}
    fewest = min(map(len, by_gender))
    if fewest >= folds:
        women_and_men = (deal([speakers[:fewest]], folds) for speakers in by_gender)
        made["gender"] = rotate([sum(pair, []) for pair in zip(*women_and_men, strict=True)])
    official = load_splits(OFFICIAL_SPLITS).tasks
    return Splits(path, made, {name: official[name] for name in made})


def write_splits(corpus: Path, meta_path: Path, folds: int, seed: int) -> Splits:
    """Make the splits of a corpus from its recordings and metadata and write its splits.json."""
    recordings, _ = scan(corpus)
    meta = read_metadata(meta_path)
    if defects := check_metadata(recordings, meta, meta_path):
        raise CorpusError(str(defects[0]))
    genders = {r.speaker: gender_of(meta[r.speaker]) for r in recordings}
    splits = make_splits(genders, folds, seed, corpus / SPLITS_NAME)
    write_file(splits.path, splits.to_json().encode())
    return splits


def add_arguments(parser: argparse.ArgumentParser, required: bool) -> None:
    """Add the options for making splits to a command's parser."""
    what = "write splits.json with K folds"
    parser.add_argument("--make-splits", type=number, metavar="K", required=required, help=what)
    parser.add_argument(
        "--seed", type=number, default=0, metavar="N", help="decides which speaker comes into which fold (default: 0)"
    )


def describe(splits: Splits) -> str:
    """The splits in words, a line for each task."""
    lines = []
    for name, folds in splits.folds.items():
        sizes = "/".join(str(len(folds[0][part])) for part in folds[0])
        lines.append(f"{splits.path}: {name}, {len(folds)} splits; speakers to train/validate/test in split 0: {sizes}")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        "audiomnist make-splits",
        "Make speaker-disjoint splits, balanced by gender, for a corpus.",
        "audiomnist make-splits recordings/corpus --make-splits 5",
        "audiomnist make-splits recordings/corpus --make-splits 4 --seed 1 --force",
    )
    add = p.add_argument
    add("corpus", type=Path, metavar="CORPUS", help="folder with a folder for each speaker")
    add("--meta", "-m", type=Path, metavar="FILE", help=f"metadata (default: {META_NAME} in the corpus)")
    add("--force", action="store_true", help=f"replace the {SPLITS_NAME} that is there")
    add_arguments(p, required=True)
    return p


@door("make-splits")
def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    target = options.corpus / SPLITS_NAME
    if target.exists() and not options.force:
        raise CorpusError(target, "no such file, or --force to replace it", "one")
    meta_path = options.meta or options.corpus / META_NAME
    splits = write_splits(options.corpus, meta_path, options.make_splits, options.seed)
    print(describe(splits))
    if "gender" not in splits.folds:
        expected = f"{options.make_splits} or more speakers of each gender"
        print(f"{target}: no gender task, which needs {expected}", file=sys.stderr)
    return 0
