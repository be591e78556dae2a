"""Locks of a manager's server with the method `locked`.

Python 3.14 gave it to the locks and conditions of `threading`, but not to the semaphores.
"""

from __future__ import annotations

import threading

from .._typing import Any

__all__ = ["BoundedSemaphore", "Condition", "RLock", "Semaphore", "with_locked"]


_RLock: Any = type(threading.RLock())


class RLock(_RLock):  # type: ignore[misc]
    """A recursive lock of threads."""

    def locked(self) -> bool:
        """Return whether some thread holds it."""
        # Trying to acquire it could disturb another thread; only the repr tells.
        return not repr(self).startswith("<unlocked")


class Condition(threading.Condition):
    """A condition variable of threads."""

    _lock: Any

    def __init__(self, lock: Any = None) -> None:
        super().__init__(RLock() if lock is None else lock)

    def locked(self) -> bool:
        """Return whether some thread holds its lock."""
        return bool(self._lock.locked())


class Semaphore(threading.Semaphore):
    """A semaphore of threads."""

    def locked(self) -> bool:
        """Return whether the counter is zero."""
        return self._value == 0


class BoundedSemaphore(threading.BoundedSemaphore, Semaphore):
    """A semaphore of threads that refuses to rise above its first value."""


def with_locked(name: str) -> Any:
    """Return the class of this name in `threading` if it has `locked`, else the one defined here."""
    theirs = getattr(threading, name)
    return theirs if hasattr(theirs(), "locked") else globals()[name]
