"""The private attributes of the stdlib's `Pool` that many programs use.

Programs submit their own tasks through `_taskqueue` (most often an `imap` with several arguments), ask how
many tasks wait there, and end a pool by hand: they set the states of its threads, kill the workers, and wait.
This package's pools have no such queues and threads. The classes here answer the same questions about what
exists instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from .. import TYPE_CHECKING
from .._typing import Any
from ..stdlib import load
from .feeder import TaskSource

if TYPE_CHECKING:
    from .backend import PoolBackend

_std = load("pool")

__all__ = [
    "Handler",
    "Notifier",
    "PendingResults",
    "TaskQueue",
    "PendingTasks",
    "call_raw",
    "help_stuff_finish",
    "map_one",
]

# A task in the stdlib's shape: number of the job, number of the task, function, args, kwds.
RawTask = tuple[int, int, Callable[..., Any], Any, Any]


def call_raw(task: tuple[Callable[..., Any], Any, Any]) -> Any:
    """Run a task of (function, args, kwds)."""
    function, args, kwds = task
    return function(*args, **kwds)


def map_one(mapper: Callable[[Any], Any], function: Callable[..., Any], item: Any) -> Any:
    """Call a program's replacement of `mapstar` for one item, and return its result."""
    return next(iter(mapper((function, (item,)))))


def help_stuff_finish(inqueue: Any, task_handler: Any, size: int) -> None:
    """Make room in `inqueue` for the thread that fills it; this package's queues always have some."""
    if getattr(inqueue, "_rlock", None) is not None:
        _std.Pool._help_stuff_finish(inqueue, task_handler, size)


class TaskQueue:
    """`Pool._taskqueue`: tasks that workers cannot reach yet."""

    def __init__(self, backend: PoolBackend) -> None:
        self._backend = backend

    def put(self, item: tuple[Iterable[RawTask], Callable[[int], object] | None] | None) -> None:
        """Submit tasks as the stdlib does: an iterable, and a function to call with their number."""
        if item is None:
            return
        tasks, set_length = item
        rest = iter(tasks)
        first = next(rest, None)
        if first is None:
            if set_length is not None:
                set_length(0)
            return
        result = self._backend.cache[first[0]]
        items = _without_numbers(first, rest, set_length)
        self._backend.feeder.add(
            result, TaskSource(result._handle, self._backend.raw_function(), items, 1, None)
        )

    def qsize(self) -> int:
        """Return how many tasks wait, plus the calls whose arguments are not all submitted."""
        return self._backend.backlog()[1] + len(self._backend.feeder) + len(self._backend.deferred)

    def empty(self) -> bool:
        """Return whether nothing waits."""
        return self.qsize() == 0


def _without_numbers(
    first: RawTask, rest: Iterator[RawTask], set_length: Callable[[int], object] | None
) -> Iterator[Any]:
    yield first[2:]
    last = first[1]
    for task in rest:
        last = task[1]
        yield task[2:]
    if set_length is not None:
        set_length(last + 1)


class _Queue:
    """Looks like a queue between a pool and its workers; says whether something is in it."""

    def __init__(self, backend: PoolBackend) -> None:
        self._backend = backend

    @property
    def _reader(self) -> _Queue:
        return self

    def poll(self, timeout: float = 0.0) -> bool:
        """Return whether something is in it."""
        return not self.empty()

    def empty(self) -> bool:
        """Return whether nothing is in it."""
        raise NotImplementedError


class PendingTasks(_Queue):
    """`Pool._inqueue`: tasks that no worker has begun."""

    def empty(self) -> bool:
        return self.qsize() == 0

    def qsize(self) -> int:
        """Return how many tasks no worker has begun."""
        return self._backend.backlog()[0]


class PendingResults(_Queue):
    """`Pool._outqueue`: results that no thread has read yet."""

    def empty(self) -> bool:
        return not self._backend.has_results()

    def qsize(self) -> int:
        """Return 0 if there are none, else 1."""
        return int(self._backend.has_results())


class Handler:
    """One of the stdlib's three threads of a pool: `_worker_handler`, `_task_handler`, `_result_handler`."""

    def __init__(self, backend: PoolBackend, name: str) -> None:
        self._backend = backend
        self.name = name
        self.daemon = True

    @property
    def _state(self) -> str:
        return self._backend.state

    @_state.setter
    def _state(self, state: str) -> None:
        if self.name == "workers" and state != "RUN":
            self._backend.stop_replacing()

    def is_alive(self) -> bool:
        """Return whether the pool works."""
        return self._backend.state != "TERMINATE" and (
            self._backend.state == "RUN" or len(self._backend.jobs) > 0
        )

    def join(self, timeout: float | None = None) -> None:
        """Wait until a closed pool has finished all its tasks, for at most `timeout` seconds."""
        self._backend.wait_until_done(timeout)


class Notifier:
    """`Pool._change_notifier`: whatever is put there makes the pool check its workers."""

    def __init__(self, backend: PoolBackend) -> None:
        self._backend = backend

    def put(self, item: object) -> None:
        """Make the pool check its workers."""
        self._backend.job_ended()
