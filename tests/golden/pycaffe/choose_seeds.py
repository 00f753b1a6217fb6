"""Prints, per classic net, the first seed whose gradients do not depend on the rounding of its ReLU and max decisions.

Run with this project's engine, from the repository root:

    GLOG_minloglevel=2 python tests/golden/pycaffe/choose_seeds.py [NET...]

The input is changed by NOISE (many times the rounding of float32) in DRAWS ways. A smooth function answers with a
change of that size; a decision that flips changes gradients by a thousand times more.
"""

import os
import sys
import tempfile

import numpy as np

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
sys.path[:0] = [ROOT, os.path.join(ROOT, "tests")]

NOISE = 2e-6
DRAWS = 6
LIMIT = 3e-5  # relative change of any gradient; the comparisons ask for 1e-4
SEEDS = range(100)


def change(name, seed, folder):
    """Largest relative change of any gradient of net `name` over the changed inputs."""
    import classic_nets

    exact = classic_nets.training_pass(name, folder, seed)
    largest = 0
    for factor in np.linspace(1, 2, DRAWS):
        noisy = classic_nets.training_pass(name, folder, seed, NOISE * factor)
        for key, array in exact.items():
            if key.startswith("diff") and array.any():
                largest = max(largest, np.linalg.norm(noisy[key] - array) / np.linalg.norm(array))
        if largest > LIMIT:
            break
    return largest


def main():
    import classic_nets

    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or classic_nets.NETS:
            for seed in SEEDS:
                largest = change(name, seed, folder)
                print(f"{name} seed {seed}: {largest:.1e}", file=sys.stderr)
                if largest <= LIMIT:
                    print(f'"{name}": {seed},', flush=True)
                    break


if __name__ == "__main__":
    main()
