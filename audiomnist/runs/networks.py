"""The networks that can be trained: one folder of templates and one entry here each.

A template is a prototxt with `${name}` placeholders (string.Template); `models.render` fills them in. Placeholders:

    train_list validate_list test_list   list files of the preprocessed folder
    validate_batch test_batch            batch sizes that cover their lists exactly
    label                                the label blob of the task, e.g. label_digit
    label_tops slice_points              one label blob for each column, and where the columns are cut apart
    silent_bottoms                       the label blobs that the task does not use
    classes                              number of classes
    net validate_iter snapshot_prefix random_seed   (solver only)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audiomnist.places import MODELS

ROLES = ("train", "test", "deploy", "solver")


@dataclass(frozen=True)
class Network:
    """A network and where its templates lie.

    `inputs` names the preprocessed form it reads (the first part of the HDF5 and list file names), `input_shape` is
    (channels, height, width) of one recording in that form, `score` the blob of class scores before the softmax.
    `published` gives the paper's test accuracy in percent, (mean, standard deviation over the splits), by task.
    """

    name: str
    inputs: str
    input_shape: tuple[int, int, int]
    score: str
    published: dict[str, tuple[float, float]]

    @property
    def folder(self) -> Path:
        return MODELS / self.name

    def template(self, role: str, demo: bool = False) -> Path:
        """The template for a role, one of ROLES; in the demo its own one where it differs from the paper's."""
        own = self.folder / f"demo_{role}.prototxt"
        return own if demo and own.exists() else self.folder / f"{self.name.lower()}_{role}.prototxt"


# published: Table 1 of the paper
NETWORKS = {
    network.name: network
    for network in (
        Network(
            name="AlexNet",
            inputs="AlexNet",
            input_shape=(1, 227, 227),
            score="fc8",
            published={"digit": (95.82, 1.49), "gender": (95.87, 2.85)},
        ),
        Network(
            name="AudioNet",
            inputs="AudioNet",
            input_shape=(1, 1, 8000),
            score="fc9",
            published={"digit": (92.53, 2.04), "gender": (91.74, 8.60)},
        ),
    )
}
