"""The interface of processes on threads: the stdlib's `multiprocessing.dummy`, with our `ThreadPool`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import ModuleType

from .._core._typing import Any
from .._core.stdlib import forward_other_names, load
from . import connection  # noqa: F401

_std = load("dummy")

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "Queue",
    "RLock",
    "Semaphore",
    "active_children",
    "current_process",
    "freeze_support",
]

Barrier = _std.Barrier
BoundedSemaphore = _std.BoundedSemaphore
Condition = _std.Condition
Event = _std.Event
JoinableQueue = _std.JoinableQueue
Lock = _std.Lock
Pipe = _std.Pipe
Process = _std.Process
Queue = _std.Queue
RLock = _std.RLock
Semaphore = _std.Semaphore
active_children = _std.active_children
current_process = _std.current_process
freeze_support = _std.freeze_support


def Manager() -> ModuleType:
    """Return this module, which has all the names of a manager."""
    return sys.modules[__name__]


def Pool(
    processes: int | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
) -> Any:
    """Return a `ThreadPool`; without `processes`, it has one thread per processor."""
    from .. import pool

    return pool.ThreadPool(processes, initializer, initargs)


forward_other_names(__name__, _std)
