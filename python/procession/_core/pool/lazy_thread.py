"""A thread that starts when it is first needed, and runs its function once.

A signal handler may raise an exception between any two steps of `start`: after the thread object was made and
before it was started, or after that and before it was stored. So `start` stores only a thread that runs, and
of several started threads only the first to claim the work does it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["LazyThread"]


class LazyThread:
    """Runs a function in a thread of its own, which starts on first use."""

    def __init__(self, name: str, run: Callable[[], None]) -> None:
        self._name = name
        self._run = run
        self._starting = threading.Lock()
        self._claim = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread unless it was started already."""
        if self._thread is not None:
            return
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                thread.start()
                self._thread = thread

    def _work(self) -> None:
        if self._claim.acquire(blocking=False):
            self._run()

    def join(self, timeout: float | None = None) -> None:
        """Wait up to `timeout` seconds for its end; return at once in the thread itself or if unstarted."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
