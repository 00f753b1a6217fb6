"""Command line: relevance of one recording as a picture, or of a list of recordings as HDF5, pictures and a report.

    python -m lrp --model DEPLOY.prototxt --weights X.caffemodel --input FILE.hdf5|FILE.wav --output PICTURE.png
    python -m lrp --model ... --weights ... --list FILE --limit N --save FILE.hdf5 --report DIR

A list is worked off in parts. A stopped run continues where it was when the same command is given again: finished parts
lie in `<first of --save, --report, --output, --audible>.partial` until everything is done.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

import audiomnist.explain
import audiomnist.signal
import lrp
from audiomnist.arguments import command_parser, positive
from audiomnist.door import door
from audiomnist.explain import audible, drawing
from audiomnist.explain.command import how, labels
from audiomnist.explain.inputs import Recording, joined, named, read_list, read_recording, sound
from audiomnist.explain.progress import Part, Progress
from audiomnist.explain.results import (
    attributes,
    check_alike,
    check_same_attributes,
    columns,
    file_hash,
    writing,
)
from audiomnist.progress_bar import add_quiet, progress_bar
from audiomnist.provenance import code_digest, made_by
from caffe_proto import sentence
from caffe_proto.errors import printable
from lrp.baselines import METHODS, explain, read_method
from lrp.composites import COMPOSITES, DEFAULT, find_composite
from lrp.errors import LRPError
from lrp.explanation import Explanation
from lrp.network import Network

DTYPES = ("float32", "float64")
AT_ONCE = 16  # recordings of a list that make a part
SMALL = "--model notebooks/one_recording/deploy.prototxt --weights notebooks/one_recording/small.caffemodel"
DEMO = (
    "--model demo/runs/AlexNet_digit_0/deploy.prototxt "
    "--weights demo/runs/AlexNet_digit_0/snapshots/AlexNet_iter_300.caffemodel "
    "--list demo/preprocessed/AlexNet_digit_0_test.txt"
)


def _target(text: str) -> str | int:
    if text in ("predicted", "label"):
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(sentence("", "predicted, label or a class number", repr(text)))
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command_parser(
        "lrp",
        "Relevance of recordings for a trained network.",
        f"lrp {SMALL} --input notebooks/one_recording/seven.wav --output seven.png",
        f"lrp {SMALL} --input notebooks/one_recording/seven.wav --target 1 --audible one.wav",
        f"lrp {DEMO} --limit 10 --composite epsilon_plus epsilon_plus_flat --report report",
    )
    group = p.add_argument_group("what is explained")
    group.add_argument("--model", required=True, metavar="FILE", help="deploy prototxt")
    group.add_argument("--weights", required=True, metavar="FILE", help="caffemodel, binary or HDF5")
    source = group.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", metavar="FILE", help="preprocessed HDF5 file or WAV file")
    source.add_argument(
        "--list",
        metavar="FILE",
        help="text file with one such file a line, relative to the list; a stopped run continues",
    )
    group.add_argument("--limit", type=positive, metavar="N", help="only the first N recordings of the list")
    group.add_argument(
        "--target",
        type=_target,
        default="predicted",
        metavar="K",
        help="class to explain: its number, predicted, or label (default: %(default)s)",
    )
    group.add_argument(
        "--label-column",
        type=int,
        metavar="N",
        help="column of the labels that --target label reads (default: 1, the gender, for networks of two "
        "classes, else 0, the digit)",
    )
    group = p.add_argument_group("how")
    group.add_argument(
        "--composite",
        type=how,
        nargs="+",
        default=[DEFAULT],
        metavar="NAME",
        help=f"composite, composite file or baseline; several are drawn side by side (default: {DEFAULT};"
        f" composites: {', '.join(COMPOSITES)}; baselines: {', '.join(METHODS)}, with settings as captions print them: "
        "'smoothgrad(samples=50, noise=0.2)')",
    )
    add = group.add_argument
    add("--absorbed", action="store_true", help="also say what biases and stabilisers absorbed, by layer")
    position = "of a WAV file's position in its second (default: %(default)s)"
    add("--seed", type=int, default=0, metavar="N", help=position)
    add("--dtype", choices=DTYPES, default="float32", help="precision (default: %(default)s)")
    group = p.add_argument_group("what is written")
    group.add_argument("--save", metavar="FILE", help="write relevance, input, score, prediction, target to HDF5")
    group.add_argument("--output", metavar="FILE", help="picture (.png, .svg, .pdf); with --list a folder for pictures")
    group.add_argument("--audible", metavar="FILE", help="audible heatmap (.wav); with --list a folder for them")
    group.add_argument(
        "--formula",
        choices=audible.FORMULAS,
        default=audible.DEFAULT,
        help="what the audible heatmap plays (default: %(default)s)",
    )
    report = "write DIR/index.html: heatmaps, recordings and audible heatmaps"
    group.add_argument("--report", metavar="DIR", help=report)
    add_quiet(p)
    return p


def targets(option: str | int, recording: Recording, classes: int, column: int | None) -> np.ndarray | int | None:
    """The target for `explain` that the options mean for one recording."""
    if option == "predicted":
        return None
    return labels(recording, classes, column) if option == "label" else option


def absorbed_line(explanation: Explanation, item: int) -> str:
    """What biases and stabilisers kept of one item's score: in all, and the shares of single layers."""
    parts = []
    for kind, name in (("bias", "biases"), ("stabiliser", "stabilisers")):
        shares = {
            layer: kinds[kind][item] / (explanation.score[item] or float("nan"))
            for layer, kinds in explanation.absorbed.items()
        }
        single = ", ".join(f"{layer} {share:.4f}" for layer, share in shares.items() if abs(share) >= 0.00005)
        parts.append(f"{sum(shares.values()):.4f} of the score by {name}{f' ({single})' if single else ''}")
    return "absorbed: " + "; ".join(parts)


class Run:
    """What one call of the command does; recordings are explained in parts, whose results are written at the end."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Check the options, read the network, make folders. Raises LRPError, CaffeFileError or OSError."""
        self.options = options
        if options.output and not options.list:
            drawing.check_format(options.output)
        if options.audible and not options.list and os.path.splitext(options.audible)[1].lower() != ".wav":
            raise LRPError("--audible", "a name that ends in .wav", options.audible)
        for path in (options.save, *([] if options.list else [options.output, options.audible])):
            folder = os.path.dirname(path or "") or "."
            if not os.path.isdir(folder):
                raise LRPError(path, "a path in a folder that exists", folder)
            with contextlib.suppress(FileNotFoundError):
                os.lstat(path or folder)  # a name that is too long, said before the work
        self.composites = [name if read_method(name) else find_composite(name) for name in options.composite]
        names = [getattr(one, "name", one) for one in self.composites]
        if len(set(names)) < len(names):  # a page would show one of them
            raise LRPError("--composite", "composites of different names", ", ".join(names))
        self.network = Network(options.model, options.weights)
        self.shape = None if self.network.input_shape is None else self.network.input_shape[1:]
        self.paths = read_list(options.list)[: options.limit] if options.list else [options.input]
        self.names = self.about = None  # of the columns of the recordings so far, and their attributes
        if options.list and (options.output or options.audible):
            self._check_names()
        self.report = None
        if options.report:
            from audiomnist.explain.report import Report

            self.report = Report(options.report, self.network, options.seed, options.dtype, len(self.paths))
        first = options.save or options.report or options.output or options.audible
        self.progress = Progress(first, self._settings()) if len(self.paths) > AT_ONCE else None  # last: it is held

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 of the weights."""
        return file_hash(self.options.weights)

    def _check_names(self) -> None:
        """LRPError if two recordings of the list would be drawn under one name."""
        known = {}
        for path in self.paths:
            stem = os.path.splitext(os.path.basename(path))[0]
            if os.path.normpath(known.setdefault(stem, path)) != os.path.normpath(path):
                got = f"{known[stem]} and {path}, which would both become {stem}"
                raise LRPError(self.options.list, "recordings with different names", got)

    def _settings(self) -> dict[str, Any]:
        """What decides the content of a part, beside its recordings."""
        o = self.options
        return {
            "model": file_hash(o.model),
            "weights": self.weights_hash,
            "code": code_digest(lrp, audiomnist.signal, audiomnist.explain),
            "composites": list(map(repr, self.composites)),
            "target": o.target,
            "label_column": o.label_column,
            "seed": o.seed,
            "dtype": o.dtype,
            "absorbed": o.absorbed,
            "formula": o.formula,
            "save": bool(o.save),
            "report": bool(o.report),
            **{name: getattr(o, name) and os.path.abspath(getattr(o, name)) for name in ("output", "audible")},
        }

    def _place(self, path: str, extension: str, recording: Recording, item: int) -> str:
        """Where the picture or sound of an item goes: `path` itself, or a file in that folder; numbered where its
        recording has several items."""
        source = recording.sources[item]
        if self.options.list:
            stem = os.path.join(path, os.path.splitext(os.path.basename(source))[0])
        else:
            stem, extension = os.path.splitext(path)
        count, before = recording.sources.count(source), recording.sources[:item].count(source)
        return f"{stem}{extension}" if count == 1 else f"{stem}_{before}{extension}"

    def _files(self, recording: Recording, item: int) -> dict[str, str]:
        """The files that an item gives, {option: path}."""
        places = {"output": ".png", "audible": ".wav"}
        return {
            name: self._place(getattr(self.options, name), extension, recording, item)
            for name, extension in places.items()
            if getattr(self.options, name)
        }

    def _listen(self, path: str, recording: Recording, item: int, explanation: Explanation) -> None:
        o, one = self.options, recording.item(item)
        heard = sound(one, o.seed)
        if heard is None:
            expected = "a WAV file, or the waveform network's file beside it (--audible needs a waveform)"
            raise LRPError(one.path, expected, "neither")
        signal = audible.of_input(one.data[0], heard, explanation.relevance[item], o.formula, one.geometry)
        audible.write_wav(path, signal, one.geometry.sample_rate)

    def _explain(self, recording: Recording) -> tuple[list[Explanation], list[dict[str, Any]]]:
        """(explanations by the composites, the report's entries) of a group of recordings that are alike."""
        o = self.options
        target = targets(o.target, recording, self.network.classes(recording.data.shape), o.label_column)
        with named(recording.sources):
            explanations = [
                explain(self.network, recording.data, one, target, o.dtype, o.absorbed) for one in self.composites
            ]
        items = range(len(recording.sources)) if self.report else ()
        return explanations, [self.report.entry(recording.item(item), self.composites) for item in items]

    def _put(
        self, recording: Recording, explanations: Sequence[Explanation], entries: Sequence[dict[str, Any]], part: Part
    ) -> None:
        """Add the results of a group of recordings to a `Part`; draws their pictures."""
        o = self.options
        part.entries.extend(entries)
        if o.save:
            part.groups.append(columns(explanations[0], recording.data, recording.label, recording.sources))
            about = attributes(explanations[0], recording.geometry)
            check_same_attributes(recording.path, about, part.about or about)
            part.about = about
        for item, source in enumerate(recording.sources):
            captions = [drawing.caption(one, item, geometry=recording.geometry) for one in explanations]
            files = self._files(recording, item)
            if o.output:
                figure = drawing.compare(
                    recording.data[item],
                    [e.relevance[item] for e in explanations],
                    captions,
                    os.path.basename(source),
                    recording.geometry,
                )
                drawing.write(figure, files["output"])
            if o.audible:
                self._listen(files["audible"], recording, item, explanations[0])
            part.files.extend(files.values())
            for caption, explanation in zip(captions, explanations, strict=True):
                line = caption.split("\n")[0]
                part.lines.append(f"{source}: {line}" if o.list else line)
                if explanation.absorbed:
                    part.lines.append(absorbed_line(explanation, item))

    def _part(self, paths: Sequence[str]) -> tuple[str | None, Part]:
        """(key, `Part`) of some recordings: found, or made and kept. Of a kept one the columns are left in the file.

        The key is None where the whole list is one part, which is not kept.
        """
        part, key = None, None
        if self.progress:
            key = self.progress.key(paths)
            part = self.progress.read(key)
        made_before = part is not None and all(map(os.path.exists, part.files))
        if not made_before:
            part = Part()
            groups = list(joined([read_recording(path, self.shape, self.options.seed) for path in paths]))
            explained = [self._explain(recording) for recording in groups]  # all of them before anything is drawn
            for folder in (self.options.output, self.options.audible) if self.options.list else ():
                if folder:
                    os.makedirs(folder, exist_ok=True)
            for recording, results in zip(groups, explained, strict=True):
                self._put(recording, *results, part)
        for made in part.groups:
            self.names = self.names or list(made)
            check_alike(made, self.names)
        self.about = self.about or part.about
        check_same_attributes(paths[0], part.about, self.about)
        if key:
            if not made_before:
                self.progress.keep(key, part)
            part.groups = []
        return key, part

    def _save(self, parts: Sequence[tuple[str | None, Part]]) -> None:
        """Write the columns of all parts [(key, part)] to --save."""
        about = {**parts[0][1].about, "weights": str(self.options.weights), "weights_sha256": self.weights_hash}
        about |= made_by()
        if self.options.list:
            about["list"] = str(self.options.list)
        with writing(self.options.save, about) as writer:
            for key, part in parts:
                for made in (self.progress.again(key) if key else part).groups:
                    writer.append(made)

    def carry_out(self) -> None:
        """Explain everything; prints a line for each recording and composite, and where the report is."""
        parts = []
        watched = bool(self.options.list) and sys.stderr.isatty()  # where nobody watches, the lines tell how far it is
        with progress_bar(total=len(self.paths), unit="recording", shown=watched) as bar:
            for start in range(0, len(self.paths), AT_ONCE):
                paths = self.paths[start : start + AT_ONCE]
                key, part = self._part(paths)
                for line in part.lines:
                    print(printable(line), flush=True)
                for entry in part.entries:
                    self.report.add(entry)
                part.entries = []
                parts.append((key, part))
                bar.update(len(paths))
        if self.options.save:
            self._save(parts)
        if self.report:
            print(self.report.write())
        if self.progress:
            self.progress.remove()

    def stopped(self) -> str:
        """What is left behind when the run ends early."""
        if self.progress and self.progress.started:
            return f"the same command continues (finished parts are in {self.progress.folder})"
        return "nothing was left half-written"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 failed, 130 stopped (argparse exits with 2: misused)."""
    p = parser()
    options = p.parse_args(arguments)
    if not (options.save or options.output or options.audible or options.report):
        p.error("expected --output, --audible, --save or --report, got none of them")
    if options.limit and not options.list:
        p.error(sentence("--limit", "--list with it", "none"))
    if (options.save or options.audible) and len(options.composite) > 1:
        asking = "--save" if options.save else "--audible"
        p.error(sentence("--composite", f"one with {asking}", len(options.composite)))
    runs = []

    @door("lrp", lambda: runs[0].stopped() if runs else "nothing was written")
    def work(_: list[str] | None) -> None:
        runs.append(Run(options))
        try:
            runs[0].carry_out()
        finally:
            if runs[0].progress:
                runs[0].progress.close()

    return work(None)
