"""How much memory there is, and the refusal of what would take more, before any of it is asked for."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from caffe_proto.errors import CaffeFileError

CONTROL_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # version 2, version 1


@cache
def memory() -> int:
    """Bytes that this process may have at most: the machine's, or what its limits (ulimit -v, a container) leave."""
    import resource

    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    for path in CONTROL_GROUPS:
        try:
            limits.append(int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
    return min(limits)


def check_memory(size: int, place: object, what: str = "content") -> None:
    """Raise CaffeFileError(place, ...) if `what`, of `size` bytes, is more than this machine's memory."""
    if size > memory():
        raise CaffeFileError(place, f"{what} that fits into {memory():,} bytes of memory", f"{size:,} bytes")
