"""Makes texts.json, arrays.npz and nets.npz: what the original gives for tests/pycaffe_cases.py and classic_nets.py.

Run it in the original's Python:  tests/bvlc.sh python3 tests/golden/pycaffe/recipe.py FOLDER

FOLDER must hold the test images (images/, made once by this recipe where they are missing). Whole networks are recorded
as digests: the 2-norm of every array and some of its elements, at positions that `sample` gives.
"""

import hashlib
import json
import os
import sys
import tempfile
import types

import numpy as np

if __name__ == "__main__":  # not where a test imports this file
    os.environ["GLOG_minloglevel"] = "2"  # noqa: SIM112 (glog spells it so)
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

SAMPLES = 24  # elements recorded of each array of a whole network


def sample(name, size):
    """Flat positions of the recorded elements of an array: seeded by its name, sorted."""
    seed = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    return np.sort(np.random.RandomState(seed).randint(0, size, min(SAMPLES, size)))


def digest(name, array):
    """[2-norm, elements at sample(...)] of an array, float64."""
    flat = np.ravel(array).astype(np.float64)
    return np.concatenate([[np.linalg.norm(flat)], flat[sample(name, flat.size)]])


def make_images(folder):
    from PIL import Image

    os.makedirs(folder)
    draw = np.random.RandomState(0)
    rgb = draw.randint(0, 256, (20, 24, 3)).astype(np.uint8)
    alpha = draw.randint(0, 256, (20, 24, 1)).astype(np.uint8)
    image = Image.fromarray(rgb)
    image.save(os.path.join(folder, "rgb.png"))
    Image.fromarray(np.concatenate([rgb, alpha], 2)).save(os.path.join(folder, "rgba.png"))
    Image.fromarray(rgb[:, :, 0]).save(os.path.join(folder, "grey.png"))
    Image.fromarray((draw.randint(0, 65536, (20, 24))).astype(np.uint16)).save(os.path.join(folder, "grey16.png"))
    image.convert("P", palette=Image.ADAPTIVE, colors=8).save(os.path.join(folder, "palette.png"))
    image.convert("1").save(os.path.join(folder, "bilevel.png"))
    image.save(os.path.join(folder, "rgb.bmp"))


class FakePydot(types.ModuleType):
    """Enough of pydot to see what is drawn: the original root has no pydot."""

    class Node:
        def __init__(self, name, **attributes):
            self.name, self.attributes = name, attributes

        def get_name(self):
            return self.name

        def get_attributes(self):
            return self.attributes

    class Edge:
        def __init__(self, source, target, **attributes):
            self.source, self.target, self.attributes = source, target, attributes

        def get_source(self):
            return self.source.name

        def get_destination(self):
            return self.target.name

        def get_attributes(self):
            return self.attributes

    class Dot:
        def __init__(self, name, **attributes):
            self.nodes, self.edges = [], []

        def add_node(self, node):
            self.nodes.append(node)

        def add_edge(self, edge):
            self.edges.append(edge)

        def get_nodes(self):
            return self.nodes

        def get_edges(self):
            return self.edges


def spell_as_gray():
    """The original asks for `as_grey`, which the scikit-image beside it spells `as_gray`."""
    import skimage.io

    imread = skimage.io.imread
    skimage.io.imread = lambda name, as_grey: imread(name, as_gray=as_grey)


def main():
    target = os.path.abspath(sys.argv[1])
    images = os.path.join(target, "images")
    if not os.path.isdir(images):
        make_images(images)
    sys.modules["pydot"] = FakePydot("pydot")
    spell_as_gray()
    import classic_nets
    import pycaffe_cases as cases

    specs = {**cases.NET_SPECS, **classic_nets.NETS}
    texts = {
        "net_spec": {name: " ".join(str(net()).split()) for name, net in specs.items() if name != "googlenet"},
        "net_spec_sha256": {name: cases.proto_sha256(net()) for name, net in specs.items()},
        "coord_map": {name: cases.coord_result(case) for name, case in cases.coord_cases().items()},
        "draw": {name: cases.drawn(settings) for name, settings in cases.DRAWINGS.items()},
    }
    with tempfile.TemporaryDirectory() as folder:
        arrays = {f"{k} {name}": a for k, case in cases.IO.items() for name, a in case(images).items()}
        for k, case in cases.ENGINE.items():
            arrays.update((f"{k} {name}", array) for name, array in case(images, folder).items())
        nets = {}
        for name in classic_nets.NETS:
            made = classic_nets.training_pass(name, folder)
            nets.update((f"{name} {key}", digest(key, array)) for key, array in made.items())
    with open(os.path.join(target, "texts.json"), "w") as file:
        json.dump(texts, file, indent=1, sort_keys=True)
        file.write("\n")
    np.savez_compressed(os.path.join(target, "arrays.npz"), **arrays)
    np.savez_compressed(os.path.join(target, "nets.npz"), **nets)


if __name__ == "__main__":
    main()
