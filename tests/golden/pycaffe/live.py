"""Writes FOLDER/<net>.npz: every array of one training pass of each classic net, whole, under the original.

Run in the original's Python:  tests/bvlc.sh python3 tests/golden/pycaffe/live.py FOLDER NET...
"""

import os
import sys

import numpy as np

if __name__ == "__main__":  # not where a test imports this file
    os.environ["GLOG_minloglevel"] = "2"  # noqa: SIM112 (glog spells it so)
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))


def main():
    import classic_nets

    folder, *names = sys.argv[1:]
    for name in names:
        np.savez(os.path.join(folder, name + ".npz"), **classic_nets.training_pass(name, folder))


if __name__ == "__main__":
    main()
