"""Recipe of tests/golden/layers: the original's numbers for every case that is not live only.

    python tests/parity/golden.py

writes one file per layer type. Needs the original Caffe (tests/bvlc.sh); about a minute. The files change only when
cases do.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "golden" / "layers"


def pack(arrays):
    """{name: array} as few arrays that compress well: names, shapes, and all numbers in a row."""
    names = sorted(arrays)
    return {
        "names": np.array(names),
        "axes": np.array([arrays[n].ndim for n in names], np.int32),
        "dims": np.array([d for n in names for d in arrays[n].shape], np.int32),
        "values": np.concatenate([arrays[n].ravel() for n in names]).astype(np.float32),
    }


def unpack(path):
    """{name: array} of a file that pack filled."""
    with np.load(path) as file:
        names, axes, dims, values = (file[key] for key in ("names", "axes", "dims", "values"))
    shapes = np.split(dims, np.cumsum(axes)[:-1])
    parts = np.split(values, np.cumsum([shape.prod(dtype=int) for shape in shapes])[:-1])
    return {str(n): part.reshape(shape) for n, part, shape in zip(names, parts, shapes, strict=True)}


def run_original(path, scope, types=()):
    """{"Type/case/blob": array} of the original for the cases of `scope` and `types`; `path` is the file in between."""
    command = [ROOT / "tests" / "bvlc.sh", "python3", ROOT / "tests" / "parity" / "engine.py", path, scope, *types]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]}: exit status {done.returncode}\n{done.stderr[-3000:]}")
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def original_types():
    """The layer types that the original knows."""
    program = "import caffe; print(' '.join(caffe.layer_type_list()))"
    command = [ROOT / "tests" / "bvlc.sh", "python3", "-c", program]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return done.stdout.split()


def main():
    """Write the golden files."""
    with tempfile.TemporaryDirectory() as folder:
        results = run_original(Path(folder) / "results.npz", "golden")
    refused = [name for name in results if name.endswith("/refused")]
    if refused:
        raise SystemExit(f"golden.py: the original refuses {refused}; wanted cases that it runs")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for type in sorted({name.split("/")[0] for name in results}):
        own = {name.partition("/")[2]: value for name, value in results.items() if name.split("/")[0] == type}
        np.savez_compressed(FOLDER / f"{type}.npz", **pack(own))
        print(f"{type}: {len(own)} blobs")
    (FOLDER / "types.txt").write_text("\n".join(original_types()) + "\n")


if __name__ == "__main__":
    sys.exit(main())
