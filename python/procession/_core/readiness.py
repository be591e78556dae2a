"""Waiting for several things to become readable.

Ends of pipes and queues are first asked directly. Only when nothing at all is ready are their descriptors
taken, since from then on every message to them costs a system call.
"""

from __future__ import annotations

import selectors
import time

from procession import _engine

from .arguments import seconds
from .hints import Any
from .queue_ends import QueueReader

__all__ = ["wait_for_readable"]

# poll(2) counts milliseconds in an int; longer waits are made of several.
_LONGEST = 24 * 60 * 60.0

# An end whose message is shown and not there is left alone for so many seconds: its sender may be stopped.
_SHORTEST_PAUSE = 0.001
_LONGEST_PAUSE = 0.04


def wait_for_readable(objects: list[Any], timeout: float | None) -> list[Any]:
    """Return the objects that are readable, in their order; wait up to `timeout` seconds for the first."""
    timeout = seconds("timeout", timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    ends = [obj for obj in objects if _can_tell(obj)]
    with selectors.PollSelector() as selector:
        for obj in objects:
            if not _can_tell(obj):
                selector.register(obj, selectors.EVENT_READ)
        if ends:
            ready = _asked(ends) | _selected(selector, 0.0)[0]
            if ready or (timeout is not None and timeout <= 0):
                return _in_order(objects, ready)
            for end in ends:
                selector.register(end, selectors.EVENT_READ)
        pause = _SHORTEST_PAUSE
        while True:
            ready, deceivers = _selected(selector, _left(deadline))
            if ready or (deadline is not None and time.monotonic() >= deadline):
                return _in_order(objects, ready)
            if deceivers:
                for end in deceivers:
                    selector.unregister(end)
                ready, _ = _selected(selector, min(pause, _left(deadline)))
                ready |= _asked(deceivers)
                if ready:
                    return _in_order(objects, ready)
                for end in deceivers:
                    selector.register(end, selectors.EVENT_READ)
                pause = min(pause * 2, _LONGEST_PAUSE)


def _left(deadline: float | None) -> float:
    return _LONGEST if deadline is None else min(max(deadline - time.monotonic(), 0.0), _LONGEST)


def _can_tell(obj: Any) -> bool:
    if isinstance(obj, QueueReader):
        return not obj.closed
    return isinstance(obj, _engine.Channel) and not obj.closed and obj.readable


def _asked(objects: list[Any]) -> set[int]:
    return {id(obj) for obj in objects if obj.poll()}


def _selected(selector: selectors.BaseSelector, timeout: float) -> tuple[set[int], list[Any]]:
    """Return what is ready, and which ends only their descriptors say are.

    Somebody else may have taken the message since, or has yet to write it: an end has the last word.
    """
    found: list[Any] = [key.fileobj for key, _ in selector.select(timeout)]
    deceivers = [obj for obj in found if _can_tell(obj) and not obj.poll()]
    return {id(obj) for obj in found} - {id(obj) for obj in deceivers}, deceivers


def _in_order(objects: list[Any], ready: set[int]) -> list[Any]:
    return [obj for obj in objects if id(obj) in ready]
