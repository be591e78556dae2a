"""What `Pool`'s asynchronous methods return.

A result belongs to one job of its pool's jobs. It keeps the pool alive until the job is done, as people
write `Pool().map_async(...)` and keep only the result. Values are decoded by the thread that asks first.

The constructors are the stdlib's, for programs that make results themselves and put their tasks into the
pool's `_taskqueue`; such a result's job is open at once. The pool's own methods make theirs by `of`, and the
job is opened with its first task being submitted.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import GenericAlias

from procession._engine import NoValue

from .._typing import TYPE_CHECKING, Any, Protocol
from ..errors import TimeoutError

if TYPE_CHECKING:
    from .backend import PoolBackend

    class Pool(Protocol):
        """The pool object, of which a result needs the inside."""

        _backend: PoolBackend


_Lock = threading.Lock

__all__ = ["ApplyResult", "IMapIterator", "IMapUnorderedIterator", "MapResult", "report_failed_callback"]


class _Job:
    """A job of a pool: what all kinds of results have in common."""

    _pool: Pool | None
    # Keeps what the tasks need alive as long as there may be tasks.
    _function: Any = None

    # Whether the function is called for the items of an iterable, or once.
    has_items = True

    def _prepare(
        self, pool: Pool, func: Callable[..., Any] | None, shape: str, expected: int | None, delivered: bool
    ) -> None:
        self._pool = pool
        self._backend = backend = pool._backend
        self.name = getattr(func, "__qualname__", None) or repr(func)
        # As in the stdlib, nothing is called back when there was nothing to do.
        self._handle = backend.jobs.open(shape, expected, delivered and expected != 0)
        self._job: int = self._handle.number

    def _begin(self) -> None:
        self._handle.begin(self, self._backend.cache)

    @property
    def _cache(self) -> dict[int, Any]:
        """The open jobs of the pool."""
        self._backend.tidy()
        return self._backend.cache

    def _set(self, index: int, outcome: tuple[bool, Any]) -> None:
        """File the result of a task."""
        self._backend.jobs.file(self._job, index, *outcome)

    def cancel(self) -> bool:
        """Give the job up: tasks that wait are taken back, workers that run one are replaced.

        False if it is done already. `get` then raises `concurrent.futures.CancelledError`.
        """
        self._backend.jobs.check_here()
        return self._backend.cancel(self._job)


class ApplyResult(_Job):
    """The result of one call that goes on elsewhere."""

    _shape = "single"
    has_items = False
    _callback: Callable[[Any], object] | None = None
    _error_callback: Callable[[BaseException], object] | None = None
    _outcome: tuple[bool, Any] | None = None

    def __init__(
        self,
        pool: Pool,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        self._set_up(pool, None, callback, error_callback, 1)
        self._begin()

    @classmethod
    def of(
        cls,
        pool: Pool,
        func: Callable[..., Any],
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        expected: int = 1,
    ) -> Any:
        """The result of so many tasks that are about to be submitted."""
        result = cls.__new__(cls)
        result._set_up(pool, func, callback, error_callback, expected)
        return result

    def _set_up(
        self,
        pool: Pool,
        func: Callable[..., Any] | None,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        expected: int,
    ) -> None:
        self._decoding = _Lock()
        if callback is None and error_callback is None:
            self._prepare(pool, func, self._shape, expected, False)
            return
        self._callback = callback
        self._error_callback = error_callback
        self._prepare(pool, func, self._shape, expected, True)
        self._backend.start_callback_thread()

    def ready(self) -> bool:
        """Whether the call is done and its callback has run."""
        return self._handle.ready()

    def successful(self) -> bool:
        """Whether the call returned; ValueError if it is not done."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._decoded()[0]

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the call is done, for at most `timeout` seconds."""
        self._handle.wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Return what the call returned, or raise what it raised; TimeoutError if it is not done in time."""
        if not self._handle.wait(timeout):
            raise TimeoutError
        success, value = self._decoded()
        if success:
            return value
        try:
            raise value
        finally:
            # The traceback names this frame, which would otherwise name the exception.
            del value

    def _decoded(self) -> tuple[bool, Any]:
        with self._decoding:
            if self._outcome is None:
                self._handle.give_outcome(self)
            return self._outcome  # type: ignore[return-value]

    @property
    def _event(self) -> _Done:
        return _Done(self)

    @property
    def _success(self) -> bool:
        return not self.ready() or self._decoded()[0]

    def __getattr__(self, name: str) -> Any:
        # Not a property: the server of a manager asks each result for all that `dir` lists, ready or not.
        if name == "_value" and self.ready():
            return self._decoded()[1]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _deliver(self) -> None:
        """Run the callback; called once, by the courier."""
        try:
            success, value = self._decoded()
            callback = self._callback if success else self._error_callback
            if callback is not None:
                callback(value)
        finally:
            self._backend.jobs.finish(self._job)
            self._handle.announce()

    __class_getitem__: Any = classmethod(GenericAlias)


class _Done:
    """Whether a result is ready, in the shape of an event."""

    def __init__(self, result: ApplyResult) -> None:
        self._result = result

    def is_set(self) -> bool:
        """Whether it is ready."""
        return self._result.ready()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is ready; False if it was not in time."""
        self._result.wait(timeout)
        return self.is_set()


class MapResult(ApplyResult):
    """The results of a whole map, as one list."""

    _shape = "list"
    has_items = True
    # Items, and how many of them the stdlib would put into one chunk; what is said about progress is in its
    # terms.
    _length = 0
    _chunksize = 1
    # Whether each task's result is a list of results: so it is where a program submits the tasks itself.
    _is_of_lists = False
    # The items of these lists.
    _joined: list[Any] | None = None

    def __init__(
        self,
        pool: Pool,
        chunksize: int,
        length: int,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._measure(length, chunksize)
        self._is_of_lists = True
        self._set_up(pool, None, callback, error_callback, -(-length // chunksize) if chunksize > 0 else 0)
        self._begin()

    def _measure(self, length: int, chunksize: int) -> None:
        self._length = length
        self._chunksize = chunksize

    def _decoded(self) -> tuple[bool, Any]:
        success, value = super()._decoded()
        if not success or not self._is_of_lists:
            return success, value
        if self._joined is None:
            self._joined = [item for items in value for item in items]
        return success, self._joined

    @property
    def _value(self) -> Any:
        """The list of results, or what the first task raised that failed; of None until all are there."""
        return self._decoded()[1] if self.ready() else [None] * self._length

    @property
    def _number_left(self) -> int:
        """How many chunks are not done."""
        expected, done = self._handle.progress()
        if self._chunksize < 1 or not expected or expected <= done:
            return 0
        chunks = -(-self._length // self._chunksize)
        return max(1, round(chunks * (expected - done) / expected))


class IMapIterator(_Job):
    """An iterator over results, in the order of the arguments."""

    _shape = "ordered"
    # Where its items come from, if that has to do with the results being taken out.
    _source: Any = None
    # There once an exception ended the wait for a result: unless it is asked again, nobody waits.
    _abandon_guard: _AbandonGuard | None = None

    def __init__(self, pool: Pool) -> None:
        self._prepare(pool, None, self._shape, None, False)
        self._begin()

    @classmethod
    def of(cls, pool: Pool, func: Callable[..., Any], expected: int | None) -> Any:
        """The results of tasks that are about to be submitted."""
        iterator = cls.__new__(cls)
        iterator._prepare(pool, func, cls._shape, expected, False)
        return iterator

    def _set_length(self, length: int) -> None:
        """Say how many tasks there are."""
        self._backend.jobs.expect(self._handle, length)
        self._backend.job_ended()

    @property
    def _length(self) -> int | None:
        return self._handle.progress()[0]

    @property
    def _index(self) -> int:
        """How many tasks' results were taken out."""
        return self._handle.consumed()

    def __iter__(self) -> IMapIterator:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result or raise what its task raised; TimeoutError if it is not there in time.

        RuntimeError for StopIteration, which would be taken for the end of the results.
        """
        if self._abandon_guard is not None:
            self._reclaim()
        try:
            item = self._handle.next(timeout)
        except BaseException as error:
            self._abandon(error)
            raise
        if self._source is not None:
            self._backend.feeder.result_taken(self._source)
        if type(item) is not NoValue:
            return item
        if item.ended:
            raise StopIteration
        raised = item.error
        if raised is None:
            raise TimeoutError
        try:
            if isinstance(raised, StopIteration):
                raise RuntimeError(f"a task of {self.name} raised StopIteration") from raised
            raise raised
        finally:
            # The traceback names this frame, which would otherwise name the exception.
            del item, raised

    def _abandon(self, error: BaseException) -> None:
        """Nobody waits any more: not after Ctrl-C, and else unless somebody still has the iterator."""
        if not isinstance(error, Exception):
            self._backend.abandon(self)
        elif self._backend.cache.get(self._job) is self:
            self._abandon_guard = _AbandonGuard(self)
            self._backend.cache[self._job] = _AbandonedJob(self.name)

    def _reclaim(self) -> None:
        guard, self._abandon_guard = self._abandon_guard, None
        if guard is not None and guard.is_abandoned:
            guard.is_abandoned = False
            if self._backend.jobs.is_open(self._job):
                self._backend.cache[self._job] = self

    __next__ = next


class _AbandonGuard:
    """Part of an iterator that was left: with it goes what nobody will ask for."""

    def __init__(self, iterator: IMapIterator) -> None:
        self.is_abandoned = True
        self._backend = iterator._backend
        self._job = iterator._job

    def __del__(self) -> None:
        if self.is_abandoned:
            self._backend.cancel(self._job)


class _AbandonedJob:
    """Stands for an iterator among the open jobs, which would keep it."""

    _pool = _function = None

    def __init__(self, name: str) -> None:
        self.name = name


class IMapUnorderedIterator(IMapIterator):
    """An iterator over results, in the order in which they become ready."""

    _shape = "unordered"


def report_failed_callback() -> None:
    """Report the current exception as one that nobody can catch: a callback raised it."""
    args = threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
    threading.excepthook(args)
