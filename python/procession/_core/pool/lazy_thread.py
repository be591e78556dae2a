"""A thread that is started when it is first needed, once, wherever an exception of a signal handler comes.

Such an exception may come after a thread was made and before it was started, or after that and before anybody
knew. So what was started last is what is known, and of several that were started one goes to work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["LazyThread"]


class LazyThread:
    """Runs a function in a thread of its own."""

    def __init__(self, name: str, run: Callable[[], None]) -> None:
        self._name = name
        self._run = run
        self._starting = threading.Lock()
        self._claim = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """See to it that it runs."""
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
        """Wait for its end, unless it is the caller or was never needed."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
