"""Waiting for several objects to become readable.

Ends of pipes and queues are polled in memory first. Their descriptors are used only when nothing is ready:
from then on, every message to them costs a system call.
"""

from __future__ import annotations

import math
import select
import time

from procession import _native

from .._typing import Any
from ..arguments import seconds
from .ends import QueueReader

__all__ = ["wait_for_readable"]

# The longest single poll, in seconds: poll(2) counts milliseconds in an int.
_LONGEST = 24 * 60 * 60.0

# How long an end is left alone whose descriptor is readable without a message, in seconds: its sender may be
# stopped.
_SHORTEST_PAUSE = 0.001
_LONGEST_PAUSE = 0.04


def wait_for_readable(objects: list[Any], timeout: float | None) -> list[Any]:
    """Wait until an object is readable; return those that are, in their order.

    Returns an empty list after `timeout` seconds; None waits for ever.
    """
    timeout = seconds("timeout", timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    ends: list[Any] = []
    watched = _Watched()
    for obj in objects:
        if _is_pollable(obj):
            ends.append(obj)
        else:
            watched.add(obj)
    if ends:
        ready = _ready_ends(ends)
        if watched:
            ready |= watched.ready(0.0)[0]
        if ready or (timeout is not None and timeout <= 0):
            return _in_order(objects, ready)
        for end in ends:
            watched.add(end)
    pause = _SHORTEST_PAUSE
    while True:
        ready, false_alarms = watched.ready(_left(deadline))
        if ready or (deadline is not None and time.monotonic() >= deadline):
            return _in_order(objects, ready)
        if false_alarms:
            ends = [watched.drop(fd) for fd in false_alarms]
            ready, _ = watched.ready(min(pause, _left(deadline)))
            ready |= _ready_ends(ends)
            if ready:
                return _in_order(objects, ready)
            for end in ends:
                watched.add(end)
            pause = min(pause * 2, _LONGEST_PAUSE)


def _left(deadline: float | None) -> float:
    return _LONGEST if deadline is None else min(max(deadline - time.monotonic(), 0.0), _LONGEST)


def _is_pollable(obj: Any) -> bool:
    if isinstance(obj, _native.Channel):
        return not obj.closed and obj.readable
    return isinstance(obj, QueueReader) and not obj.closed


def _ready_ends(objects: list[Any]) -> set[int]:
    return {id(obj) for obj in objects if obj.poll()}


def _in_order(objects: list[Any], ready: set[int]) -> list[Any]:
    return [obj for obj in objects if id(obj) in ready] if ready else []


class _Watched(dict[int, Any]):
    """Objects by their descriptors, which are polled. Raises the errors of the stdlib's selectors."""

    def __init__(self) -> None:
        self._poll = select.poll()

    def add(self, obj: Any) -> None:
        """Watch one more object."""
        fd = _descriptor_of(obj)
        if fd in self:
            raise KeyError(f"{obj!r} (FD {fd}) is already registered")
        self._poll.register(fd, select.POLLIN)
        self[fd] = obj

    def drop(self, fd: int) -> Any:
        """Stop watching a descriptor; return its object."""
        self._poll.unregister(fd)
        return self.pop(fd)

    def ready(self, timeout: float) -> tuple[set[int], list[int]]:
        """Wait up to `timeout` seconds; return the ids of ready objects, and descriptors of false alarms.

        A false alarm is an end whose descriptor is readable while `poll` finds no message: another process
        has taken the message, or has not finished writing it.
        """
        found, false_alarms = set(), []
        for fd, _ in self._poll.poll(math.ceil(timeout * 1000)):
            obj = self[fd]
            if _is_pollable(obj) and not obj.poll():
                false_alarms.append(fd)
            else:
                found.add(id(obj))
        return found, false_alarms


def _descriptor_of(obj: Any) -> int:
    try:
        fd = obj if isinstance(obj, int) else int(obj.fileno())
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"Invalid file object: {obj!r}") from None
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return fd
