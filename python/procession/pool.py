"""Pools of workers.

`Pool` has processes, `ThreadPool` threads. Both are a front over a backend (`_core/pool/backend.py`), which
has the workers, the open jobs, and the threads of this process that serve them.

The methods take three arguments that the stdlib does not have:

* `task_timeout`: how many seconds a task may run. Then its worker is stopped and the task fails with
  `TimeoutError`. Not for a `ThreadPool`.
* `retries`: how often a task is run again when its worker has died. Then the task fails with `WorkerDied`.
* `fail_fast`, of methods that call a function for many items: the first task that fails ends the job. Tasks
that have not begun are withdrawn; those that run finish their chunk, and their results are dropped.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType

from ._core import TYPE_CHECKING
from ._core._typing import Any, NoReturn, TypeVar
from ._core.arguments import (
    check_call,
    check_callable,
    check_iterable,
    check_task,
    given_policy,
    whole_number,
)
from ._core.pool import results as pool_results
from ._core.pool.backend import CLOSE as CLOSE
from ._core.pool.backend import INIT as INIT
from ._core.pool.backend import RUN as RUN
from ._core.pool.backend import TERMINATE as TERMINATE
from ._core.pool.backend import PoolBackend, usable_processors
from ._core.pool.feeder import TaskSource
from ._core.pool.process_backend import ProcessBackend
from ._core.pool.results import ApplyResult as ApplyResult
from ._core.pool.results import IMapIterator as IMapIterator
from ._core.pool.results import IMapUnorderedIterator as IMapUnorderedIterator
from ._core.pool.results import MapResult as MapResult
from ._core.pool.results import abandon
from ._core.pool.stdlib_attributes import (
    Handler,
    Notifier,
    PendingResults,
    PendingTasks,
    TaskQueue,
    help_stuff_finish,
    map_one,
)
from ._core.pool.thread_backend import ThreadBackend
from ._core.pool.thread_bound import is_thread_bound
from ._core.private_names import picklable, register_private_methods
from ._core.start.startable_process import allow_daemons_children
from ._core.stdlib import context as _std_context
from ._core.stdlib import load, util
from ._core.stdlib_subclasses import POOL_INTERNALS, overrides_any, use_stdlib_methods
from .context import _default_context

_std = load("pool")
if TYPE_CHECKING:
    from multiprocessing.pool import Pool as _StdPool
    from multiprocessing.pool import ThreadPool as _StdThreadPool
    from typing import Self
else:
    _StdPool, _StdThreadPool, Self = _std.Pool, _std.ThreadPool, object
register_private_methods()

__all__ = ["Pool", "ThreadPool"]

AsyncResult = ApplyResult

# Names that programs and libraries read here; the exceptions are the same classes in both packages.
ExceptionWithTraceback = _std.ExceptionWithTraceback
MaybeEncodingError = _std.MaybeEncodingError
RemoteTraceback = _std.RemoteTraceback
TimeoutError = _std_context.TimeoutError
mapstar = _std.mapstar
rebuild_exc = _std.rebuild_exc
starmapstar = _std.starmapstar
worker = _std.worker

_T = TypeVar("_T")
_Item = TypeVar("_Item")
ErrorCallback = Callable[[BaseException], object] | None

# The caller of `imap` submits sequences up to this length itself, without a thread of the pool.
MAX_DIRECT_ITEMS = 10_000


class Pool(_StdPool):
    """Worker processes that run functions for this process.

    `processes` is their number, by default one per usable processor. Each worker calls
    `initializer(*initargs)` first. A worker is replaced after `maxtasksperchild` tasks, and when it dies::

        with Pool(4) as pool:
            assert pool.map(abs, [-1, 2]) == [1, 2]

    The base class only serves `isinstance`: none of its methods are used.
    """

    _wrap_exception = True
    # True for subclasses that override the stdlib's internals.
    _uses_stdlib_methods = False
    _help_stuff_finish: Any
    _backend: PoolBackend

    def __init_subclass__(cls, **kwds: Any) -> None:
        super().__init_subclass__(**kwds)
        if overrides_any(cls, POOL_INTERNALS):
            use_stdlib_methods(cls, Pool, _std.Pool)
            if cls._help_stuff_finish is _std.Pool._help_stuff_finish:
                cls._help_stuff_finish = staticmethod(help_stuff_finish)

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        """Make, but do not start, a worker."""
        return ctx.Process(*args, **kwds)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        # Before anything can fail: __del__ reads it.
        self._state = INIT
        if self._uses_stdlib_methods:
            _std.Pool.__init__(self, processes, initializer, initargs, maxtasksperchild, context)
            return
        self._ctx = _default_context.get_context() if context is None else context
        self._initializer = initializer
        self._initargs = initargs
        self._maxtasksperchild = maxtasksperchild
        if processes is None:
            processes = usable_processors()
        processes = whole_number("processes", processes)
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        check_iterable("initargs", initargs, " (the arguments of the initializer)")
        self._processes = processes
        self._backend = backend = self._make_backend()
        self._pool = backend.workers
        backend.start()
        self._terminate = util.Finalize(self, backend.terminate, exitpriority=15)
        self._state = RUN

    def _make_backend(self) -> Any:
        return ProcessBackend(
            self._ctx,
            self.Process,
            self._processes,
            self._initializer,
            self._initargs,
            self._maxtasksperchild,
            allow_daemons_children,
        )

    def __del__(self, _warn: Any = warnings.warn, RUN: str = RUN) -> None:
        if self._state == RUN:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        cls = self.__class__
        return f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={len(self._pool)}>"

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.terminate()

    @property
    def _cache(self) -> dict[int, Any]:
        """The open jobs."""
        self._backend.tidy()
        return self._backend.cache

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")
        self._backend.jobs.check_here()

    def _repopulate_pool(self) -> None:
        self._backend.repopulate()

    def _maintain_pool(self) -> None:
        self._backend.repopulate()

    @property
    def _taskqueue(self) -> TaskQueue:
        return TaskQueue(self._backend)

    @property
    def _inqueue(self) -> PendingTasks:
        return PendingTasks(self._backend)

    @property
    def _outqueue(self) -> PendingResults:
        return PendingResults(self._backend)

    @property
    def _worker_handler(self) -> Handler:
        return self._backend.handler("workers")

    @property
    def _task_handler(self) -> Handler:
        return self._backend.handler("tasks")

    @property
    def _result_handler(self) -> Handler:
        return self._backend.handler("results")

    @property
    def _change_notifier(self) -> Notifier:
        return Notifier(self._backend)

    def apply(
        self,
        func: Callable[..., _T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        *,
        task_timeout: float | None = None,
        retries: int = 0,
    ) -> _T:
        """Call `func(*args, **kwds)` in a worker and return its result.

        Raises what the function raises, WorkerDied if the worker died, and TimeoutError after `task_timeout`
        seconds.
        """
        # An override of a subclass may have the stdlib's parameters only. No signal handler runs between the
        # return of a direct call and the store of its value, as one may with `*args` or `**kwds`.
        if task_timeout is None and retries == 0:
            result = self.apply_async(func, args, kwds)
        else:
            result = self.apply_async(func, args, kwds, task_timeout=task_timeout, retries=retries)
        try:
            return result.get()
        except BaseException:
            abandon(result)
            raise

    def apply_async(  # type: ignore[override]
        self,
        func: Callable[..., _T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[_T], object] | None = None,
        error_callback: ErrorCallback = None,
        *,
        task_timeout: float | None = None,
        retries: int = 0,
    ) -> ApplyResult[_T]:
        """Call `func(*args, **kwds)` in a worker; return an `ApplyResult` at once.

        A thread of this process calls `callback(value)` or `error_callback(exception)` when the call is done.
        """
        if task_timeout is not None or retries != 0:
            check_task(task_timeout, retries)
        if kwds or type(args) is not tuple or not callable(func):
            check_call(func, args, kwds)
        if callback is not None or error_callback is not None:
            check_callable("callback", callback)
            check_callable("error_callback", error_callback)
        if self._state != RUN:
            self._check_running()
        result: ApplyResult[_T] = ApplyResult.of(self, func, callback, error_callback)
        try:
            self._backend.call(result, picklable(func), args, kwds, task_timeout, retries)
        except BaseException as error:
            if result._handle is not None:
                self._backend.fail_job(result._job, error)
            raise
        return result

    def map(
        self,
        func: Callable[[_Item], _T],
        iterable: Iterable[_Item],
        chunksize: int | None = None,
        *,
        task_timeout: float | None = None,
        retries: int = 0,
        fail_fast: bool = False,
    ) -> list[_T]:
        """Call `func(item)` for each item in the workers; return the list of results.

        A task calls the function for `chunksize` items. Raises what the first failed task raised.
        """
        return self._map(func, iterable, mapstar, chunksize, task_timeout, retries, fail_fast)

    def map_async(  # type: ignore[override]
        self,
        func: Callable[[_Item], _T],
        iterable: Iterable[_Item],
        chunksize: int | None = None,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: ErrorCallback = None,
        *,
        task_timeout: float | None = None,
        retries: int = 0,
        fail_fast: bool = False,
    ) -> MapResult[_T]:
        """Call `func(item)` for each item in the workers; return a `MapResult` at once."""
        policy = given_policy(task_timeout, retries, fail_fast)
        return self._map_async(func, iterable, mapstar, chunksize, callback, error_callback, **policy)

    def starmap(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        task_timeout: float | None = None,
        retries: int = 0,
        fail_fast: bool = False,
    ) -> list[_T]:
        """Like `map`, but each item is a tuple of arguments: calls `func(*item)`."""
        return self._map(func, iterable, starmapstar, chunksize, task_timeout, retries, fail_fast)

    def starmap_async(  # type: ignore[override]
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: ErrorCallback = None,
        *,
        task_timeout: float | None = None,
        retries: int = 0,
        fail_fast: bool = False,
    ) -> MapResult[_T]:
        """Like `map_async`, but each item is a tuple of arguments: calls `func(*item)`."""
        policy = given_policy(task_timeout, retries, fail_fast)
        return self._map_async(func, iterable, starmapstar, chunksize, callback, error_callback, **policy)

    def _map(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Any],
        mapper: Callable[[Any], Any],
        chunksize: int | None,
        timeout: float | None,
        retries: int,
        fail_fast: bool,
    ) -> list[_T]:
        # Direct calls, as in `apply`.
        if timeout is None and retries == 0 and not fail_fast:
            result = self._map_async(func, iterable, mapper, chunksize)
        else:
            result = self._map_async(
                func, iterable, mapper, chunksize, task_timeout=timeout, retries=retries, fail_fast=fail_fast
            )
        try:
            return result.get()
        except BaseException:
            abandon(result)
            raise

    def _map_async(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Any],
        mapper: Callable[[Any], Any],
        chunksize: int | None = None,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: ErrorCallback = None,
        *,
        task_timeout: float | None = None,
        retries: int = 0,
        fail_fast: bool = False,
    ) -> MapResult[_T]:
        if not callable(func):
            raise TypeError(f"func must be callable, not {func!r}")
        check_task(task_timeout, retries)
        check_callable("callback", callback)
        check_callable("error_callback", error_callback)
        if not hasattr(iterable, "__iter__"):
            check_iterable("iterable", iterable)
        if chunksize is not None:
            chunksize = whole_number("chunksize", chunksize)
        self._check_running()
        star = mapper is starmapstar
        if not star and mapper is not mapstar:
            # A program's replacement of `mapstar`, called for each item.
            func = partial(map_one, mapper, func)
        try:
            items: Any = iterable if type(iterable) in (list, tuple, range) else list(iterable)
        except Exception as error:
            if not hasattr(iterable, "__len__"):
                raise
            failed: MapResult[_T] = MapResult.of(self, func, callback, error_callback)
            failed._create(1, failed._is_delivered())
            failed._begin()
            failed._set(0, (False, error))
            return failed
        if chunksize is not None:
            chunksize = max(1, chunksize)
        result: MapResult[_T] = MapResult.of(self, func, callback, error_callback)
        parts = self._backend.chunks(len(items), chunksize)
        result._create(parts, result._is_delivered(), fail_fast)
        result._measure(len(items), chunksize or -(-len(items) // (4 * self._processes)))
        self._spread(result, func, star, items, chunksize, task_timeout, retries)
        return result

    def _spread(
        self,
        result: MapResult[Any] | IMapIterator[Any],
        func: Callable[..., Any],
        star: bool,
        items: Sequence[Any],
        chunksize: int | None,
        task_timeout: float | None,
        retries: int,
    ) -> None:
        if not self._prepare(result, func, star, task_timeout, retries):
            return
        try:
            self._backend.spread(result, result._function, items, chunksize)
        except BaseException as error:
            # Interrupted: withdraw what was submitted.
            self._backend.fail_job(result._job, error)
            raise

    def _prepare(
        self,
        result: MapResult[Any] | IMapIterator[Any],
        func: Callable[..., Any],
        star: bool,
        task_timeout: float | None,
        retries: int,
    ) -> bool:
        """Prepare the function of a job's tasks; if that fails, fail the job and return False."""
        try:
            result._function = self._backend.function(picklable(func), star, task_timeout, retries)
        except Exception as error:
            self._fail(result, error)
            return False
        return True

    def _fail(self, result: MapResult[Any] | IMapIterator[Any], error: BaseException) -> None:
        """Fail a job that has no tasks yet."""
        result._begin()
        self._backend.fail_job(result._job, error)

    def imap(  # type: ignore[override]
        self,
        func: Callable[[_Item], _T],
        iterable: Iterable[_Item],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        task_timeout: float | None = None,
        retries: int = 0,
        fail_fast: bool = False,
    ) -> IMapIterator[_T]:
        """Return an iterator over the results of `func(item)`, in the order of the items.

        The iterable is consumed as fast as workers take tasks; with `buffersize`, at most that many items
        ahead of the results that were taken out.
        """
        return self._imap(
            IMapIterator, func, iterable, chunksize, buffersize, task_timeout, retries, fail_fast
        )

    def imap_unordered(  # type: ignore[override]
        self,
        func: Callable[[_Item], _T],
        iterable: Iterable[_Item],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        task_timeout: float | None = None,
        retries: int = 0,
        fail_fast: bool = False,
    ) -> IMapIterator[_T]:
        """Like `imap`, with results in the order in which they become ready."""
        return self._imap(
            IMapUnorderedIterator, func, iterable, chunksize, buffersize, task_timeout, retries, fail_fast
        )

    def _imap(
        self,
        kind: type[IMapIterator[_T]],
        func: Callable[[_Item], _T],
        iterable: Iterable[_Item],
        chunksize: int,
        buffersize: int | None,
        task_timeout: float | None,
        retries: int,
        fail_fast: bool,
    ) -> IMapIterator[_T]:
        if not callable(func):
            raise TypeError(f"func must be callable, not {func!r}")
        check_task(task_timeout, retries)
        chunksize = whole_number("chunksize", chunksize)
        if buffersize is not None:
            buffersize = whole_number("buffersize", buffersize)
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be at least 1")
        if buffersize is None and isinstance(iterable, (list, tuple)) and len(iterable) <= MAX_DIRECT_ITEMS:
            parts = self._backend.chunks(len(iterable), chunksize)
            result: IMapIterator[_T] = kind.of(self, func, parts, fail_fast)
            self._spread(result, func, False, iterable, chunksize, task_timeout, retries)
            return result
        result = kind.of(self, func, None, fail_fast)
        if not self._prepare(result, func, False, task_timeout, retries):
            return result
        try:
            items = iter(iterable)
        except Exception as error:
            self._fail(result, error)
        else:
            source = TaskSource(result._handle, result._function, items, chunksize, buffersize)
            feeder = self._backend.feeder
            if is_thread_bound(items):
                feeder.add_caller_driven(result, source)
            else:
                feeder.add(result, source)
        return result

    def close(self) -> None:
        """Accept no more tasks; the workers exit when all tasks are done."""
        util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            if self._backend.is_here():
                self._backend.close()

    def terminate(self) -> None:
        """Stop the workers now; unfinished tasks fail."""
        util.debug("terminating pool")
        self._state = TERMINATE
        self._terminate()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the workers have exited; call `close` or `terminate` first.

        Raises TimeoutError if they have not after `timeout` seconds; then `join` again, or `terminate`.
        Raises ValueError if the pool still accepts tasks.
        """
        util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._backend.jobs.check_here()
        self._backend.join(timeout)


class ThreadPool(Pool, _StdThreadPool):  # pyright: ignore[reportIncompatibleMethodOverride]
    """Worker threads that run functions for this process. Takes no `task_timeout`."""

    _wrap_exception = False

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        """Make, but do not start, a worker."""
        from .dummy import Process

        return Process(*args, **kwds)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        super().__init__(processes, initializer, initargs)

    def _make_backend(self) -> Any:
        return ThreadBackend(self._ctx, self.Process, self._processes, self._initializer, self._initargs)


# Annotations of the results name `Pool`; tools that evaluate them look it up there.
pool_results.__dict__["Pool"] = Pool
