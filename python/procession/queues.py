"""Queues between processes.

`Queue` and `JoinableQueue` live in the engine: `put` returns when the message is in shared memory, so there
is no feeder thread, nothing to flush at exit, and an object that cannot be pickled raises where it is put.
`SimpleQueue` is a pipe that several processes write to and read from.
"""

from __future__ import annotations

import functools
import traceback
import types
from queue import Empty as Empty
from queue import Full as Full
from typing import Any

# concurrent.futures finds `multiprocessing.util` because the stdlib's queues import it.
from . import _engine
from . import util as util
from ._core.handing import hand_over
from ._core.queue_ends import QueueReader, QueueWriter
from ._core.stdlib import context
from .connection import Pipe

__all__ = ["Queue", "SimpleQueue", "JoinableQueue"]

# Libraries that subclass the stdlib's queues end their feeder thread with it.
_sentinel = object()


class Queue(_engine.Queue):
    """A queue for many producers and many consumers, unbounded unless `maxsize` is positive."""

    _joinable = False

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        _engine.Queue.__init__(self, maxsize, joinable=self._joinable)
        self._ignore_epipe = False

    def __getstate__(self) -> tuple[Any, ...]:
        hand_over(self.handle, self)
        return (self._ignore_epipe, self.handle)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._ignore_epipe, handle = state
        self._adopt(handle)

    # Kept by the object once made, so that subclasses may put something else in their place.
    @functools.cached_property
    def _reader(self) -> Any:
        return QueueReader(self.handle)

    @functools.cached_property
    def _writer(self) -> Any:
        return QueueWriter(self.handle)

    def join_thread(self) -> None:
        """Return at once: what was put is in the queue already. The queue must be closed."""
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self) -> None:
        """Do nothing: there is no thread that an exit would wait for."""

    def _terminate_broken(self) -> None:
        self._reader.close()
        self.close()
        self.join_thread()

    def _put_failed(self, error: BaseException, obj: object) -> None:
        """Serialising failed: a subclass may deal with it, or else the error is the caller's."""
        hook = self._on_queue_feeder_error
        if hook is Queue._on_queue_feeder_error or not isinstance(error, Exception):
            raise error
        hook(error, obj)

    @staticmethod
    def _on_queue_feeder_error(e: BaseException, obj: object) -> None:
        """Called, when a subclass overrides it, with an object that could not be serialised."""
        traceback.print_exception(e)

    __class_getitem__: Any = classmethod(types.GenericAlias)


class JoinableQueue(Queue):
    """A queue that knows how many of its messages are not dealt with yet."""

    _joinable = True

    def task_done(self) -> None:
        """Report one message as dealt with."""
        self._task_done()

    def join(self) -> None:
        """Wait until every message that was put is dealt with."""
        self._join()


class SimpleQueue:
    """A queue with nothing but `get`, `put`, `empty` and `close`."""

    def __init__(self, *, ctx: Any = None) -> None:
        self._reader, self._writer = Pipe(duplex=False)
        self._poll = self._reader.poll

    def close(self) -> None:
        """Close both ends in this process."""
        self._reader.close()
        self._writer.close()

    def empty(self) -> bool:
        """Return whether there is nothing to get."""
        return not self._poll()

    def __getstate__(self) -> tuple[Any, ...]:
        context.assert_spawning(self)
        return (self._reader, self._writer)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._reader, self._writer = state
        self._poll = self._reader.poll

    def get(self) -> Any:
        """Take the oldest object out; wait for one."""
        return self._reader.recv()

    def put(self, obj: Any) -> None:
        """Put an object in."""
        self._writer.send(obj)

    __class_getitem__: Any = classmethod(types.GenericAlias)
