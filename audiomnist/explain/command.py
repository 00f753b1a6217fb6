"""What the package's commands share: kinds of options, and the classes that recordings are labelled with."""

from __future__ import annotations

import argparse
import os

import numpy as np

from audiomnist.explain.inputs import Recording
from caffe_proto import sentence
from lrp.baselines import METHODS, read_method
from lrp.composites import COMPOSITES
from lrp.errors import LRPError


def how(text: str) -> str:
    """The name of a composite, a composite's file, or a method with or without settings."""
    try:
        if read_method(text) is not None:
            return text
    except LRPError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if text not in COMPOSITES and os.path.splitext(text)[1].lower() not in (".toml", ".json"):
        known = ", ".join([*COMPOSITES, *METHODS])
        raise argparse.ArgumentTypeError(sentence("", f"one of {known}, or a .toml or .json file", repr(text)))
    return text


def labels(recording: Recording, classes: int, column: int | None) -> np.ndarray:
    """(N,) class numbers that a `Recording` is labelled with, for a network of so many classes.

    column: which of its labels; None is 1 (the gender) for two classes, else 0 (the digit). Raises LRPError.
    """
    if recording.label is None:
        raise LRPError(recording.path, "a dataset label", "none")
    label = recording.label.reshape(len(recording.data), -1)
    column = (1 if classes == 2 and label.shape[1] > 1 else 0) if column is None else column
    if not 0 <= column < label.shape[1]:
        raise LRPError(recording.path, f"label column {column}", f"{label.shape[1]} columns")
    label = label[:, column]
    if (wrong := label[~(label == np.floor(label)) | (abs(label) > 2**31)]).size:
        raise LRPError(recording.path, "labels that are numbers of classes", wrong[0])
    return label.astype(np.int64)
