"""What `Pool`'s asynchronous methods return.

A result belongs to one job of its pool's ledger. It keeps the pool alive until the job is done, as people
write `Pool().map_async(...)` and keep only the result. Values are decoded by the thread that asks first.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import GenericAlias

from .hints import TYPE_CHECKING, Any
from .stdlib import context

if TYPE_CHECKING:
    from ..pool import Pool

_Lock = threading.Lock

__all__ = ["ApplyResult", "IMapIterator", "IMapUnorderedIterator", "MapResult", "report_failed_callback"]


class _Job:
    """A job of a pool: what all kinds of results have in common."""

    _pool: Pool | None
    # Keeps what the tasks need alive as long as there may be tasks.
    _function: Any = None

    # Whether the function is called for the items of an iterable, or once.
    has_items = True

    # Whether tasks wait for results to be taken out.
    bounded = False

    def __init__(
        self, pool: Pool, func: Callable[..., Any], shape: str, expected: int | None, delivered: bool
    ) -> None:
        self._pool = pool
        self._crew = crew = pool._crew
        self.name = getattr(func, "__qualname__", None) or repr(func)
        # As in the stdlib, nothing is called back when there was nothing to do.
        self._handle = crew.ledger.open(shape, expected, delivered and expected != 0)
        self._job: int = self._handle.number
        crew.ledger.tidy(crew.cache)
        crew.cache[self._job] = self
        if expected == 0:
            crew.ledger.expect(self._handle, 0)

    def cancel(self) -> bool:
        """Give the job up: tasks that wait are taken back, workers that run one are replaced.

        False if it is done already. `get` then raises `concurrent.futures.CancelledError`.
        """
        return self._crew.cancel(self._job)


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
        func: Callable[..., Any],
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        expected: int = 1,
    ) -> None:
        self._decoding = _Lock()
        if callback is None and error_callback is None:
            _Job.__init__(self, pool, func, self._shape, expected, False)
            return
        self._callback = callback
        self._error_callback = error_callback
        _Job.__init__(self, pool, func, self._shape, expected, True)
        self._crew.start_courier()

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
            raise context.TimeoutError
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
                self._outcome = self._handle.take_outcome()
            return self._outcome

    def _deliver(self) -> None:
        """Run the callback; called once, by the courier."""
        try:
            success, value = self._decoded()
            callback = self._callback if success else self._error_callback
            if callback is not None:
                callback(value)
        finally:
            self._handle.announce()
            self._crew.ledger.finish(self._job)

    __class_getitem__: Any = classmethod(GenericAlias)


class MapResult(ApplyResult):
    """The results of a whole map, as one list."""

    _shape = "list"
    has_items = True


class IMapIterator(_Job):
    """An iterator over results, in the order of the arguments."""

    _shape = "ordered"

    def __init__(
        self, pool: Pool, func: Callable[..., Any], expected: int | None, bounded: bool = False
    ) -> None:
        self.bounded = bounded
        super().__init__(pool, func, self._shape, expected, False)

    def __iter__(self) -> IMapIterator:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result or raise what its task raised; TimeoutError if it is not there in time."""
        item = self._handle.next(timeout)
        if not item:
            if item is None:
                raise context.TimeoutError
            raise StopIteration
        self._crew.taken(self)
        success, value = item
        if success:
            return value
        try:
            raise value
        finally:
            del value

    def __next__(self) -> Any:
        return self.next()


class IMapUnorderedIterator(IMapIterator):
    """An iterator over results, in the order in which they become ready."""

    _shape = "unordered"


def report_failed_callback() -> None:
    """Report the current exception as one that nobody can catch: a callback raised it."""
    args = threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
    threading.excepthook(args)
