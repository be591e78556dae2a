"""The threads that submit what has no room yet: argument generators, and arguments that are large.

There are up to two of them in a pool. One runs the argument generators of `imap` and `imap_unordered`, which
are the program's own and may block; the other submits what is left of calls (`map`, `apply_async`, `imap`
over a list and so on) whose arguments would take too much memory at once. It has them pickled as workers take
tasks.

Feeds are drained in the order of the calls, each in a copy of its caller's context. A generator that has to
wait for its consumer, because its `imap` is bounded by `buffersize`, lets the others pass.

A generator that belongs to its thread (`thread_bound`) is not run here but by its caller: within `imap` until
there are plenty of tasks, then whenever a result is taken out, and the rest within `join`.
"""

from __future__ import annotations

import queue
from contextvars import copy_context
from functools import partial

from .hints import TYPE_CHECKING, Any, Protocol
from .only_thread import OnlyThread

__all__ = ["Feed", "Feeder"]

# A pause in which something may have been overlooked, in seconds.
NAP = 0.5


class Feed:
    """The arguments of one job, on their way: an iterator over them, or the rest of a sequence."""

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
        """The number of the first task that has to wait for the consumer."""
        if self.buffersize is None:
            return None
        return self.job.consumed() + max(1, self.buffersize // self.chunksize)


if TYPE_CHECKING:

    class Submitter(Protocol):
        """Where tasks go: a board of processes or of threads."""

        def feed(self, feed: Feed) -> tuple[int, bool]: ...

        def wait_for_room(self, timeout: float) -> bool: ...


class Feeder:
    """Feeds of a pool and, from the first one on, their thread."""

    def __init__(self, submitter: Submitter, jobs: Any, on_end: Any, name: str) -> None:
        self._submitter = submitter
        self._jobs = jobs
        self._on_end = on_end
        # In the order of the calls: the keys alone count.
        self.feeds: dict[Feed, None] = {}
        # Those that their callers drain.
        self._lent: dict[Feed, None] = {}
        # Feeds that may go on, and None where any may. Not an event: an exception of a signal handler within
        # its methods would leave it locked.
        self._stirs: queue.SimpleQueue[Feed | None] = queue.SimpleQueue()
        self._stopped = False
        self._unbounded = False
        self._thread = OnlyThread(name, self._run)

    def add(self, result: Any, feed: Feed) -> None:
        """Open the job of a result, if it is not, and drain one more generator for it."""
        self._thread.start()
        if feed.buffersize is not None:
            result._feed = feed
        # In one step, so that no exception of a signal handler leaves an open job behind that has no feed.
        stir = partial(self._stirs.put, feed)
        result._handle.begin(result, result._crew.cache, self.feeds.setdefault, [feed], stir)

    def go_on(self, feed: Feed) -> None:
        """Drain what is left of the arguments of a job that is open."""
        self._thread.start()
        self.feeds[feed] = None
        self._stirs.put(feed)

    def lend(self, result: Any, feed: Feed) -> None:
        """As `add`, but the current thread drains the generator, and whoever takes results out."""
        result._handle.begin(result, result._crew.cache, self._lent.setdefault, [feed])
        result._feed = feed
        self.taken(feed)

    def taken(self, feed: Feed) -> None:
        """A result of the feed's was taken out: it may go on."""
        if feed in self._lent:
            self._step(feed, self._lent)
        elif feed in self.feeds:
            self._stirs.put(feed)

    def __len__(self) -> int:
        """How many feeds have not ended."""
        return len(self.feeds) + len(self._lent)

    def lift_bounds(self) -> None:
        """Nobody will consume any more: bounded feeds go on without."""
        self._unbounded = True
        self._stirs.put(None)
        while self._lent and not self._stopped:
            feed = next(iter(self._lent))
            feed.buffersize = None
            self.taken(feed)
            self._submitter.wait_for_room(NAP)

    def stop(self) -> None:
        """Drain nothing more; returns at once, also while a generator is running."""
        self._stopped = True
        self._stirs.put(None)

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread, unless it is the caller."""
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopped:
            self._look()
        # They keep their arguments.
        self.feeds.clear()

    def _look(self) -> None:
        try:
            # Feeds are there only if they wait for their consumers.
            feed = self._stirs.get(timeout=NAP if self.feeds else None)
        except queue.Empty:
            feed = None
        for stirred in list(self.feeds) if feed is None else [feed]:
            if stirred in self.feeds:
                self._drain(stirred)

    def _drain(self, feed: Feed) -> None:
        """Drain a feed until it ends, or has to wait for its consumer."""
        while not self._stopped:
            if self._unbounded:
                feed.buffersize = None
            limit = feed.limit()
            if limit is not None and feed.index >= limit or self._step(feed, self.feeds):
                return
            if feed.limit() is None or feed.index < (feed.limit() or 0):
                self._submitter.wait_for_room(NAP)

    def _step(self, feed: Feed, among: dict[Feed, None]) -> bool:
        """Submit what there is room for; whether the feed has ended, and is not among the others any more."""
        if feed.job.ended():
            among.pop(feed, None)
            return True
        ended = True
        try:
            feed.index, ended = feed.context.run(self._submitter.feed, feed)
        except BaseException as error:
            self._jobs.set_last_error(feed.job, feed.index, error)
            feed.index += 1
        if ended:
            among.pop(feed, None)
            self._jobs.expect(feed.job, feed.index)
            self._on_end()
        return ended
