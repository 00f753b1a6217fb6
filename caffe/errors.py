"""The error that stops a run: what BVLC Caffe reports with a fatal log line."""

from __future__ import annotations

from caffe_proto import UserError


class CaffeError(UserError, RuntimeError):
    """A net, solver or command cannot go on; the message is one sentence, `place: expected Y, got X`."""


def check(condition: object, place: object, expected: object = "", got: object = "") -> None:
    """Raise CaffeError(place, expected, got) unless `condition` holds.

    What BVLC Caffe says itself comes in its words: as the place, or alone where they say all.
    """
    if not condition:
        raise CaffeError(place, expected, got)
