"""The threads that submit tasks later: from argument generators, and from large arguments.

A pool has up to two of them. One runs the argument generators of `imap` and `imap_unordered`, which are user
code and may block. The other submits the rest of calls (`map`, `apply_async`, `imap` over a list and so on)
whose arguments would take too much memory at once; it pickles them as workers take tasks.

Sources are drained in the order of the calls, each in a copy of its caller's context. A generator that has to
wait for its consumer, because its `imap` is bounded by `buffersize`, lets the others pass.

A generator that is bound to its thread (`thread_bound.py`) is run by its caller: in `imap` until enough tasks
wait, then whenever a result is taken out, and the rest in `join`.
"""

from __future__ import annotations

import queue
from contextvars import copy_context
from functools import partial

from .. import TYPE_CHECKING
from .._typing import Any, Protocol
from .lazy_thread import LazyThread

__all__ = ["TaskSource", "Feeder"]

# How often a sleeping feeder looks again, in case it missed a wakeup, in seconds.
RECHECK_INTERVAL = 0.5


class TaskSource:
    """The arguments of one job that are not submitted yet: an iterator, or the rest of a sequence."""

    __slots__ = ("buffersize", "chunksize", "context", "function", "index", "items", "job")

    def __init__(
        self, job: Any, function: Any, items: Any, chunksize: int = 1, buffersize: int | None = None
    ) -> None:
        self.job = job
        self.function = function
        self.items = items
        self.chunksize = chunksize
        self.buffersize = buffersize
        self.index = 0
        self.context = copy_context()

    def limit(self) -> int | None:
        """Return the number of the first task that has to wait for the consumer; None for no limit."""
        if self.buffersize is None:
            return None
        return self.job.consumed() + max(1, self.buffersize // self.chunksize)  # type: ignore[no-any-return]


if TYPE_CHECKING:

    class Submitter(Protocol):
        """Where tasks go: the backend of a pool."""

        def feed(self, source: TaskSource) -> tuple[int, bool]: ...

        def wait_for_room(self, timeout: float) -> bool: ...


class Feeder:
    """The sources of a pool and, from the first one on, the thread that drains them."""

    def __init__(self, submitter: Submitter, jobs: Any, on_end: Any, name: str) -> None:
        self._submitter = submitter
        self._jobs = jobs
        self._on_end = on_end
        # In the order of the calls; only the keys count.
        self.sources: dict[TaskSource, None] = {}
        # Sources that their callers drain.
        self._caller_driven: dict[TaskSource, None] = {}
        # Sources that may go on; None means that any may. Not an event: an exception raised by a signal
        # handler within its methods would leave it locked.
        self._wakeups: queue.SimpleQueue[TaskSource | None] = queue.SimpleQueue()
        self._stopped = False
        self._unbounded = False
        self._thread = LazyThread(name, self._run)

    def add(self, result: Any, source: TaskSource) -> None:
        """Open the job of a result, unless it is open, and drain one more generator for it."""
        self._thread.start()
        if source.buffersize is not None:
            result._source = source
        # In one step, so that no exception of a signal handler leaves an open job behind that has no source.
        wake = partial(self._wakeups.put, source)
        result._handle.begin(result, result._backend.cache, self.sources.setdefault, [source], wake)

    def resume(self, source: TaskSource) -> None:
        """Drain the rest of the arguments of an open job."""
        self._thread.start()
        self.sources[source] = None
        self._wakeups.put(source)

    def add_caller_driven(self, result: Any, source: TaskSource) -> None:
        """Like `add`, but the current thread and the threads that take results out drain the generator."""
        result._handle.begin(result, result._backend.cache, self._caller_driven.setdefault, [source])
        result._source = source
        self.result_taken(source)

    def result_taken(self, source: TaskSource) -> None:
        """A result of the source was taken out: the source may go on."""
        if source in self._caller_driven:
            self._step(source, self._caller_driven)
        elif source in self.sources:
            self._wakeups.put(source)

    def __len__(self) -> int:
        """Return how many sources have not ended."""
        return len(self.sources) + len(self._caller_driven)

    def lift_bounds(self) -> None:
        """Drop the bounds of all sources: no thread will consume results any more."""
        self._unbounded = True
        self._wakeups.put(None)
        while self._caller_driven and not self._stopped:
            source = next(iter(self._caller_driven))
            source.buffersize = None
            self.result_taken(source)
            self._submitter.wait_for_room(RECHECK_INTERVAL)

    def stop(self) -> None:
        """Drain nothing more; return at once, also while a generator runs."""
        self._stopped = True
        self._wakeups.put(None)

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread, unless it is the caller, for at most `timeout` seconds."""
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopped:
            self._run_once()
        # Sources keep their arguments alive.
        self.sources.clear()

    def _run_once(self) -> None:
        try:
            # Sources that are left here wait for their consumers.
            source = self._wakeups.get(timeout=RECHECK_INTERVAL if self.sources else None)
        except queue.Empty:
            source = None
        for ready in list(self.sources) if source is None else [source]:
            if ready in self.sources:
                self._drain(ready)

    def _drain(self, source: TaskSource) -> None:
        """Drain a source until it ends or has to wait for its consumer."""
        while not self._stopped:
            if self._unbounded:
                source.buffersize = None
            limit = source.limit()
            if limit is not None and source.index >= limit or self._step(source, self.sources):
                return
            if source.limit() is None or source.index < (source.limit() or 0):
                self._submitter.wait_for_room(RECHECK_INTERVAL)

    def _step(self, source: TaskSource, among: dict[TaskSource, None]) -> bool:
        """Submit the tasks that there is room for; True if the source has ended and is removed."""
        if source.job.ended():
            among.pop(source, None)
            return True
        ended = True
        try:
            source.index, ended = source.context.run(self._submitter.feed, source)
        except BaseException as error:
            self._jobs.set_last_error(source.job, source.index, error)
            source.index += 1
        if ended:
            among.pop(source, None)
            self._jobs.expect(source.job, source.index)
            self._on_end()
        return ended
