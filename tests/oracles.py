"""Other people's libraries that import what they do not need here."""

from benchmarks.lrp import without_torchvision


def quantus():
    """The module quantus; it imports zennit, and that torchvision, of which nothing is used."""
    without_torchvision()
    import quantus

    return quantus
