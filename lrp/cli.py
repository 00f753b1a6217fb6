"""Command line: relevance of one recording as a picture, or of a list of recordings as HDF5, pictures and a report.

    python -m lrp --model DEPLOY.prototxt --weights X.caffemodel --input FILE.hdf5|FILE.wav --output PICTURE.png
    python -m lrp --model ... --weights ... --list FILE --limit N --save FILE.hdf5 --report DIR
"""

import argparse
import contextlib
import os
import sys

import numpy as np

from caffe_proto import CaffeFileError
from lrp import drawing
from lrp.baselines import METHODS, explain
from lrp.composites import COMPOSITES, find_composite
from lrp.errors import LRPError
from lrp.inputs import joined, read_list, read_recording
from lrp.network import Network
from lrp.results import writing

DTYPES = ("float32", "float64")
AT_ONCE = 16  # recordings of a list that are explained together


def how(text):
    """The name of a composite or method, or a composite's file."""
    if text not in METHODS and text not in COMPOSITES and os.path.splitext(text)[1].lower() not in (".toml", ".json"):
        known = ", ".join([*COMPOSITES, *METHODS])
        raise argparse.ArgumentTypeError(f"{text!r} found; one of {known}, or a .toml or .json file wanted")
    return text


def _target(text):
    if text in ("predicted", "label"):
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} found; predicted, label or a class number wanted")
    return int(text)


def positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} found; a number of at least 1 wanted")
    return int(text)


def parser():
    """The options."""
    p = argparse.ArgumentParser(prog="python -m lrp", description="Relevance of recordings for a trained network.")
    p.add_argument("--model", required=True, metavar="FILE", help="deploy prototxt")
    p.add_argument("--weights", required=True, metavar="FILE", help="caffemodel, binary or HDF5")
    source = p.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", metavar="FILE", help="preprocessed HDF5 file or WAV file")
    source.add_argument("--list", metavar="FILE", help="text file with one such file a line, relative to the list")
    p.add_argument("--limit", type=positive, metavar="N", help="only the first N recordings of the list")
    p.add_argument("--target", type=_target, default="predicted", metavar="K",
                   help="class to explain: its number, predicted, or label (default: %(default)s)")
    p.add_argument("--label-column", type=int, metavar="N",
                   help="column of the labels that --target label reads (default: 1, the gender, for networks of two "
                   "classes, else 0, the digit)")
    p.add_argument("--composite", type=how, nargs="+", default=["epsilon_plus"], metavar="NAME",
                   help=f"composite, composite file or baseline; several are drawn side by side (default: epsilon_plus;"
                   f" composites: {', '.join(COMPOSITES)}; baselines: {', '.join(METHODS)})")
    p.add_argument("--seed", type=int, default=0, help="of a WAV file's position in its second (default: %(default)s)")
    p.add_argument("--dtype", choices=DTYPES, default="float32", help="precision (default: %(default)s)")
    p.add_argument("--save", metavar="FILE", help="write relevance, input, score, prediction, target to HDF5")
    p.add_argument("--output", metavar="FILE", help="picture (.png, .svg, .pdf); with --list a folder for pictures")
    p.add_argument("--report", metavar="DIR", help="write DIR/index.html: heatmaps, recordings and audible heatmaps")
    return p


def targets(option, recording, classes, column):
    """The target for `explain` that the options mean for one recording."""
    if option == "predicted":
        return None
    if option != "label":
        return option
    if recording.label is None:
        raise LRPError(f"{recording.path}: no label found; one wanted by --target label")
    label = recording.label.reshape(len(recording.data), -1)
    column = (1 if classes == 2 and label.shape[1] > 1 else 0) if column is None else column
    if not 0 <= column < label.shape[1]:
        raise LRPError(f"{recording.path}: {label.shape[1]} label columns found; column {column} wanted")
    return label[:, column].astype(np.int64)


def _picture_path(options, source, item, count):
    """Where the picture of an item goes: --output itself, numbered if its file holds several, or into that folder."""
    if options.list:
        return os.path.join(options.output, os.path.splitext(os.path.basename(source))[0] + ".png")
    stem, extension = os.path.splitext(options.output)
    return options.output if count == 1 else f"{stem}_{item}{extension}"


def _one(options, network, shape):
    """Explain --input; yields (recording, explanations)."""
    recording = read_recording(options.input, shape, options.seed)
    yield recording, _explain(options, network, recording)


def _explain(options, network, recording):
    classes = network.classes(recording.data.shape)
    target = targets(options.target, recording, classes, options.label_column)
    return [explain(network, recording.data, name, target, options.dtype) for name in options.composite]


def _many(options, network, shape):
    """Explain --list, several recordings at a time; yields (recording, explanations) in the list's order."""
    from tqdm import tqdm

    paths = read_list(options.list)[:options.limit]
    with tqdm(total=len(paths), unit="recording", file=sys.stderr, disable=None) as bar:
        for start in range(0, len(paths), AT_ONCE):
            recordings = [read_recording(path, shape, options.seed) for path in paths[start:start + AT_ONCE]]
            for group in joined(recordings):
                yield group, _explain(options, network, group)
            bar.update(len(recordings))


def run(options):
    """Do what the options say; prints one line per recording. Raises LRPError, CaffeFileError or OSError."""
    if options.output and not options.list:
        drawing.check_format(options.output)
    for name in options.composite:
        if name not in METHODS:
            find_composite(name)
    network = Network(options.model, options.weights)
    shape = None if network.input_shape is None else network.input_shape[1:]
    if options.list and options.output:
        os.makedirs(options.output, exist_ok=True)
    report = None
    if options.report:
        from lrp.report import Report

        report = Report(options.report, network, options.seed, options.dtype)
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(writing(options.save, options.weights, options.list)) if options.save else None
        for recording, explanations in (_many if options.list else _one)(options, network, shape):
            if writer:
                writer.append(explanations[0], recording.data, recording.label, recording.sources)
            for item, source in enumerate(recording.sources):
                captions = [drawing.caption(explanation, item) for explanation in explanations]
                if options.output:
                    figure = drawing.compare(recording.data[item], [e.relevance[item] for e in explanations], captions,
                                             os.path.basename(source))
                    drawing.write(figure, _picture_path(options, source, item, len(recording.sources)))
                if report:
                    report.add(recording.item(item), options.composite)
                for caption in captions:
                    line = caption.split("\n")[0]
                    print(f"{source}: {line}" if options.list else line)
    if report:
        print(report.write())


def main(arguments=None):
    """Run the command line; returns the exit code: 0 done, 1 failed (argparse exits with 2 when misused)."""
    p = parser()
    options = p.parse_args(arguments)
    if not (options.save or options.output or options.report):
        p.error("nothing to write found; --output, --save or --report wanted")
    if options.limit and not options.list:
        p.error("--limit found without --list")
    if options.save and len(options.composite) > 1:
        p.error(f"{len(options.composite)} composites found; one wanted with --save")
    try:
        run(options)
    except (LRPError, CaffeFileError) as error:
        print(f"lrp: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"lrp: {error.filename or options.output or options.save}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lrp: stopped; nothing was left half-written", file=sys.stderr)
        return 130
    return 0
