"""The command `preprocessing_data.py`: preprocess a whole corpus; it can be stopped and continued at any time."""

from __future__ import annotations

import argparse
import shutil
import sys
from functools import partial
from pathlib import Path

from audiomnist.arguments import command_parser, number, positive
from audiomnist.corpus.corrections import (
    NONE,
    Corrections,
    add_corrections_option,
    chosen_corrections,
    correct_metadata,
    spoken_digits,
)
from audiomnist.corpus.layout import GRAMMAR, CorpusError, in_short, scan
from audiomnist.corpus.metadata import META_NAME, check_metadata, read_metadata
from audiomnist.corpus.splits import SPLITS_NAME, check_splits, find_splits, load_splits
from audiomnist.door import door
from audiomnist.places import HOME
from audiomnist.preprocessing.journal import JOURNAL, Journal, check_manifest, check_owner, locked
from audiomnist.preprocessing.lists import REJECTED, remove_lists, write_lists, write_rejected
from audiomnist.preprocessing.store import Job, file_size, process
from audiomnist.progress_bar import add_quiet, progress_bar
from audiomnist.signal.inputs import DEFAULT_SEED, NETWORKS
from audiomnist.workers import available_cores, spread
from caffe_proto import sentence
from caffe_proto.atomic import WriteError, make_folder, remove_leftovers

PRELOADED = ("scipy.signal", "tqdm", "audiomnist.preprocessing.store")  # loaded once, for all workers


def preprocess(
    source: Path,
    destination: Path,
    meta_path: Path,
    splits_path: Path | None = None,
    jobs: int = 1,
    seed: int = DEFAULT_SEED,
    skip_invalid: bool = False,
    corrections: Corrections = NONE,
    verbose: bool = False,
) -> int:
    """Preprocess a whole corpus; returns the exit code. Raises CorpusError or WriteError when it cannot go on."""
    meta, corrected = correct_metadata(read_metadata(meta_path), corrections)
    splits = load_splits(splits_path) if splits_path else find_splits(source)
    recordings, defects = scan(source)
    if not recordings and not defects:
        raise CorpusError(source, f"recordings {GRAMMAR}", "none")
    digits, relabelled = spoken_digits(recordings, meta, corrections)
    for line in corrected + relabelled:
        print(f"corrected: {line}", file=sys.stderr)
    unknown = check_metadata(recordings, meta, meta_path)
    defects += unknown
    without_label = {name for defect in unknown for name in defect.recordings}
    labelled = [r for r in recordings if r.relative not in without_label]
    labels = {r: tuple(splits.labels(digits[r], meta[r.speaker])) for r in labelled}

    make_folder(destination)
    remove_leftovers(destination)  # also of a run that was killed while it wrote its manifest
    check_owner(destination)
    with locked(destination):
        check_manifest(destination, source, seed)  # written before any other file: it marks the folder as ours
        for speaker in {r.speaker for r in labels}:
            make_folder(destination / speaker)
        journal = Journal(destination / JOURNAL)
        work = [Job(r, row, journal.fingerprints.get(r.relative)) for r, row in labels.items()]
        check_space(destination, work, len(splits.columns))
        usable = set()
        with journal, progress_bar(total=len(work), unit="rec", desc="preprocessing", smoothing=0.05) as bar:
            task = partial(process, destination=destination, seed=seed)
            for done in spread(task, work, jobs, PRELOADED):
                if done.defect:
                    defects.append(done.defect)
                else:
                    journal.record(done.recording, done.fingerprint)
                    usable.add(done.recording)
                bar.update()
            journal.flush()
        rows = [(r, row) for r, row in labels.items() if r in usable]
        split_defects, unusable = check_splits(splits, rows, meta)
        defects = sorted(defects, key=lambda d: d.where) + split_defects
        for line in in_short(defects, verbose):
            print(line, file=sys.stderr)
        lost = len({name for defect in defects for name in defect.recordings})
        summary = f"{len(rows)} recordings in {destination}, {lost} rejected"
        (destination / REJECTED).unlink(missing_ok=True)
        if defects and not skip_invalid:
            remove_lists(destination)
            got = f"{len(defects)} (mend them, or leave them out with --skip-invalid)"
            print(sentence(source, "no defects", got), file=sys.stderr)
            print(f"{summary}; no lists written")
            return 1
        if skip_invalid:
            write_rejected(destination / REJECTED, defects)
        lists = write_lists(destination, splits, rows, unusable)
        if not lists:
            expected = "at least one split that can be used with these recordings"
            print(sentence(splits.path, expected, "none"), file=sys.stderr)
        print(f"{summary}; {lists} lists" + (f"; see {destination / REJECTED}" if defects else ""))
        return 0 if lists else 1


def check_space(destination: Path, work: list[Job], columns: int) -> None:
    """Fail before the work begins when the free space will not do. Raises WriteError."""
    each = sum(file_size(network, columns) for network in NETWORKS)
    needed = each * sum(job.fingerprint is None for job in work)
    free = shutil.disk_usage(destination).free
    if needed > free:
        raise WriteError(destination, f"{needed / 1e9:.1f} GB free on the disk", f"{free / 1e9:.1f} GB")


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        "preprocessing_data.py",
        "Recordings of spoken digits -> HDF5 inputs of AlexNet and AudioNet, and split lists.",
        "python preprocessing_data.py -src data -dst preprocessed_data -m data/audioMNIST_meta.txt",
        "python preprocessing_data.py --source recordings/corpus --destination my_inputs --skip-invalid --jobs 4",
        "audiomnist preprocess --source demo/data --destination demo/preprocessed",
    )
    add = p.add_argument
    add("--source", "-src", type=Path, default=HOME / "data", metavar="DIR", help="recordings (default: data/)")
    destination = HOME / "preprocessed_data"
    inputs = "the networks' inputs (default: preprocessed_data/)"
    add("--destination", "-dst", type=Path, default=destination, metavar="DIR", help=inputs)
    add("--meta", "-m", type=Path, metavar="FILE", help=f"metadata (default: {META_NAME} in the source)")
    splits = f"splits (default: {SPLITS_NAME} in the source, else AudioMNIST's)"
    add("--splits", type=Path, metavar="FILE", help=splits)
    add("--jobs", type=positive, default=available_cores(), metavar="N", help="processes (default: all cores)")
    seed = "of the random positions in the padded second (default: %(default)s)"
    add("--seed", type=number, default=DEFAULT_SEED, metavar="N", help=seed)
    add("--skip-invalid", action="store_true", help=f"leave defective recordings out and list them in {REJECTED}")
    add_corrections_option(p)
    add("--verbose", action="store_true", help="a line for every defect, however many are alike")
    add_quiet(p)
    return p


@door("preprocessing", "the same command continues")
def main(arguments: list[str] | None = None) -> int:
    p = parser()
    options = p.parse_args(arguments)
    meta = options.meta or options.source / META_NAME
    if options.destination.resolve() == options.source.resolve():
        p.error(sentence("--destination", "another folder than the source's", options.destination))
    return preprocess(
        options.source,
        options.destination,
        meta,
        options.splits,
        options.jobs,
        options.seed,
        options.skip_invalid,
        chosen_corrections(options),
        options.verbose,
    )
