"""The command `caffe-tools`: flags as gflags takes them, one function a tool."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from caffe.actions import ended
from caffe.cli import Parser
from caffe.tools.features import extract_features
from caffe.tools.images import compute_image_mean, convert_imageset, resize_and_crop_images
from caffe.tools.logs import parse_log
from caffe.tools.upgrades import upgrade_net_proto_binary, upgrade_net_proto_text, upgrade_solver_proto_text


@dataclass(frozen=True)
class Tool:
    """A tool: its function, what it does, its arguments as the usage has them, an example, and its flags
    {name: (default, text)}."""

    run: Callable[..., None]
    what: str
    arguments: str
    example: str
    flags: dict[str, tuple[object, str]] = field(default_factory=dict)

    def counts(self) -> tuple[int, int]:
        """The least and the largest number of arguments."""
        given = list(inspect.signature(self.run).parameters.values())[1:]
        return sum(one.default is one.empty for one in given), len(given)


BACKEND = ("lmdb", "the kind of database: lmdb")
TOOLS = {
    tool.run.__name__: tool
    for tool in (
        Tool(
            convert_imageset, "images and their labels into a database", "ROOTFOLDER/ LISTFILE DB_NAME",
            "caffe-tools convert_imageset -shuffle -resize_height=256 -resize_width=256 images/ train.txt train_lmdb",
            {
                "gray": (False, "read images as grey ones"),
                "shuffle": (False, "shuffle the list"),
                "seed": (0, "of the shuffling (ours: the original's is another every time)"),
                "backend": BACKEND,
                "resize_width": (0, "width that images get"),
                "resize_height": (0, "height that images get"),
                "check_size": (False, "refuse images of other sizes than the first"),
                "encoded": (False, "keep images as files, in the format of encode_type or their own"),
                "encode_type": ("", "the format that images are kept in (png, jpg, ...)"),
            },
        ),
        Tool(
            compute_image_mean, "the mean of the images of a database", "INPUT_DB [OUTPUT_FILE]",
            "caffe-tools compute_image_mean train_lmdb mean.binaryproto", {"backend": BACKEND},
        ),
        Tool(
            extract_features, "blobs of a net, for the data that it reads, into databases",
            "WEIGHTS PROTOTXT BLOB[,BLOB...] DB_NAME[,DB_NAME...] NUM_MINI_BATCHES DB_TYPE [CPU|GPU] [DEVICE_ID]",
            "caffe-tools extract_features X.caffemodel features.prototxt fc7 features_lmdb 10 lmdb GPU 0",
        ),
        Tool(
            upgrade_net_proto_text, "a prototxt of before in today's form", "V0_OR_V1_PROTOTXT_IN PROTOTXT_OUT",
            "caffe-tools upgrade_net_proto_text old.prototxt new.prototxt",
        ),
        Tool(
            upgrade_net_proto_binary, "a caffemodel of before in today's form", "V0_OR_V1_CAFFEMODEL_IN CAFFEMODEL_OUT",
            "caffe-tools upgrade_net_proto_binary old.caffemodel new.caffemodel",
        ),
        Tool(
            upgrade_solver_proto_text, "a solver's prototxt of before in today's form", "OLD_SOLVER_IN SOLVER_OUT",
            "caffe-tools upgrade_solver_proto_text old_solver.prototxt solver.prototxt",
        ),
        Tool(
            parse_log, "what a log of training says, as two tables", "LOGFILE OUTPUT_DIR",
            "caffe-tools parse_log train.log .",
            {"verbose": (False, "say what is written"), "delimiter": (",", "between columns")},
        ),
        Tool(
            resize_and_crop_images, "images as squares of one size", "",
            "caffe-tools resize_and_crop_images -input_folder=images -input_file_list=list.txt -output_folder=small",
            {
                "output_side_length": (256, "height and width of the results"),
                "input_folder": (".", "folder of the images"),
                "input_file_list": ("", "list of their names, one a line"),
                "output_folder": (".", "folder of the results, which get the same names"),
            },
        ),
    )
}  # fmt: skip


def make_parser(name: str) -> argparse.ArgumentParser:
    """The flags and arguments of a tool."""
    tool = TOOLS[name]
    parser = Parser(
        prog=f"caffe-tools {name}", usage=f"caffe-tools {name} [FLAGS] {tool.arguments}".rstrip(), add_help=False,
        allow_abbrev=False, description=inspect.getdoc(tool.run), epilog=f"example: {tool.example}",
    )  # fmt: skip
    for flag, (default, text) in tool.flags.items():
        more = f"{text} (default: {default})" if default not in (False, "") else text
        names = (f"-{flag}", f"--{flag}")
        if default is False:
            parser.add_argument(*names, action="store_true", help=more)
        else:
            parser.add_argument(*names, default=default, type=type(default), metavar="V", help=more)
    parser.add_argument("-help", "--help", action="help", help="show this and stop")
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    return parser


def plain_switches(arguments: Sequence[str], tool: Tool) -> list[str]:
    """The arguments with `-flag=true` and `-flag=false` of gflags as `-flag` and nothing."""
    switches = {flag for flag, (default, _) in tool.flags.items() if default is False}
    kept = []
    for argument in arguments:
        flag, _, value = argument.lstrip("-").partition("=")
        if not (argument.startswith("-") and flag in switches and value in ("false", "0", "f", "no", "n")):
            kept.append(f"-{flag}" if flag in switches and value in ("true", "1", "t", "yes", "y") else argument)
    return kept


def main(argv: Sequence[str] | None = None) -> int:
    """Run one tool; returns the exit status (0 done, 1 called wrongly, 134 fatal, as `caffe` has them)."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or [""]
    if name not in TOOLS:
        asked = name in ("-help", "--help", "-h")
        rows = (f"  {name:27}{tool.what}" for name, tool in TOOLS.items())
        text = "\n".join(
            ["usage: caffe-tools TOOL [FLAGS] ARGUMENTS", "", *rows, "", "caffe-tools TOOL --help says more."]
        )
        print(
            text if asked or not name else f"{text}\nERROR: unknown tool {name}",
            file=sys.stdout if asked else sys.stderr,
        )
        return int(not asked)
    flags = make_parser(name).parse_intermixed_args(plain_switches(rest, TOOLS[name]))
    least, most = TOOLS[name].counts()
    if not least <= len(flags.arguments) <= most:
        make_parser(name).print_help(sys.stderr)
        return 1

    def work() -> int:
        TOOLS[name].run(flags, *flags.arguments)
        return 0

    return ended(work)
