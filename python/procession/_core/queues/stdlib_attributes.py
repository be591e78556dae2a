"""What programs read of a queue's internals, with the meaning that it has in the standard library.

There, `put` hands the object to a buffer, from which a thread feeds a pipe under a lock, and a semaphore
counts the free places. Here, a message is in the queue when `put` returns: the buffer is always empty, and no
thread was ever started. The locks belong to whoever acquires them: messages are whole without. Each is made
when it is first asked for, and goes along when the queue is given to another process afterwards.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections import deque

from .._typing import Any

__all__ = ["JoinableQueueAttributes", "QueueAttributes", "SharedLocks"]


class SharedLocks:
    """The two locks that a queue of the standard library has for its readers and its writers."""

    def _new_lock(self) -> Any:
        """Return a new lock between processes."""
        raise NotImplementedError

    @functools.cached_property
    def _rlock(self) -> Any:
        return self._new_lock()

    @functools.cached_property
    def _wlock(self) -> Any:
        return self._new_lock()

    def _made_locks(self) -> dict[str, Any] | None:
        """What is pickled with the queue."""
        made = vars(self)
        found: dict[str, Any] = {name: made[name] for name in ("_rlock", "_wlock") if name in made}
        return found or None


class QueueAttributes(SharedLocks):
    """The attributes of the standard library's `Queue` that the one here has no use for."""

    _thread: Any = None
    _jointhread: Any = None
    _close: Any = None
    _joincancelled = False

    # Kept by the object once made, so that subclasses may put something else in their place.
    @functools.cached_property
    def _buffer(self) -> deque[Any]:
        return deque()

    @functools.cached_property
    def _notempty(self) -> threading.Condition:
        return threading.Condition(threading.Lock())

    @functools.cached_property
    def _sem(self) -> FreePlaces:
        return FreePlaces(self)

    @functools.cached_property
    def _send_bytes(self) -> Any:
        queue: Any = self
        return queue._writer.send_bytes

    @functools.cached_property
    def _recv_bytes(self) -> Any:
        queue: Any = self
        return queue._reader.recv_bytes


class JoinableQueueAttributes(QueueAttributes):
    """As `QueueAttributes`, of a `JoinableQueue`."""

    @functools.cached_property
    def _unfinished_tasks(self) -> UnfinishedTasks:
        return UnfinishedTasks(self)

    @functools.cached_property
    def _cond(self) -> AllDone:
        return AllDone(self)


class _QueuePart:
    """A part of a queue, which keeps it: it refers to the queue weakly."""

    def __init__(self, queue: Any) -> None:
        self._whole = weakref.ref(queue)

    @property
    def _queue(self) -> Any:
        return self._whole()


class _Counted(_QueuePart):
    """A number that is read like a semaphore's."""

    @property
    def _semlock(self) -> _Counted:
        return self

    def _get_value(self) -> int:
        raise NotImplementedError

    def get_value(self) -> int:
        """Return the number."""
        return self._get_value()

    def _is_zero(self) -> bool:
        return self._get_value() == 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={self._get_value()})>"


class FreePlaces(_Counted):
    """How many messages there is room for; `put` takes its place itself."""

    def _get_value(self) -> int:
        return max(0, self._queue._maxsize - self._queue.qsize())

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Wait until there is room, or say whether there is; the place is free until something is put."""
        return self._queue._wait_for_room(timeout if block else 0.0)

    def release(self) -> None:
        """Do nothing: a message that is taken out has left its place."""

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class UnfinishedTasks(_Counted):
    """How many messages were not reported as dealt with."""

    def _get_value(self) -> int:
        return self._queue._unfinished()

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Report one as dealt with; False if none is left."""
        try:
            self._queue._task_done()
        except ValueError:
            return False
        return True

    def release(self) -> None:
        """Do nothing: `put` counts its message itself."""


class AllDone(_QueuePart):
    """What is notified when the last message was reported as dealt with."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for that, up to the timeout; return whether it came."""
        return self._queue._join(timeout) is not None

    def wait_for(self, predicate: Any, timeout: float | None = None) -> Any:
        """Wait for that unless the predicate is true; return what it says then."""
        result = predicate()
        if not result:
            self.wait(timeout)
            result = predicate()
        return result

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Return True: nothing is guarded."""
        return True

    def release(self) -> None:
        """Do nothing."""

    notify = notify_all = release

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *exc_info: object) -> None:
        pass
