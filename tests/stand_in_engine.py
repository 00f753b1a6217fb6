"""A small engine that speaks Caffe's command line and log, and the lists of inputs that it needs."""

import sys

from audiomnist.corpus.splits import OFFICIAL_SPLITS, PARTS, SPLITS_NAME
from audiomnist.runs.networks import NETWORKS

COUNTS = dict(zip(PARTS, (12, 7, 10), strict=True))  # recordings in every list

# Stands in for `caffe`: records its calls and does to files what the real one does, without learning anything.
# ENGINE_FAILS, ENGINE_STOPS: parts of solver paths whose training fails, or ends early at half of its iterations.
# ENGINE_WAITS: trains until SIGINT, then writes a snapshot at half of its iterations, as Caffe does.
# ENGINE_SLEEPS: seconds that a training takes after its first line of progress.
ENGINE = r"""
import os, pathlib, re, signal, sys, time
here = pathlib.Path(__file__).parent
began = time.time()
def record(*words):
    with open(here / "calls", "a") as file:
        file.write("\t".join([os.getcwd(), *words]) + "\n")  # one write: engines run at once
record(*sys.argv[1:])
def log(text):
    print("I0101 00:00:00.000000     1 fake.cpp:1] " + text, file=sys.stderr, flush=True)
flags, words = {}, []
rest = sys.argv[1:]
while rest:
    word = rest.pop(0)
    if not word.startswith("-"):
        words.append(word)
    elif "=" in word:
        name, _, flags[name.lstrip("-")] = word.partition("=")[0], "", word.partition("=")[2]
    else:
        flags[word.lstrip("-")] = rest.pop(0)
if words == ["device_query"]:
    sys.exit(0 if os.environ.get("ENGINE_HAS_GPU") else 1)
if words == ["train"]:
    text = open(flags["solver"]).read()
    prefix = re.search('snapshot_prefix: "(.*)"', text)[1]
    last = int(re.search(r"max_iter: (\d+)", text)[1])
    record("pid", str(os.getpid()))
    if os.environ.get("CAFFE_PROGRESS"):
        pathlib.Path(os.environ["CAFFE_PROGRESS"]).write_text("a line of progress")
    fails, stops = os.environ.get("ENGINE_FAILS", "\t"), os.environ.get("ENGINE_STOPS", "\t")
    if fails in flags["solver"]:
        print("F0101 00:00:00.000000     1 fake.cpp:1] the disk is made of cheese", file=sys.stderr)
        sys.exit(134)
    if stops in flags["solver"] and "snapshot" not in flags:
        last //= 2
    if os.environ.get("ENGINE_WAITS") and "snapshot" not in flags:
        caught = []
        signal.signal(signal.SIGINT, lambda *_: caught.append(1))
        log("Iteration 0, lr = 1")
        while not caught:
            time.sleep(0.05)
        time.sleep(0.5)  # for further signals
        record("interrupted", str(len(caught)))
        last //= 2
    if "ENGINE_SLEEPS" in os.environ:
        log("Iteration 1 (1 iter/s, 0.1s/100 iters), loss = 2")
        time.sleep(float(os.environ["ENGINE_SLEEPS"]))
    pathlib.Path(f"{prefix}_iter_{last}.caffemodel").write_bytes(b"weights")
    pathlib.Path(f"{prefix}_iter_{last}.solverstate").write_bytes(bytes([8, last]))  # SolverState {iter}
    log("Optimization Done.")
    record("trained", str(began), str(time.time()), *sys.argv[2:])
elif words == ["test"]:
    assert os.path.exists(flags["weights"])
    for k in range(int(flags["iterations"])):
        log(f"Batch {k}, accuracy = 0.5")
        log(f"Batch {k}, loss = 9")
    split = int(re.search(r"_(\d+)/test.prototxt", flags["model"])[1])
    log("Loss: 0.25")
    log(f"accuracy = {0.9 + split / 100}")
    log("loss = 0.25 (* 1 = 0.25 loss)")
"""


def make_engine(folder):
    """Write the engine into `folder`, where it also keeps the file of its calls."""
    (folder / "engine.py").write_text(ENGINE)


def command_line(folder):
    """The engine of `folder`, for the environment variable CAFFE."""
    return f"'{sys.executable}' '{folder / 'engine.py'}'"


def calls(folder, action):
    """The engine's calls of one action: [[working directory, action, flags...], ...]."""
    lines = [line.split("\t") for line in (folder / "calls").read_text().splitlines()]
    return [line for line in lines if line[1] == action]


def make_inputs(folder):
    """A preprocessed folder with lists of both networks, all tasks and splits, and none of the recordings in them."""
    folder.mkdir(parents=True)
    (folder / SPLITS_NAME).write_bytes(OFFICIAL_SPLITS.read_bytes())
    for network in NETWORKS.values():
        for task, splits in (("digit", 5), ("gender", 4)):
            for split in range(splits):
                for part, count in COUNTS.items():
                    lines = [f"01/{network.inputs}_{k}_01_0.hdf5\n" for k in range(count)]
                    (folder / f"{network.inputs}_{task}_{split}_{part}.txt").write_text("".join(lines))
