"""Runs pytest again and again for benchmarks/mutation.py, each time in a fork: libraries are imported once for all.

A line of JSON on stdin is a job: {"arguments": those of pytest, "limit": s, "log": a file, "variables": of the
environment}; a line on stdout answers it: {"status": pytest's, or null after the limit, "seconds": s}. Whatever the
tests started ends with them. Nothing of the project is imported here: it is what changes. It is started in the tree.
"""

import contextlib
import json
import os
import select
import signal
import sys
import tempfile
import time

import h5py  # noqa: F401
import librosa
import matplotlib.pyplot  # noqa: F401
import pandas  # noqa: F401
import pytest
import scipy.fft  # noqa: F401
import scipy.signal  # noqa: F401
import scipy.stats  # noqa: F401
import torch  # noqa: F401
from google.protobuf import text_format  # noqa: F401

for name in ("resample", "amplitude_to_db"):
    getattr(librosa, name)  # imported when it is looked up


def in_fork(job):
    """pytest's run of a job, in a process of its own, which ends with it."""
    os.setsid()
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(job["variables"])
    tempfile.tempdir = None
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in job["variables"]
    sys.argv = ["pytest", *job["arguments"]]
    status = pytest.main(job["arguments"])
    sys.stdout.flush()
    os._exit(status)


def run(job):
    """The job's status, None after its limit, and its seconds."""
    begun = time.monotonic()
    process = os.fork()
    if not process:
        try:
            in_fork(job)
        finally:
            os._exit(70)
    ended = os.pidfd_open(process)
    in_time = bool(select.select([ended], [], [], job["limit"])[0])
    os.close(ended)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return status if in_time else None, time.monotonic() - begun


def main():
    for line in sys.stdin:
        status, seconds = run(json.loads(line))
        print(json.dumps({"status": status, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
