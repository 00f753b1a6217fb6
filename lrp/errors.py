"""The errors that every wrong network, input or choice raises."""

from __future__ import annotations

from caffe_proto import UserError


class LRPError(UserError, ValueError):
    """A network, input, rule or target is not what was asked for."""


class NotFiniteError(LRPError):
    """Item `item` of a batch gives numbers that are NaN or infinite; `what` is the place within the item."""

    def __init__(self, item: int, what: str, expected: str, got: str) -> None:
        super().__init__(f"item {item}: {what}", expected, got)
        self.item, self.what = item, what
