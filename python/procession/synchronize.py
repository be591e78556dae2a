"""Locks, semaphores, conditions, events and barriers between processes.

The engine's classes do the work. The classes here add the constructors, the pickling and the `repr` of the
stdlib. `with lock:` runs no Python code.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from . import _native
from ._core import TYPE_CHECKING
from ._core._typing import Any, Protocol, TypeVar
from ._core.arguments import check_callable, seconds
from ._core.stdlib import process
from ._core.transfer.handing import hand_over

__all__ = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"]

RECURSIVE_MUTEX, SEMAPHORE = range(2)
SEM_VALUE_MAX = 2**31 - 1

_Result = TypeVar("_Result")

if TYPE_CHECKING:
    from types import TracebackType

    class LockLike(Protocol):
        """Any lock or semaphore: of this package, of `threading`, of a manager."""

        def acquire(self, block: bool = ..., timeout: float = ..., /) -> bool: ...
        def release(self) -> None: ...
        def __enter__(self) -> bool: ...
        def __exit__(
            self,
            exc_type: type[BaseException] | None,
            exc: BaseException | None,
            traceback: TracebackType | None,
            /,
        ) -> None: ...

else:
    LockLike = object


class SemLock:
    """The common base of locks and semaphores: pickling for a child that starts, and the `repr`."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def handle(self) -> bytes: ...
        @property
        def _adopt(self) -> Callable[..., None]: ...

    @property
    def _semlock(self) -> Any:
        """The object that answers `_is_mine`, `_count`, `_get_value` and `_is_zero`: this one."""
        return self

    def __getstate__(self) -> tuple[Any, ...]:
        return (hand_over(self.handle, self),)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._adopt(*state)

    def _owner_name(self) -> str:
        lock: Any = self
        if lock._is_mine():
            name = process.current_process().name
            thread = threading.current_thread().name
            return name if thread == "MainThread" else f"{name}|{thread}"
        if not lock.locked():
            return "None"
        return "SomeOtherThread" if lock._count() > 0 else "SomeOtherProcess"


class Lock(SemLock, _native.Lock):
    """A lock that is not recursive; any thread of any process may release it.

    If the process that holds it dies, the next `acquire` raises `OwnerDied`.
    """

    def __init__(self, *, ctx: Any = None) -> None:
        _native.Lock.__init__(self)

    def __repr__(self) -> str:
        try:
            name = self._owner_name()
        except Exception:
            name = "unknown"
        return f"<{type(self).__name__}(owner={name})>"


class InheritedLock(Lock):
    """A lock that is simply free when its holder dies: for data that no death leaves half changed."""

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:  # type: ignore[override]
        return super().acquire(block, timeout, on_owner_died="hold")

    def __enter__(self) -> bool:
        return self.acquire()


class RLock(SemLock, _native.RLock):
    """A lock that its owner may acquire again.

    If the process that holds it dies, the next `acquire` raises `OwnerDied`.
    """

    def __init__(self, *, ctx: Any = None) -> None:
        _native.RLock.__init__(self)

    def __repr__(self) -> str:
        count: object
        try:
            name = self._owner_name()
            count = self._count() if self._is_mine() else 0 if name == "None" else "nonzero"
        except Exception:
            name = count = "unknown"
        return f"<{type(self).__name__}({name}, {count})>"


class Semaphore(SemLock, _native.Semaphore):
    """A counter that `acquire` lowers by one, waiting while it is 0, and `release` raises by one."""

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        _native.Semaphore.__init__(self, value)

    def __getstate__(self) -> tuple[Any, ...]:
        return (*super().__getstate__(), self.maxvalue)

    def _value_name(self) -> object:
        try:
            return self.get_value()
        except Exception:
            return "unknown"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={self._value_name()})>"


class BoundedSemaphore(Semaphore):
    """A semaphore that raises ValueError rather than exceed its first value."""

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        _native.Semaphore.__init__(self, value, bounded=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={self._value_name()}, maxvalue={self.maxvalue})>"


class Condition:
    """A condition variable around any lock, by default a new RLock."""

    acquire: Callable[..., bool]
    release: Callable[[], None]

    def __init__(self, lock: LockLike | None = None, *, ctx: Any = None) -> None:
        if lock is not None and not (hasattr(lock, "acquire") and hasattr(lock, "release")):
            raise TypeError(f"lock must be a lock or None, not {lock!r}")
        self._lock: Any = lock or (RLock() if ctx is None else ctx.RLock())
        self._waiters = _native.Waiters()
        self._make_methods()

    def __getstate__(self) -> tuple[Any, ...]:
        return (self._lock, hand_over(self._waiters.handle, self))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._lock, handle = state
        self._waiters = _native.Waiters.__new__(_native.Waiters)
        self._waiters._adopt(handle)
        self._make_methods()

    def _make_methods(self) -> None:
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def __enter__(self) -> bool:
        return self._lock.__enter__()  # type: ignore[no-any-return]

    def __exit__(self, *exc_info: object) -> None:
        return self._lock.__exit__(*exc_info)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        try:
            waiting: object = self._waiters.count()
        except Exception:
            waiting = "unknown"
        return f"<{type(self).__name__}({self._lock}, {waiting})>"

    def _is_owned(self) -> bool:
        lock = self._lock
        if isinstance(lock, (_native.Lock, _native.RLock)):
            return lock._is_mine()
        if not isinstance(lock, _native.Semaphore):
            inner = getattr(lock, "_semlock", lock)
            answer = getattr(inner, "_is_mine", None) or getattr(lock, "_is_owned", None)
            if answer is not None:
                return bool(answer())
        # A lock without an owner: it only tells whether it is held.
        if lock.acquire(False):
            lock.release()
            return False
        return True

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, sleep until notified, and acquire the lock again.

        Returns False if `timeout` seconds passed first. The lock is held afterwards, also if this raises,
        unless a second exception ends the wait for the lock.
        """
        assert self._is_owned(), "must acquire() condition before using wait()"
        lock = self._lock
        # Not for subclasses, which may override `acquire` and `release`.
        if type(lock) is RLock or type(lock) is Lock:
            return self._waiters.wait_under(lock, timeout)
        if hasattr(lock, "_release_save") and hasattr(lock, "_acquire_restore"):
            return self._waiters.wait(lock._release_save, lock._acquire_restore, None, timeout)
        count: Any = getattr(getattr(lock, "_semlock", lock), "_count", None)
        depth = max(1, count()) if callable(count) else 1  # pyright: ignore[reportArgumentType]
        return self._waiters.wait(lock.release, lock.acquire, depth, timeout)

    def wait_for(self, predicate: Callable[[], _Result], timeout: float | None = None) -> _Result:
        """Wait until the predicate is true or `timeout` seconds have passed; return its last result."""
        deadline = None if timeout is None else time.monotonic() + timeout
        result = predicate()
        while not result:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result

    def notify(self, n: int = 1) -> None:
        """Wake up to `n` waiters; the caller holds the lock."""
        assert self._is_owned(), "lock is not owned"
        self._waiters.notify(max(0, n))

    def notify_all(self) -> None:
        """Wake all waiters; the caller holds the lock."""
        self.notify(sys.maxsize)

    # The stdlib has three semaphores instead of a list of waiters, and its tests read them.
    @property
    def _sleeping_count(self) -> _Gauge:
        return _Gauge(self._waiters.count)

    @property
    def _woken_count(self) -> _Gauge:
        return _Gauge(lambda: 0)

    @property
    def _wait_semaphore(self) -> _Gauge:
        return _Gauge(lambda: 0)


class _Gauge:
    """A number with the methods of a semaphore."""

    def __init__(self, read: Callable[[], int]) -> None:
        self.get_value = self._get_value = read

    @property
    def _semlock(self) -> _Gauge:
        return self


class Event(_native.Event):
    """A flag that processes wait for."""

    def __init__(self, *, ctx: Any = None) -> None:
        _native.Event.__init__(self)

    def __getstate__(self) -> tuple[Any, ...]:
        return (hand_over(self.handle, self),)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._adopt(*state)

    def __repr__(self) -> str:
        flag = "set" if self.is_set() else "unset"
        return f"<{type(self).__qualname__} at {id(self):#x} {flag}>"


class Barrier(threading.Barrier):
    """A point that a fixed number of processes or threads pass together."""

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: Any = None,
    ) -> None:
        check_callable("action", action)
        seconds("timeout", timeout)
        # The base class only serves isinstance: its own state would exist in one process.
        self._gate = _native.Barrier(parties)
        self._action = action
        self._timeout = timeout

    def __getstate__(self) -> tuple[Any, ...]:
        return (hand_over(self._gate.handle, self), self._action, self._timeout)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        handle, self._action, self._timeout = state
        self._gate = _native.Barrier.__new__(_native.Barrier)
        self._gate._adopt(handle)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the others; return a different number from 0 to parties - 1 to each.

        Raises BrokenBarrierError if the barrier is broken or reset meanwhile, or after `timeout` seconds.
        """
        return self._gate.wait(self._timeout if timeout is None else timeout, self._action)

    def reset(self) -> None:
        """Empty and mend the barrier; waiting threads get `BrokenBarrierError`."""
        self._gate.reset()

    def abort(self) -> None:
        """Break the barrier: waiting threads, and later ones, get `BrokenBarrierError`."""
        self._gate.abort()

    @property
    def parties(self) -> int:
        """How many must arrive for the barrier to open."""
        return self._gate.parties

    @property
    def _parties(self) -> int:
        return self._gate.parties

    @property
    def n_waiting(self) -> int:
        """How many are waiting."""
        return self._gate.n_waiting

    @property
    def broken(self) -> bool:
        """Whether the barrier is broken."""
        return self._gate.broken
