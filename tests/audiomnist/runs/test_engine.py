"""Signals on the way to engines."""

import os
import signal
import threading

import pytest

from audiomnist.runs.engine import interrupt_on_sigterm


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
