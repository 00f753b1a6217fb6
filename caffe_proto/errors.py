"""What a user can mend: one family of errors, each one sentence."""

from __future__ import annotations

import copyreg
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

Kind = TypeVar("Kind", bound="UserError")


def sentence(place: object, expected: object, got: object) -> str:
    """The one grammar of messages, "place: expected Y, got X"; an empty place, which a caller adds, is left out."""
    return f"{place}: expected {expected}, got {got}" if str(place) else f"expected {expected}, got {got}"


def printable(text: str, others: str = "\n\t") -> str:
    """`text` without what a terminal would obey, but for `others`: names of files and layers come from anybody."""
    return "".join(c if c.isprintable() or c in others else ascii(c)[1:-1] for c in text)


class UserError(Exception):
    """Something that the user can mend; `str` of it is one sentence.

    UserError(place, expected, got) composes "place: expected Y, got X" (see `sentence`); UserError(text) takes a
    sentence that has no such parts. `place`, `expected` and `got` are texts. A command turns it into a line on stderr
    and an exit status (`audiomnist.door`, `caffe.cli`); whatever else leaves a command is a fault of ours.
    `exit_status` is what the command ends with.
    """

    exit_status = 1

    def __init__(self, place: object, expected: object = "", got: object = ""):
        self.place, self.expected, self.got = map(str, (place, expected, got))
        super().__init__(sentence(place, expected, got) if self.expected else self.place)

    @classmethod
    def at(cls: type[Kind], place: object, error: UserError) -> Kind:
        """An error of this kind with what `error` says, and `place` before its place."""
        return cls(": ".join(filter(None, (str(place), error.place))), error.expected, error.got)

    @classmethod
    @contextmanager
    def of_files(cls, place: object = "") -> Iterator[None]:
        """Context in which a CaffeFileError becomes an error of this kind, with `place` before its place."""
        try:
            yield
        except CaffeFileError as error:
            raise cls.at(place, error) from None

    def __reduce__(self) -> tuple:
        """Pickled without a call of `__init__`, whose arguments subclasses change: worker processes raise them too."""
        return copyreg.__newobj__, (type(self),), {**self.__dict__, "args": self.args}


class CaffeFileError(UserError, RuntimeError):
    """A prototxt, caffemodel, solverstate or binaryproto file is missing, broken or not what was asked for.

    It derives from RuntimeError because that is what pycaffe raises for a file that it cannot open.
    """
