"""Files of before in today's form: upgrade_net_proto_text, upgrade_net_proto_binary, upgrade_solver_proto_text."""

from __future__ import annotations

import argparse

from google.protobuf import text_format

from caffe import glog
from caffe_proto import read_net, read_solver, write_file, write_message
from caffe_proto.files import read_binary_net


def upgrade_net_proto_text(flags: argparse.Namespace, source: str, target: str) -> None:
    """Write a prototxt in today's form."""
    write_file(target, text_format.MessageToString(read_net(source)))
    glog.info(f"Wrote upgraded NetParameter text proto to {target}")


def upgrade_net_proto_binary(flags: argparse.Namespace, source: str, target: str) -> None:
    """Write a caffemodel in today's form."""
    write_message(target, read_binary_net(source))
    glog.info(f"Wrote upgraded NetParameter binary proto to {target}")


def upgrade_solver_proto_text(flags: argparse.Namespace, source: str, target: str) -> None:
    """Write a solver's prototxt in today's form."""
    write_file(target, text_format.MessageToString(read_solver(source)))
    glog.info(f"Wrote upgraded SolverParameter text proto to {target}")
