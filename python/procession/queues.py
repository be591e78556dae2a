"""Queues between processes.

`Queue` and `JoinableQueue` are engine objects: `put` returns when the message is in shared memory. So there
is no feeder thread and nothing to flush at exit, and an object that cannot be pickled raises in `put`.
`SimpleQueue` is a pipe that several processes write to and read from.
"""

from __future__ import annotations

import functools
import os
import traceback
import types
from queue import Empty as Empty
from queue import Full as Full

# concurrent.futures finds `multiprocessing.util` because the stdlib's queues import it.
from . import _native
from . import util as util
from ._core import TYPE_CHECKING
from ._core._typing import Any, Generic, TypeVar, plain
from ._core.arguments import whole_number
from ._core.errors import WorkerDied
from ._core.queues.ends import QueueReader, QueueWriter
from ._core.queues.feeder_errors import FeederErrorThread
from ._core.queues.stdlib_attributes import JoinableQueueAttributes, QueueAttributes, SharedLocks
from ._core.stdlib import load, reduction
from ._core.stdlib_subclasses import (
    QUEUE_INTERNALS,
    QUEUE_PIPE_METHODS,
    mentions,
    overrides_any,
    use_stdlib_methods,
)
from ._core.transfer.handing import assert_handing, hand_over
from .connection import Pipe

__all__ = ["Queue", "SimpleQueue", "JoinableQueue"]


# Names that libraries which subclass the stdlib's queues read here.
_ForkingPickler = reduction.ForkingPickler
Finalize, register_after_fork, is_exiting = util.Finalize, util.register_after_fork, util.is_exiting
debug, info = util.debug, util.info


def __getattr__(name: str) -> Any:
    # The object that the stdlib's `_finalize_close` puts; the stdlib's module is loaded on demand.
    if name == "_sentinel":
        return load("queues")._sentinel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if TYPE_CHECKING:
    from ._native import Queue as _Messages
else:
    _Messages = plain(_native.Queue)

_T = TypeVar("_T")


class Queue(QueueAttributes, _Messages[_T]):
    """A queue for many producers and many consumers.

    It holds at most `maxsize` messages; 0 or less means as many as memory allows::

        queue = Queue()
        queue.put({"id": 17})
        assert queue.get() == {"id": 17}
    """

    _joinable = False
    # True for subclasses that override the stdlib's internals.
    _uses_stdlib_methods = False
    # In subclasses that override the error hook, after the first put.
    _error_thread: FeederErrorThread | None = None

    def __init_subclass__(cls, **kwds: Any) -> None:
        super().__init_subclass__(**kwds)
        if overrides_any(cls, QUEUE_INTERNALS) or mentions(cls, QUEUE_PIPE_METHODS):
            base, standard = cls._replaced_bases()
            use_stdlib_methods(cls, base, standard)
            if cls.__init__ is standard.__init__:
                # This package's `__init__`, which calls it and replaces the pipe and the locks.
                setattr(cls, "__init__", base.__init__)  # noqa: B010
        elif "_on_queue_feeder_error" in vars(cls) and cls.put is Queue.put and not cls._uses_stdlib_methods:
            setattr(cls, "put", _put_with_error_hook)  # noqa: B010

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        if self._uses_stdlib_methods:
            self._init_from_stdlib(maxsize, ctx)
            return
        _native.Queue.__init__(self, _bound(maxsize) if maxsize != 0 else 0, joinable=self._joinable)
        self._ignore_epipe = False
        self._opid = os.getpid()

    @classmethod
    def _replaced_bases(cls) -> tuple[Any, Any]:
        """Return the class whose methods are replaced, and the stdlib's class that has the replacements."""
        return Queue, load("queues").Queue

    def _init_from_stdlib(self, maxsize: int, ctx: Any) -> None:
        """Initialize as the stdlib's queue, around a pipe of this package."""
        from .synchronize import InheritedLock

        queue: Any = self
        _, standard = self._replaced_bases()
        standard.__init__(queue, maxsize, ctx=ctx)
        queue._reader.close()
        queue._writer.close()
        queue._reader, queue._writer = Pipe(duplex=False)
        # A process killed while it waits for a message holds the read lock, and leaves the pipe unchanged.
        queue._rlock, queue._wlock = InheritedLock(), InheritedLock()
        queue._reset()

    def __getstate__(self) -> tuple[Any, ...]:
        return (self._ignore_epipe, hand_over(self.handle, self), self._opid, self._made_locks())

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._ignore_epipe, handle, self._opid, internals = state
        if internals is not None:
            vars(self).update(internals)
        self._adopt(handle)

    # Stored in the object once made, so that subclasses may replace them.
    @functools.cached_property
    def _reader(self) -> Any:
        return QueueReader(self.handle)

    @functools.cached_property
    def _writer(self) -> Any:
        return QueueWriter(self.handle)

    def join_thread(self) -> None:
        """Wait for an overridden error hook only: messages are in the queue already. It must be closed."""
        assert self._closed, f"Queue {self!r} not closed"
        if self._error_thread is not None and self._error_thread.belongs_here():
            self._error_thread.stop()

    def cancel_join_thread(self) -> None:
        """Do nothing: there is no thread that the exit would wait for."""
        self._joincancelled = True

    def _new_lock(self) -> Any:
        return _new_lock()

    def _terminate_broken(self) -> None:
        self._reader.close()
        self.close()
        self.join_thread()

    def _put_failed(self, error: BaseException, obj: object) -> None:
        """Handle an object that could not be pickled: run an overridden error hook, or raise the error."""
        if self._on_queue_feeder_error is not Queue._on_queue_feeder_error and isinstance(error, Exception):
            self._running_error_thread().report(error, obj)
            return
        try:
            raise error
        finally:
            # The error refers to this frame, which must not refer to it: no reference cycle.
            del error, obj

    def _running_error_thread(self) -> FeederErrorThread:
        if self._error_thread is None or not self._error_thread.belongs_here():
            self._error_thread = FeederErrorThread(self)
        return self._error_thread

    @staticmethod
    def _on_queue_feeder_error(e: BaseException, obj: object) -> None:
        """The error hook: a subclass may override it to get objects that could not be pickled."""
        traceback.print_exception(e)

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(types.GenericAlias)


def _new_lock() -> Any:
    from .synchronize import Lock

    return Lock()


def _bound(maxsize: Any) -> int:
    """Return `maxsize` as an int, or 0, which means unbounded, if it is not positive."""
    try:
        is_bounded = maxsize > 0
    except TypeError:
        is_bounded = True
    return whole_number("maxsize", maxsize) if is_bounded else 0


def _put_with_error_hook(
    self: Queue[Any], obj: Any, block: bool = True, timeout: float | None = None
) -> None:
    """Put an object in; if it cannot be pickled, the overridden error hook is called."""
    self._running_error_thread().wait_for_hooks()
    super(Queue, self).put(obj, block, timeout)


class JoinableQueue(JoinableQueueAttributes, Queue[_T]):
    """A queue that counts the messages which consumers have not reported as done."""

    _joinable = True

    @classmethod
    def _replaced_bases(cls) -> tuple[Any, Any]:
        return JoinableQueue, load("queues").JoinableQueue

    def task_done(self) -> None:
        """Report one message as done. Raises ValueError if all are."""
        self._task_done()

    def join(self) -> None:
        """Wait until every message that was put is reported as done.

        Raises WorkerDied if all the rest were received by processes that are gone. `task_done` may still
        report these, after another process has handled them.
        """
        if lost := self._join():
            raise WorkerDied(
                f"{lost} message{'s'[: lost > 1]} of this queue will never be reported done: "
                "the processes that received them are gone"
            )


class SimpleQueue(SharedLocks, Generic[_T]):
    """A queue that has only `get`, `put`, `empty` and `close`."""

    def __init__(self, *, ctx: Any = None) -> None:
        self._reader, self._writer = Pipe(duplex=False)
        self._poll = self._reader.poll

    def _new_lock(self) -> Any:
        return _new_lock()

    def close(self) -> None:
        """Close both ends in this process."""
        self._reader.close()
        self._writer.close()

    def empty(self) -> bool:
        """Return whether there is nothing to get."""
        return not self._poll()

    def __getstate__(self) -> tuple[Any, ...]:
        assert_handing(self)
        return (self._reader, self._writer, self._made_locks())

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._reader, self._writer, internals = state
        if internals is not None:
            vars(self).update(internals)
        self._poll = self._reader.poll

    def get(self) -> _T:
        """Wait for an object, and take the oldest out."""
        found: _T = self._reader.recv()
        return found

    def put(self, obj: _T) -> None:
        """Put an object in."""
        self._writer.send(obj)

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(types.GenericAlias)
