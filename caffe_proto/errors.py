"""What a user can mend: one family of errors, each one sentence."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can mend; `str` of it is one sentence.

    UserError(place, expected, got) composes "place: expected Y, got X"; UserError(sentence) takes one that is composed.
    A command turns it into a line on stderr and an exit status (`audiomnist.door`, `caffe.cli`); whatever else leaves
    a command is a fault of ours. `exit_status` is what the command ends with.
    """

    exit_status = 1

    def __init__(self, place: str, expected: str | None = None, got: str | None = None):
        super().__init__(place if expected is None else f"{place}: expected {expected}, got {got}")


class CaffeFileError(UserError, RuntimeError):
    """A prototxt, caffemodel, solverstate or binaryproto file is missing, broken or not what was asked for.

    The message is one sentence: which file and place, what was found, what was wanted. It derives from RuntimeError
    because that is what pycaffe raises for a file that it cannot open.
    """
