"""The objects that `Pool`'s asynchronous methods return.

A result belongs to one job of its pool. It keeps the pool alive until the job is done, because programs write
`Pool().map_async(...)` and keep only the result. The thread that asks first decodes the value.

The constructors have the stdlib's signatures, for programs that make results themselves and put their tasks
into the pool's `_taskqueue`; such a result's job is open at once. The pool's own methods make theirs by `of`,
and the job opens when its first task is submitted.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import GenericAlias

from procession._native import NoValue

from .. import TYPE_CHECKING
from .._typing import Any, BaseIterator, Generic, Protocol, TypeVar
from ..errors import TimeoutError

if TYPE_CHECKING:
    from typing import Self

    from procession._native import PoolJob

    from .backend import PoolBackend

    class Pool(Protocol):
        """The part of a pool object that results use."""

        _backend: PoolBackend

else:
    PoolJob = Self = Pool = object

_T = TypeVar("_T")

__all__ = [
    "ApplyResult",
    "IMapIterator",
    "IMapUnorderedIterator",
    "MapResult",
    "abandon",
    "report_failed_callback",
]


class _Job:
    """A job of a pool: what all kinds of results share."""

    _pool: Pool | None
    # The job, from its creation on. A call's job is created when it is submitted.
    _handle: PoolJob = None  # type: ignore[assignment]
    # Kept alive as long as there may be tasks that need it.
    _function: Any = None

    # What the job yields: one value, a list, or values one by one.
    _shape: str
    # Whether the function is called for each item of an iterable, or once.
    has_items = True

    def _prepare(self, pool: Pool, func: Callable[..., Any] | None) -> None:
        self._pool = pool
        self._backend = pool._backend
        self.name: str = getattr(func, "__qualname__", None) or repr(func)

    def _create(self, expected: int | None, delivered: bool = False, fail_fast: bool = False) -> None:
        """Create the job of so many tasks. With `delivered`, its callbacks run when it is done."""
        # As in the stdlib, an empty job calls no callback.
        self._handle = self._backend.jobs.create(self._shape, expected, delivered and expected != 0)
        if fail_fast:
            self._handle.fail_fast()

    def _begin(self) -> None:
        self._handle.begin(self, self._backend.cache)

    @property
    def _job(self) -> int:
        """The number of the job."""
        return self._handle.number

    @property
    def _cache(self) -> dict[int, Any]:
        """The open jobs of the pool, by number."""
        self._backend.tidy()
        return self._backend.cache

    def _set(self, index: int, outcome: tuple[bool, Any]) -> None:
        """Store the outcome of one task: whether it succeeded, and its value or exception."""
        self._backend.jobs.set_result(self._job, index, *outcome)

    def cancel(self) -> bool:
        """Cancel the job: waiting tasks are withdrawn, and workers that run one of its tasks are replaced.

        Returns False if the job is done already. After a cancel, `get` raises
        `concurrent.futures.CancelledError`.
        """
        self._backend.jobs.check_here()
        return self._backend.cancel(self._job)


class ApplyResult(_Job, Generic[_T]):
    """The result of one call that a worker runs, as `apply_async` returns it."""

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
        self._set_up(pool, None, callback, error_callback)
        self._create(1, self._is_delivered())
        self._begin()

    @classmethod
    def of(
        cls,
        pool: Pool,
        func: Callable[..., Any],
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> Any:
        """Make the result of a job that is about to be created and submitted."""
        result = cls.__new__(cls)
        result._set_up(pool, func, callback, error_callback)
        return result

    def _set_up(
        self,
        pool: Pool,
        func: Callable[..., Any] | None,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._prepare(pool, func)
        if callback is not None or error_callback is not None:
            self._callback = callback
            self._error_callback = error_callback
            self._backend.start_callback_thread()

    def _is_delivered(self) -> bool:
        """Return whether it has callbacks."""
        return self._callback is not None or self._error_callback is not None

    def ready(self) -> bool:
        """Return whether the call is done and its callback has run."""
        return self._handle.ready()

    def successful(self) -> bool:
        """Return whether the call returned, and did not raise. Raises ValueError if it is not done."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._decoded()[0]

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the call is done, for at most `timeout` seconds."""
        self._handle.wait(timeout)

    def get(self, timeout: float | None = None) -> _T:
        """Wait for the call; return what it returned, or raise what it raised.

        Raises TimeoutError if it is not done within `timeout` seconds, WorkerDied if its worker died, and
        `concurrent.futures.CancelledError` if it was cancelled.
        """
        if not self._handle.get(self, timeout):
            raise TimeoutError
        success, value = self._decoded()
        if success:
            return value  # type: ignore[no-any-return]
        try:
            raise value
        finally:
            # The traceback names this frame, which would otherwise name the exception.
            del value

    def _decoded(self) -> tuple[bool, Any]:
        if self._outcome is None:
            self._handle.set_outcome(self)
        return self._outcome  # type: ignore[return-value]

    @property
    def _event(self) -> _Done:
        return _Done(self)

    @property
    def _success(self) -> bool:
        return not self.ready() or self._decoded()[0]

    # Type checkers would accept every name.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Not a property: the server of a manager reads every attribute that `dir` lists, ready or not.
            if name == "_value" and self.ready():
                return self._decoded()[1]
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _deliver(self) -> None:
        """Run the callback; called once, by the callback thread."""
        try:
            success, value = self._decoded()
            callback = self._callback if success else self._error_callback
            if callback is not None:
                callback(value)
        finally:
            self._backend.jobs.mark_finished(self._job)
            self._handle.announce()

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)


class _Done:
    """Whether a result is ready, with the methods of an event."""

    def __init__(self, result: ApplyResult[Any]) -> None:
        self._result = result

    def is_set(self) -> bool:
        """Return whether the result is ready."""
        return self._result.ready()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the result is ready; False if it is not after `timeout` seconds."""
        self._result.wait(timeout)
        return self.is_set()


class MapResult(ApplyResult[list[_T]]):
    """The results of a whole map, as one list."""

    _shape = "list"
    has_items = True
    # The number of items, and how many of them the stdlib would put into one chunk: progress is reported in
    # the stdlib's chunks.
    _length = 0
    _chunksize = 1
    # Whether each task's result is a list of results, as it is where a program submits the tasks itself.
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
        self._set_up(pool, None, callback, error_callback)
        self._create(-(-length // chunksize) if chunksize > 0 else 0, self._is_delivered())
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
        """The list of results, or the exception of the first task that failed; a list of None before."""
        return self._decoded()[1] if self.ready() else [None] * self._length

    @property
    def _number_left(self) -> int:
        """How many of the stdlib's chunks are not done."""
        expected, done = self._handle.progress()
        if self._chunksize < 1 or not expected or expected <= done:
            return 0
        chunks = -(-self._length // self._chunksize)
        return max(1, round(chunks * (expected - done) / expected))


class IMapIterator(_Job, BaseIterator[_T]):
    """An iterator over results, in the order of the arguments."""

    _shape = "ordered"
    # The source of its items, if that waits for results to be taken out.
    _source: Any = None
    # Set once an exception ended the wait for a result: until `next` is called again, no thread waits.
    _abandon_guard: _AbandonGuard | None = None

    def __init__(self, pool: Pool) -> None:
        self._prepare(pool, None)
        self._create(None)
        self._begin()

    @classmethod
    def of(cls, pool: Pool, func: Callable[..., Any], expected: int | None, fail_fast: bool) -> Any:
        """Make the iterator over the results of tasks that are about to be submitted."""
        iterator = cls.__new__(cls)
        iterator._prepare(pool, func)
        iterator._create(expected, fail_fast=fail_fast)
        return iterator

    def _set_length(self, length: int) -> None:
        """Set the number of tasks."""
        self._backend.jobs.expect(self._handle, length)
        self._backend.job_ended()

    @property
    def _length(self) -> int | None:
        return self._handle.progress()[0]

    @property
    def _index(self) -> int:
        """How many results were taken out."""
        return self._handle.consumed()

    def __iter__(self) -> Self:
        return self

    def next(self, timeout: float | None = None) -> _T:
        """Return the next result, or raise what its task raised.

        Raises TimeoutError if it is not there within `timeout` seconds, and StopIteration after the last. A
        StopIteration that a task raised becomes a RuntimeError: it would look like the end of the results.
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
            return item  # type: ignore[no-any-return]
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
        """Cancel the job after Ctrl-C; after other exceptions, once the iterator is collected."""
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

    if TYPE_CHECKING:

        def __next__(self) -> _T: ...

    else:
        __next__ = next
        __class_getitem__ = classmethod(GenericAlias)


class _AbandonGuard:
    """Part of an iterator whose loop ended by an exception: cancels the job when it is collected."""

    def __init__(self, iterator: IMapIterator[Any]) -> None:
        self.is_abandoned = True
        self._backend = iterator._backend
        self._job = iterator._job

    def __del__(self) -> None:
        if self.is_abandoned:
            self._backend.cancel(self._job)


class _AbandonedJob:
    """Takes an iterator's place among the open jobs, which would keep it alive."""

    _pool = _function = None

    def __init__(self, name: str) -> None:
        self.name = name


class IMapUnorderedIterator(IMapIterator[_T]):
    """An iterator over results, in the order in which they become ready."""

    _shape = "unordered"


def report_failed_callback() -> None:
    """Report the current exception, which a callback raised, through `threading.excepthook`."""
    args = threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
    threading.excepthook(args)


def abandon(result: Any) -> None:
    """Cancel a job whose result no one else can read, after an exception ended the wait for it."""
    if isinstance(result, ApplyResult):
        result._backend.abandon(result)
