"""The private attributes of the stdlib's queues that programs use, with the meaning they have there.

In the stdlib, `put` appends the object to a buffer, a thread writes the buffer to a pipe under a lock, and a
semaphore counts the free places. Here a message is in the queue when `put` returns, so the buffer is always
empty and there is no thread. The locks guard nothing: messages are whole without them. Each attribute is made
when it is first read. The locks travel with a queue that is sent to another process afterwards.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections import deque

from .. import TYPE_CHECKING
from .._typing import Any

if TYPE_CHECKING:
    from ..._native import Queue

__all__ = ["JoinableQueueAttributes", "QueueAttributes", "SharedLocks"]


class SharedLocks:
    """The two locks of a stdlib queue, for its readers and for its writers."""

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
        """Return the locks that were made, which are pickled with the queue; None if there are none."""
        made = vars(self)
        found: dict[str, Any] = {name: made[name] for name in ("_rlock", "_wlock") if name in made}
        return found or None


class QueueAttributes(SharedLocks):
    """The attributes of the stdlib's `Queue` that this package's queue does not need."""

    _thread: Any = None
    _jointhread: Any = None
    _close: Any = None
    _joincancelled = False

    # Stored in the object once made, so that subclasses may replace them.
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
    """Like `QueueAttributes`, for `JoinableQueue`."""

    @functools.cached_property
    def _unfinished_tasks(self) -> UnfinishedTasks:
        return UnfinishedTasks(self)

    @functools.cached_property
    def _cond(self) -> AllDone:
        return AllDone(self)


class _QueuePart:
    """An object that a queue owns; it refers back to the queue weakly."""

    def __init__(self, queue: Any) -> None:
        self._whole: Any = weakref.ref(queue)

    @property
    def _queue(self) -> Queue[Any]:
        return self._whole()  # type: ignore[no-any-return]


class _Counted(_QueuePart):
    """A number with the methods of a semaphore."""

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
    """How many messages there is room for; `put` counts its message itself."""

    def _get_value(self) -> int:
        return max(0, self._queue._maxsize - self._queue.qsize())

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Wait until there is room, up to `timeout` seconds; return whether there is. Reserves no place."""
        return self._queue._wait_for_room(timeout if block else 0.0)

    def release(self) -> None:
        """Do nothing: `get` frees the place."""

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class UnfinishedTasks(_Counted):
    """How many messages are not reported as done."""

    def _get_value(self) -> int:
        return self._queue._unfinished()

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Report one message as done; False if none is left."""
        try:
            self._queue._task_done()
        except ValueError:
            return False
        return True

    def release(self) -> None:
        """Do nothing: `put` counts its message itself."""


class AllDone(_QueuePart):
    """The condition that all messages are reported as done."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all messages are done, up to `timeout` seconds; return whether they are."""
        return self._queue._join(timeout) is not None

    def wait_for(self, predicate: Any, timeout: float | None = None) -> Any:
        """Wait unless the predicate is true; return its last result."""
        result = predicate()
        if not result:
            self.wait(timeout)
            result = predicate()
        return result

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Return True; this guards nothing."""
        return True

    def release(self) -> None:
        """Do nothing."""

    notify = notify_all = release

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *exc_info: object) -> None:
        pass
