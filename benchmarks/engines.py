"""Speed and memory of the project's engine beside the original BVLC Caffe 1.0, on the paper's networks.

    python -m benchmarks.engines [--iterations N] [--rounds N] [--original COMMAND]

Both engines run `caffe time` (forward + backward, batch 100, TRAIN phase, constant data made by the net itself) in
alternation, so that a change of the machine's load meets both; a call's figure is its median iteration after the first.
Peak memory is the largest resident set of a `caffe train` of two iterations. Prints one table; the ratio is the figure
to quote. Close other programs first.
"""

import argparse
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import text_format

from audiomnist.corpus.splits import load_splits
from audiomnist.runs.networks import NETWORKS
from audiomnist.runs.render import render
from audiomnist.runs.run_folder import RunName
from caffe_proto import caffe_pb2

ROOT = Path(__file__).resolve().parent.parent
BATCH = 100
ITERATION = re.compile(r"forward-backward time: ([\d.]+) ms")


def benchmark_net(network):
    """The paper's training net of `network` as a NetParameter, its data layers replaced by one DummyData layer."""
    counts = {"validate": BATCH, "test": BATCH}
    texts = render(RunName(network, "digit", 0), load_splits(ROOT / "data" / "splits.json"), counts, Path("run"))
    net = text_format.Parse(texts["train.prototxt"], caffe_pb2.NetParameter())
    layers = [layer for layer in net.layer if layer.type not in ("HDF5Data", "Slice", "Silence", "Accuracy")]
    del net.layer[:]
    data = net.layer.add(name="data", type="DummyData", top=["data", "label"])
    for shape, value in (((BATCH, *NETWORKS[network].input_shape), 0.5), ((BATCH, 1), 3)):
        data.dummy_data_param.shape.add(dim=shape)
        data.dummy_data_param.data_filler.add(type="constant", value=value)
    for layer in layers:
        if layer.type == "SoftmaxWithLoss":
            layer.bottom[1] = "label"
        net.layer.append(layer)
    return net


def run(command, folder):
    """(stderr text, peak resident megabytes of the command's processes) of one engine call."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stderr=log, stdout=subprocess.DEVNULL, cwd=folder, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        log.seek(0)
        text = log.read()
    if status:
        raise SystemExit(f"{shlex.join(map(str, command))}: exit status {status}; {text.splitlines()[-1:]}")
    return text, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=4, help="iterations of each call (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="calls of each engine (default: %(default)s)")
    parser.add_argument(
        "--original",
        default=f"{shlex.quote(str(ROOT / 'tests' / 'bvlc.sh'))} caffe",
        help="command of the original engine (default: %(default)s)",
    )
    arguments = parser.parse_args()
    engines = {"original": shlex.split(arguments.original), "ours": [sys.executable, "-m", "caffe"]}
    print(f"{'network':10} {'engine':10} {'ms/iteration':>13} {'times faster':>13} {'peak MB':>9}")
    for network in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "net.prototxt").write_text(text_format.MessageToString(benchmark_net(network)))
            Path(folder, "solver.prototxt").write_text(
                'net: "net.prototxt" base_lr: 0.0001 lr_policy: "fixed" momentum: 0.9 max_iter: 2 '
                "snapshot_after_train: false solver_mode: CPU\n"
            )
            times = {name: [] for name in engines}
            for _ in range(arguments.rounds):
                for name, engine in engines.items():
                    command = [*engine, "time", "-model=net.prototxt", f"-iterations={arguments.iterations}"]
                    text, _ = run(command, folder)
                    rounds = [float(ms) for ms in ITERATION.findall(text)]
                    times[name].append(statistics.median(rounds[1:] or rounds))
            for name, engine in engines.items():
                _, peak = run([*engine, "train", "-solver=solver.prototxt"], folder)
                ratio = min(times["original"]) / min(times[name])
                print(f"{network:10} {name:10} {min(times[name]):13.0f} {ratio:13.2f} {peak:9.0f}", flush=True)


if __name__ == "__main__":
    main()
