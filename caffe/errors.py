"""The error that stops a run: what BVLC Caffe reports with a fatal log line."""

from __future__ import annotations

from caffe_proto import UserError


class CaffeError(UserError, RuntimeError):
    """A net, solver or command cannot go on; the message is one sentence, `place: expected Y, got X`."""


def check(condition: object, message: str) -> None:
    """Raise CaffeError(message) unless `condition` holds."""
    if not condition:
        raise CaffeError(message)
