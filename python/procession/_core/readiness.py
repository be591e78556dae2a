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
            ready = _asked(ends) | _selected(selector, 0.0)
            if ready or (timeout is not None and timeout <= 0):
                return _in_order(objects, ready)
            for end in ends:
                selector.register(end, selectors.EVENT_READ)
        while True:
            left = _LONGEST if deadline is None else min(max(deadline - time.monotonic(), 0.0), _LONGEST)
            ready = _selected(selector, left)
            if ready or (deadline is not None and time.monotonic() >= deadline):
                return _in_order(objects, ready)


def _can_tell(obj: Any) -> bool:
    if isinstance(obj, QueueReader):
        return not obj.closed
    return isinstance(obj, _engine.Channel) and not obj.closed and obj.readable


def _asked(objects: list[Any]) -> set[int]:
    return {id(obj) for obj in objects if obj.poll()}


def _selected(selector: selectors.BaseSelector, timeout: float) -> set[int]:
    found: list[Any] = [key.fileobj for key, _ in selector.select(timeout)]
    # Somebody else may have taken the message since: an end of a pipe, and a queue, has the last word.
    return {id(obj) for obj in found if not _can_tell(obj) or obj.poll()}


def _in_order(objects: list[Any], ready: set[int]) -> list[Any]:
    return [obj for obj in objects if id(obj) in ready]
