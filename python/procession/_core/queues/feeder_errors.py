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

from procession import _engine

from .._typing import Any
from ..stdlib import util

__all__ = ["FeederErrorThread"]

# How long `put` and `join_thread` wait for the hook, in seconds: it may want a lock that their caller holds.
# `concurrent.futures` is such a caller before Python 3.14, and hangs by that with the stdlib, if rarely.
HOOK_TIMEOUT = 1.0


class FeederErrorThread:
    """The thread that tells one queue object of what could not be put."""

    def __init__(self, queue: Any) -> None:
        self._owner = _engine.me()
        failures: SimpleQueue[tuple[BaseException, object, threading.Event] | None] = SimpleQueue()
        thread = threading.Thread(
            target=_run_hooks, args=(weakref.ref(queue), failures), name="QueueFeederThread", daemon=True
        )
        self._last_done: threading.Event | None = None
        thread.start()
        self._failures, self._thread = failures, thread
        # At exit, or when the queue is gone: after what was put before.
        util.Finalize(queue, _stop, (failures, thread), exitpriority=-5)

    def belongs_here(self) -> bool:
        """False in a child of the process that the thread belongs to."""
        return self._owner == _engine.me()

    def report(self, error: BaseException, obj: object) -> None:
        """Have the hook called."""
        self._last_done = threading.Event()
        self._failures.put((error, obj, self._last_done))

    def wait_for_hooks(self) -> None:
        """Wait until the hook was called for everything reported."""
        done, self._last_done = self._last_done, None
        if done is not None and threading.current_thread() is not self._thread:
            done.wait(HOOK_TIMEOUT)

    def stop(self) -> None:
        """End the thread once the hook was called for everything reported, and wait for that."""
        _stop(self._failures, self._thread, HOOK_TIMEOUT)


def _run_hooks(queue: weakref.ref[Any], failures: SimpleQueue[Any]) -> None:
    while (failure := failures.get()) is not None:
        *what, done = failure
        queue_object = queue()
        try:
            if queue_object is not None:
                queue_object._on_queue_feeder_error(*what)
        except Exception:
            # The next failure is reported all the same.
            traceback.print_exc()
        finally:
            done.set()
        del failure, what, queue_object


def _stop(failures: SimpleQueue[Any], thread: threading.Thread, timeout: float | None = None) -> None:
    failures.put(None)
    if thread is not threading.current_thread():
        thread.join(timeout)
