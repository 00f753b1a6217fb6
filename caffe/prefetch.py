"""What is computed ahead of its time: a batch is read while the net works on the one before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Ahead:
    """function(*arguments) running in a thread; result() waits for it and raises what it raised."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.thread = threading.Thread(target=self._run, args=(function, *arguments), daemon=True)
        self.value = self.error = None
        self.thread.start()

    def _run(self, function, *arguments):
        try:
            self.value = function(*arguments)
        except Exception as error:  # handed to the thread that waits
            self.error = error

    def result(self) -> Any:
        """What the function returned."""
        self.thread.join()
        if self.error is not None:
            raise self.error
        return self.value
