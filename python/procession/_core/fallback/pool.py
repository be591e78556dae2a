"""The standard library's pools, with this package's arguments and methods as far as possible.

The stdlib does not notice that a worker died, and cannot stop a task. So `retries`, `task_timeout`,
`buffersize` and `fail_fast` raise NotImplementedError.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError

from .._typing import Any
from ..stdlib import context, forward_other_names, load
from . import choice
from .choice import needs_engine

_std: Any = load("pool")

__all__ = ["Pool", "ThreadPool"]


class _Cancellable:
    _cache: dict[int, Any]
    _job: int

    def cancel(self) -> bool:
        """Cancel the job: its tasks may still run, and their results are dropped.

        Returns False if the job is done already. After a cancel, `get` raises
        `concurrent.futures.CancelledError`.
        """
        if self._cache.pop(self._job, None) is None:
            return False
        self._give_up((False, CancelledError()))
        return True

    def _give_up(self, outcome: tuple[bool, Any]) -> None:
        raise NotImplementedError


class ApplyResult(_Cancellable, _std.ApplyResult):  # type: ignore[misc]
    """The result of one call that a worker runs."""

    def _give_up(self, outcome: tuple[bool, Any]) -> None:
        self._success, self._value = outcome
        self._event.set()


class MapResult(ApplyResult, _std.MapResult):  # type: ignore[misc]
    """The results of a `map` that workers run."""


AsyncResult = ApplyResult


class IMapIterator(_Cancellable, _std.IMapIterator):  # type: ignore[misc]
    """Results in the order of their items."""

    def _give_up(self, outcome: tuple[bool, Any]) -> None:
        with self._cond:
            self._items.append(outcome)
            # The item just added is the last.
            self._length = self._index
            self._cond.notify()


class IMapUnorderedIterator(IMapIterator, _std.IMapUnorderedIterator):  # type: ignore[misc]
    """Results in the order in which they become ready."""


_KINDS: dict[Any, Any] = {
    _std.ApplyResult: ApplyResult,
    _std.MapResult: MapResult,
    _std.IMapIterator: IMapIterator,
    _std.IMapUnorderedIterator: IMapUnorderedIterator,
}


def _cancellable(result: Any) -> Any:
    kind = _KINDS.get(type(result))
    if kind is not None:
        result.__class__ = kind
    return result


def _check(
    task_timeout: float | None, retries: int, buffersize: int | None = None, fail_fast: bool = False
) -> None:
    if task_timeout is not None:
        raise needs_engine("task_timeout=, which stops a task that takes too long,")
    if retries:
        raise needs_engine("retries=, which runs the task of a worker again that died,")
    if buffersize is not None:
        raise needs_engine("buffersize=, which takes no more arguments ahead than so many,")
    if fail_fast:
        raise needs_engine("fail_fast=, which takes back the tasks that have not begun,")


class _Tasks:
    """The methods of a pool with all their arguments."""

    _pool: list[Any]
    _state: str

    def apply(
        self,
        func: Any,
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        *,
        task_timeout: float | None = None,
        retries: int = 0,
    ) -> Any:
        """Return `func(*args, **kwds)`, called by a worker."""
        return self.apply_async(func, args, kwds, task_timeout=task_timeout, retries=retries).get()

    def apply_async(
        self,
        func: Any,
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Any = None,
        error_callback: Any = None,
        *,
        task_timeout: float | None = None,
        retries: int = 0,
    ) -> Any:
        """Have a worker call `func(*args, **kwds)`."""
        _check(task_timeout, retries)
        return _cancellable(super().apply_async(func, args, kwds or {}, callback, error_callback))  # type: ignore[misc]

    def map(
        self,
        func: Any,
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        task_timeout: float | None = None,
        retries: int = 0,
        fail_fast: bool = False,
    ) -> list[Any]:
        """Return the list of `func(item)` for each item."""
        _check(task_timeout, retries, fail_fast=fail_fast)
        return super().map(func, iterable, chunksize)  # type: ignore[misc, no-any-return]

    def map_async(
        self,
        func: Any,
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Any = None,
        error_callback: Any = None,
        *,
        task_timeout: float | None = None,
        retries: int = 0,
        fail_fast: bool = False,
    ) -> Any:
        """Have workers call `func(item)` for each item."""
        _check(task_timeout, retries, fail_fast=fail_fast)
        return _cancellable(super().map_async(func, iterable, chunksize, callback, error_callback))  # type: ignore[misc]

    def starmap(
        self,
        func: Any,
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        task_timeout: float | None = None,
        retries: int = 0,
        fail_fast: bool = False,
    ) -> list[Any]:
        """Return the list of `func(*item)` for each item."""
        _check(task_timeout, retries, fail_fast=fail_fast)
        return super().starmap(func, iterable, chunksize)  # type: ignore[misc, no-any-return]

    def starmap_async(
        self,
        func: Any,
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Any = None,
        error_callback: Any = None,
        *,
        task_timeout: float | None = None,
        retries: int = 0,
        fail_fast: bool = False,
    ) -> Any:
        """Have workers call `func(*item)` for each item."""
        _check(task_timeout, retries, fail_fast=fail_fast)
        made = super().starmap_async(func, iterable, chunksize, callback, error_callback)  # type: ignore[misc]
        return _cancellable(made)

    def imap(
        self,
        func: Any,
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        task_timeout: float | None = None,
        retries: int = 0,
        fail_fast: bool = False,
    ) -> Any:
        """Return an iterator over `func(item)` for each item, in their order."""
        _check(task_timeout, retries, buffersize, fail_fast)
        return _cancellable(super().imap(func, iterable, chunksize))  # type: ignore[misc]

    def imap_unordered(
        self,
        func: Any,
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        task_timeout: float | None = None,
        retries: int = 0,
        fail_fast: bool = False,
    ) -> Any:
        """Like `imap`, with results in the order in which they become ready."""
        _check(task_timeout, retries, buffersize, fail_fast)
        return _cancellable(super().imap_unordered(func, iterable, chunksize))  # type: ignore[misc]

    def join(self, timeout: float | None = None) -> None:
        """Wait until the workers have exited; `close` or `terminate` first.

        TimeoutError if they have not after `timeout` seconds: `join` again, or `terminate`.
        """
        if timeout is None or self._state == "RUN":
            super().join()  # type: ignore[misc]
            return
        deadline = time.monotonic() + timeout
        handlers: list[Any] = [getattr(self, f"_{name}_handler") for name in ("worker", "task", "result")]
        for one in handlers + self._pool:
            one.join(max(0.0, deadline - time.monotonic()))
            if one.is_alive():
                raise context.TimeoutError(f"the pool's workers have not exited after {timeout} seconds")


class Pool(_Tasks, _std.Pool):  # type: ignore[misc]
    """Worker processes that run functions for this one."""

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        if context is None:
            context = choice.default_context.get_context()
        _std.Pool.__init__(self, processes, initializer, initargs, maxtasksperchild, context)


class ThreadPool(_Tasks, _std.ThreadPool):  # type: ignore[misc]
    """Worker threads that run functions for this process."""


forward_other_names(__name__, _std)
