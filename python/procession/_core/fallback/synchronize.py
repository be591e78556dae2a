"""The standard library's locks and semaphores, with this package's methods and arguments."""

from __future__ import annotations

from .._typing import Any
from ..stdlib import forward_other_names, load

_std: Any = load("synchronize")

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

Barrier = _std.Barrier
Condition = _std.Condition
Event = _std.Event

_ON_OWNER_DIED = ("raise", "hold")


class _WithLocked:
    """The method `locked`; the standard library's locks have it from Python 3.14 on."""

    _semlock: Any

    def locked(self) -> bool:
        """Return whether it cannot be acquired now."""
        return bool(self._semlock._is_zero())


class _WithOnOwnerDied(_WithLocked):
    def _make_methods(self) -> None:
        # The standard library's binds them to each object.
        super()._make_methods()  # type: ignore[misc]
        self._acquire = self.acquire
        self.acquire = self._acquire_whoever_died  # type: ignore[method-assign]

    def _acquire_whoever_died(
        self, block: bool = True, timeout: float | None = None, *, on_owner_died: str | None = None
    ) -> bool:
        """Acquire the lock. Never raises OwnerDied: the stdlib does not notice that an owner died."""
        if on_owner_died is not None and on_owner_died not in _ON_OWNER_DIED:
            raise ValueError(f"on_owner_died must be 'raise' or 'hold', not {on_owner_died!r}")
        return bool(self._acquire(block, timeout))

    def acquire(
        self, block: bool = True, timeout: float | None = None, *, on_owner_died: str | None = None
    ) -> bool:
        """Acquire the lock; False if the timeout passed first."""
        raise AssertionError("each object has its own acquire")


class Lock(_WithOnOwnerDied, _std.Lock):  # type: ignore[misc]
    """A lock that is not recursive; any thread of any process may release it."""


class RLock(_WithOnOwnerDied, _std.RLock):  # type: ignore[misc]
    """A lock that its owner may acquire again."""


class Semaphore(_WithLocked, _std.Semaphore):  # type: ignore[misc]
    """A counter that `acquire` lowers by one and `release` raises by one."""

    @property
    def maxvalue(self) -> int:
        """The largest value of the counter."""
        return int(self._semlock.maxvalue)


class BoundedSemaphore(_WithLocked, _std.BoundedSemaphore):  # type: ignore[misc]
    """A semaphore that refuses to rise above its first value."""

    maxvalue = Semaphore.maxvalue


forward_other_names(__name__, _std)
