"""extract_features: blobs of a net, computed for the data that the net reads, in databases."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from caffe import glog
from caffe.context import Context, read_environment
from caffe.errors import check
from caffe.net import Net
from caffe.tools.database import TOGETHER, check_backend, new_database
from caffe_proto import caffe_pb2, net_state, read_net


def extract_features(
    flags: argparse.Namespace, weights: str, model: str, blobs: str, databases: str, batches: str, backend: str,
    mode: str = "CPU", device: str = "0",
) -> None:  # fmt: skip
    """Write blobs (names separated by commas) of `batches` forward passes into databases (as many names)."""
    names, targets = blobs.split(","), databases.split(",")
    check(len(names) == len(targets), "databases", f"as many names as blobs, {len(names)}", len(targets))
    check(batches.isdecimal() and int(batches), "num_mini_batches", "a positive number", batches)
    check(device.isdecimal(), "DEVICE_ID", "a number", device)
    check_backend(backend, "db_type")
    context = Context(settings=read_environment())
    if mode == "GPU":
        glog.info(f"Using GPU\nUsing Device_id={device}")
        context.select_gpu(int(device))
        context.use_gpu()
    else:
        glog.info("Using CPU")
    net = Net(net_state(read_net(model), caffe_pb2.TEST), context)
    net.copy_from(weights)
    found = {one.name: one.blob for one in net.named_blobs}
    for name in names:
        check(name in found, f"Unknown feature blob name {name} in the network {model}")
        check(found[name].num_axes <= 4, f"blob '{name}'", "at most 4 axes, which a Datum has", found[name].num_axes)
    glog.info("Extracting Features")
    with ExitStack() as stack:
        puts = [stack.enter_context(new_database(target)) for target in targets]
        counts = [0] * len(names)
        for _ in range(int(batches)):
            net.forward_tensors()
            for i, name in enumerate(names):
                blob = found[name]
                for values in blob.value.cpu().numpy().reshape(blob.num, -1):
                    datum = caffe_pb2.Datum(channels=blob.channels, height=blob.height, width=blob.width)
                    datum.float_data.extend(values.tolist())
                    puts[i](f"{counts[i]:010}", datum)
                    counts[i] += 1
                    if counts[i] % TOGETHER == 0:
                        _say(counts[i], name)
        for count, name in zip(counts, names, strict=True):
            if count % TOGETHER:
                _say(count, name)
    glog.info("Successfully extracted the features!")


def _say(count: int, name: str) -> None:
    glog.info(f"Extracted features of {count} query images for feature blob {name}")
