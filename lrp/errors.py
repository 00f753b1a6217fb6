"""The error that every wrong network, input or choice raises."""


class LRPError(ValueError):
    """A network, input, rule or target is not what was asked for.

    The message is one sentence: where, what was found, what was wanted.
    """
