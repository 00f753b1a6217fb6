"""Signals on the way to engines."""

import os
import signal
import threading

import pytest

from audiomnist.runs.engine import Engine, interrupt_on_sigterm


@pytest.fixture
def sigterm():
    """SIGTERM's handler is afterwards what it was."""
    before = signal.getsignal(signal.SIGTERM)
    yield before
    signal.signal(signal.SIGTERM, before)


def test_sigterm_is_an_interrupt_like_ctrl_c(sigterm):
    interrupt_on_sigterm()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 5)  # the handler runs before this has waited


def test_a_thread_leaves_sigterm_alone(sigterm):
    """Python refuses handlers outside the main thread: the call must neither fail nor change anything."""
    failed = []

    def call():
        try:
            interrupt_on_sigterm()
        except ValueError as error:
            failed.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert not failed and signal.getsignal(signal.SIGTERM) is sigterm


def test_a_program_that_is_gone_has_no_gpu(tmp_path):
    program = tmp_path / "caffe"
    for text, found in (("#!/bin/sh\nexit 0\n", True), ("#!/bin/sh\nexit 1\n", False)):
        program.write_text(text)
        program.chmod(0o755)
        assert Engine((str(program),), "", {}).has_gpu(tmp_path) is found
    program.unlink()
    assert Engine((str(program),), "", {}).has_gpu(tmp_path) is False
