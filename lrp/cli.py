"""Command line: `python -m lrp --model DEPLOY.prototxt --weights X.caffemodel --input FILE --output PICTURE.png`."""

import argparse
import os
import sys

from caffe_proto import CaffeFileError
from lrp import drawing
from lrp.composites import COMPOSITES
from lrp.errors import LRPError
from lrp.inputs import read_recording
from lrp.network import Network
from lrp.results import save

DTYPES = ("float32", "float64")


def parser():
    """The options."""
    p = argparse.ArgumentParser(prog="python -m lrp", description="Relevance of a recording for a trained network.")
    p.add_argument("--model", required=True, metavar="FILE", help="deploy prototxt")
    p.add_argument("--weights", required=True, metavar="FILE", help="caffemodel, binary or HDF5")
    p.add_argument("--input", required=True, metavar="FILE", help="preprocessed HDF5 file or WAV file")
    p.add_argument("--target", type=int, metavar="K", help="class to explain (default: the predicted one)")
    p.add_argument("--composite", choices=COMPOSITES, default="epsilon_plus", help="rules (default: %(default)s)")
    p.add_argument("--seed", type=int, default=0, help="of a WAV file's position in its second (default: %(default)s)")
    p.add_argument("--dtype", choices=DTYPES, default="float32", help="precision (default: %(default)s)")
    p.add_argument("--save", metavar="FILE", help="also write relevance, input, score, prediction, target to HDF5")
    p.add_argument("--output", required=True, metavar="FILE", help="picture, PNG, SVG or PDF")
    return p


def explain(options):
    """Explain one recording as the options say; returns the line for standard output."""
    drawing.check_format(options.output)
    network = Network(options.model, options.weights)
    shape = None if network.input_shape is None else network.input_shape[1:]
    recording = read_recording(options.input, shape, options.seed)
    explanation = network.relevance(recording.data, options.target, options.composite, dtype=options.dtype)
    if options.save:
        save(options.save, explanation, recording.data, recording.label, options.weights, [options.input])
    caption = drawing.caption(explanation)
    title = os.path.basename(options.input)
    drawing.write(drawing.draw(recording.data[0], explanation.relevance[0], caption, title), options.output)
    return caption.split("\n")[0]


def main(arguments=None):
    """Run the command line; returns the exit code: 0 done, 1 failed (argparse exits with 2 when misused)."""
    options = parser().parse_args(arguments)
    try:
        print(explain(options))
    except (LRPError, CaffeFileError) as error:
        print(f"lrp: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"lrp: {error.filename or options.output}: {error.strerror}", file=sys.stderr)
        return 1
    return 0
