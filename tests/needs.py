"""What some tests need and not every machine has. They are skipped where it is missing, or fail if it must be there.

FAIL_WITHOUT=cuda,bvlc tests/run.sh      a machine that has a GPU and the original Caffe, or else a red run
"""

import os

import pytest

KNOWN = ("bvlc", "cuda", "chromium", "graphviz", "fsdd", "root", "git", "strace")


def must_be_there():
    """The names in FAIL_WITHOUT; an unknown one would guard nothing, and is an error."""
    names = [name for name in os.environ.get("FAIL_WITHOUT", "").split(",") if name]
    unknown = [name for name in names if name not in KNOWN]
    if unknown:
        raise pytest.UsageError(f"FAIL_WITHOUT: expected some of {', '.join(KNOWN)}, got {', '.join(unknown)}")
    return names


def need(name, there, reason):
    """Go on if `there`; otherwise skip the test with `reason`, or fail it if FAIL_WITHOUT names what it needs."""
    assert name in KNOWN, name
    if there:
        return
    if name in must_be_there():
        pytest.fail(f"FAIL_WITHOUT={name}: {reason}", pytrace=False)
    pytest.skip(reason)
