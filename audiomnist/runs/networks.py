"""The networks that can be trained: every folder of `models/` with a network.json and templates.

network.json says which preprocessed form the network reads (`inputs`), which blob has its class scores (`score`) and,
for the paper's, Table 1's test accuracy in percent by task, [mean, standard deviation over the splits] (`published`).

A template is a prototxt with `${name}` placeholders (string.Template), which `audiomnist.runs.render` fills in:

    train_list validate_list test_list   list files of the preprocessed folder
    validate_batch test_batch            batch sizes that cover their lists exactly
    ignored_by_accuracy ignored_by_loss  what leaves out the rows that fill a padded list's last batch, or nothing
    label                                the label blob of the task, e.g. label_digit
    label_tops slice_points              one label blob for each column, and where the columns are cut apart
    silent_bottoms                       the label blobs that the task does not use
    classes                              number of classes
    net validate_iter snapshot_prefix random_seed   (solver only)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from audiomnist.places import MODELS
from audiomnist.signal import inputs as signal_inputs
from caffe_proto.texts import read_record

DESCRIPTION = "network.json"
ROLES = ("train", "test", "deploy", "solver")


@dataclass(frozen=True)
class Network:
    """A network and where its templates lie.

    `inputs` names the preprocessed form it reads (the first part of the HDF5 and list file names), `score` the blob of
    class scores before the softmax. `published` gives the paper's test accuracy in percent, (mean, standard deviation
    over the splits), by task.
    """

    folder: Path
    inputs: str
    score: str
    published: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one recording."""
        return signal_inputs.NETWORKS[self.inputs].shape[1:]

    def template(self, role: str, demo: bool = False) -> Path:
        """The template for a role, one of ROLES; in the demo its own one where it differs from the paper's."""
        own = self.folder / f"demo_{role}.prototxt"
        return own if demo and own.exists() else self.folder / f"{self.name.lower()}_{role}.prototxt"


def find_networks(folder: Path) -> dict[str, Network]:
    """The networks in the folders of `folder`, by name, in alphabetical order."""
    found = {}
    for path in sorted(folder.glob(f"*/{DESCRIPTION}")):
        description = read_record(path, "the description of a network", inputs=str, score=str)
        published = {task: tuple(values) for task, values in description.pop("published", {}).items()}
        found[path.parent.name] = Network(path.parent, **description, published=published)
    return found


NETWORKS = find_networks(MODELS)
