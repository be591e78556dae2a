"""Runs the hook `_on_queue_feeder_error`, which subclasses of `Queue` may override, in a thread of its own.

In the stdlib a thread pickles what was put, and calls the hook when that fails. Here `put` pickles. An
overridden hook may rely on another thread calling it: the caller of `put` may hold a lock that the hook
needs. So a queue with such a hook has a thread from its first `put` on. The thread refers to the queue only
while the hook runs. An object put after a failure is queued after the hook has run, unless the hook takes
longer than `HOOK_TIMEOUT`.
"""

from __future__ import annotations

import threading
import traceback
import weakref
from queue import SimpleQueue

from procession import _native

from .._typing import Any
from ..stdlib import util

__all__ = ["FeederErrorThread"]

# How long `put` and `join_thread` wait for the hook, in seconds: it may need a lock that their caller holds.
# `concurrent.futures` before Python 3.14 is such a caller, and on the stdlib it sometimes hangs for that
# reason.
HOOK_TIMEOUT = 1.0


class FeederErrorThread:
    """The thread that calls the error hook of one queue object."""

    def __init__(self, queue: Any) -> None:
        self._owner = _native.proc_id()
        failures: SimpleQueue[tuple[BaseException, object, threading.Event] | None] = SimpleQueue()
        thread = threading.Thread(
            target=_run_hooks, args=(weakref.ref(queue), failures), name="QueueFeederThread", daemon=True
        )
        self._last_done: threading.Event | None = None
        thread.start()
        self._failures, self._thread = failures, thread
        # At exit, or when the queue is collected: after the failures reported before.
        util.Finalize(queue, _stop, (failures, thread), exitpriority=-5)

    def belongs_here(self) -> bool:
        """Return False in a forked child, which has no such thread."""
        return self._owner == _native.proc_id()

    def report(self, error: BaseException, obj: object) -> None:
        """Have the thread call the hook for an object that could not be pickled."""
        self._last_done = threading.Event()
        self._failures.put((error, obj, self._last_done))

    def wait_for_hooks(self) -> None:
        """Wait until the hook has run for everything reported, for at most `HOOK_TIMEOUT`."""
        done, self._last_done = self._last_done, None
        if done is not None and threading.current_thread() is not self._thread:
            done.wait(HOOK_TIMEOUT)

    def stop(self) -> None:
        """End the thread once the hook has run for everything reported; wait for at most `HOOK_TIMEOUT`."""
        _stop(self._failures, self._thread, HOOK_TIMEOUT)


def _run_hooks(queue: weakref.ref[Any], failures: SimpleQueue[Any]) -> None:
    while (failure := failures.get()) is not None:
        *what, done = failure
        queue_object = queue()
        try:
            if queue_object is not None:
                queue_object._on_queue_feeder_error(*what)
        except Exception:
            # The thread goes on with the next failure.
            traceback.print_exc()
        finally:
            done.set()
        del failure, what, queue_object


def _stop(failures: SimpleQueue[Any], thread: threading.Thread, timeout: float | None = None) -> None:
    failures.put(None)
    if thread is not threading.current_thread():
        thread.join(timeout)
