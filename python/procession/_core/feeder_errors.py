"""The hook that subclasses of `Queue` overrule, `_on_queue_feeder_error`, on a thread of its own.

With the stdlib, a thread pickles what was put, and calls the hook when it can't. Here `put` pickles, and
whoever overrules the hook may rely on being called from another thread: the caller of `put` may hold a lock
that the hook wants. So a queue with such a hook has a thread, from its first `put` on. It holds on to the
queue only while the hook runs. What is put after a failure comes after the hook, unless that takes long.
"""

from __future__ import annotations

import threading
import traceback
import weakref
from queue import SimpleQueue

from procession import _native

from .hints import Any
from .stdlib import util

__all__ = ["Herald"]

# How long `put` and `join_thread` wait for the hook, in seconds: it may want a lock that their caller holds.
# `concurrent.futures` is such a caller before Python 3.14, and hangs by that with the stdlib, if rarely.
PATIENCE = 1.0


class Herald:
    """The thread that tells one queue object of what could not be put."""

    def __init__(self, queue: Any) -> None:
        self._owner = _native.proc_id()
        failures: SimpleQueue[tuple[BaseException, object, threading.Event] | None] = SimpleQueue()
        thread = threading.Thread(
            target=_tell, args=(weakref.ref(queue), failures), name="QueueFeederThread", daemon=True
        )
        self._last_told: threading.Event | None = None
        thread.start()
        self._failures, self._thread = failures, thread
        # At exit, or when the queue is gone: after what was put before.
        util.Finalize(queue, _dismiss, (failures, thread), exitpriority=-5)

    def is_at_work(self) -> bool:
        """False in a child of the process that the thread belongs to."""
        return self._owner == _native.proc_id()

    def announce(self, error: BaseException, obj: object) -> None:
        """Have the hook called."""
        self._last_told = threading.Event()
        self._failures.put((error, obj, self._last_told))

    def catch_up(self) -> None:
        """Wait until the hook was called for everything announced."""
        told, self._last_told = self._last_told, None
        if told is not None and threading.current_thread() is not self._thread:
            told.wait(PATIENCE)

    def dismiss(self) -> None:
        """End the thread once the hook was called for everything announced, and wait for that."""
        _dismiss(self._failures, self._thread, PATIENCE)


def _tell(queue: weakref.ref[Any], failures: SimpleQueue[Any]) -> None:
    while (failure := failures.get()) is not None:
        *what, told = failure
        concerned = queue()
        try:
            if concerned is not None:
                concerned._on_queue_feeder_error(*what)
        except Exception:
            # The next failure is announced all the same.
            traceback.print_exc()
        finally:
            told.set()
        del failure, what, concerned


def _dismiss(failures: SimpleQueue[Any], thread: threading.Thread, patience: float | None = None) -> None:
    failures.put(None)
    if thread is not threading.current_thread():
        thread.join(patience)
