"""Locks of a manager's server that can say whether they are held.

Python 3.14 taught the locks and conditions of `threading` to say so, but not the semaphores.
"""

from __future__ import annotations

import threading

from .._typing import Any

__all__ = ["BoundedSemaphore", "Condition", "RLock", "Semaphore", "with_locked"]


_RLock: Any = type(threading.RLock())


class RLock(_RLock):
    """A recursive lock of threads."""

    def locked(self) -> bool:
        """Return whether some thread holds it."""
        # An attempt to acquire it could be in the way of another thread's; there is nothing else to ask.
        return not repr(self).startswith("<unlocked")


class Condition(threading.Condition):
    """A condition variable of threads."""

    _lock: Any

    def __init__(self, lock: Any = None) -> None:
        super().__init__(RLock() if lock is None else lock)

    def locked(self) -> bool:
        """Return whether some thread holds its lock."""
        return self._lock.locked()


class Semaphore(threading.Semaphore):
    """A semaphore of threads."""

    def locked(self) -> bool:
        """Return whether there is nothing left to acquire."""
        return self._value == 0


class BoundedSemaphore(threading.BoundedSemaphore, Semaphore):
    """A semaphore of threads that refuses to rise above its first value."""


def with_locked(name: str) -> Any:
    """Return what `threading` has under this name if it can say whether it is held, or else the one here."""
    theirs = getattr(threading, name)
    return theirs if hasattr(theirs(), "locked") else globals()[name]
