"""The thread that runs the argument generators of `imap` and `imap_unordered`.

Generators are drained in the order of the calls, each in a copy of its caller's context. One that has to wait
for its consumer, because its `imap` is bounded by `buffersize`, lets the others pass.

A generator that belongs to its thread (`thread_bound`) is not run here but by its caller: within `imap` until
there are plenty of tasks, then whenever a result is taken out, and the rest within `join`.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextvars import copy_context

from .hints import TYPE_CHECKING, Any, Protocol
from .only_thread import OnlyThread

__all__ = ["Feed", "Feeder"]

# A pause in which something may have been overlooked, in seconds.
NAP = 0.5


class Feed:
    """The arguments of one job, on their way."""

    def __init__(
        self, job: Any, function: Any, items: Iterator[Any], chunksize: int, buffersize: int | None
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
    """The feeds of a pool and, from the first one on, their thread."""

    def __init__(self, submitter: Submitter, ledger: Any, on_end: Any) -> None:
        self._submitter = submitter
        self._ledger = ledger
        self._on_end = on_end
        self._feeds: list[Feed] = []
        # Those that their callers drain.
        self._lent: list[Feed] = []
        # Not an event: an exception of a signal handler within its methods would leave it locked.
        self._stirs: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stopped = False
        self._unbounded = False
        self._thread = OnlyThread("PoolFeeder", self._run)

    def add(self, result: Any, feed: Feed) -> None:
        """Open the job of a result, if it is not, and drain one more generator for it."""
        self._thread.start()
        # In one step, so that no exception of a signal handler leaves an open job behind that has no feed.
        result._handle.begin(result, result._crew.cache, self._feeds.append, [feed])
        self._stirs.put(None)

    def lend(self, result: Any, feed: Feed) -> None:
        """As `add`, but the current thread drains the generator, and whoever takes results out."""
        result._handle.begin(result, result._crew.cache, self._lent.append, [feed])
        result._feed = feed
        self.draw(feed)

    def draw(self, feed: Feed) -> None:
        """Run a generator that was lent until there are plenty of tasks."""
        if feed in self._lent:
            self._step(feed, self._lent)

    def __len__(self) -> int:
        """How many generators have not ended."""
        return len(self._feeds) + len(self._lent)

    def stir(self) -> None:
        """Something was consumed: a bounded feed may go on."""
        self._stirs.put(None)

    def lift_bounds(self) -> None:
        """Nobody will consume any more: bounded feeds go on without."""
        self._unbounded = True
        self._stirs.put(None)
        while self._lent and not self._stopped:
            self._lent[0].buffersize = None
            self.draw(self._lent[0])
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
            self._await_stir(0.0)
            held = [feed for feed in list(self._feeds) if not self._drain(feed)]
            if len(self._feeds) == len(held):
                self._await_stir(NAP if held else None)

    def _await_stir(self, timeout: float | None) -> None:
        """Wait for a stir, and take all that came for one."""
        try:
            self._stirs.get(timeout=timeout)
            while True:
                self._stirs.get_nowait()
        except queue.Empty:
            pass

    def _drain(self, feed: Feed) -> bool:
        """Drain a feed until it ends; False if it has to wait for its consumer."""
        while not self._stopped:
            if self._unbounded:
                feed.buffersize = None
            limit = feed.limit()
            if limit is not None and feed.index >= limit:
                return False
            if self._step(feed, self._feeds):
                return True
            if feed.limit() is None or feed.index < (feed.limit() or 0):
                self._submitter.wait_for_room(NAP)
        return True

    def _step(self, feed: Feed, among: list[Feed]) -> bool:
        """Submit what there is room for; whether the feed has ended, and is not among the others any more."""
        if feed.job.ended():
            among.remove(feed)
            return True
        ended = True
        try:
            feed.index, ended = feed.context.run(self._submitter.feed, feed)
        except BaseException as error:
            self._ledger.file(feed.job.number, feed.index, False, error)
            feed.index += 1
        if ended:
            among.remove(feed)
            self._ledger.expect(feed.job, feed.index)
            self._on_end()
        return ended
