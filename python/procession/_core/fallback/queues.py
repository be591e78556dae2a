"""The standard library's queues, with `put_many` and `get_many` done message by message."""

from __future__ import annotations

import time
from collections.abc import Iterable
from queue import Empty, Full

from .._typing import Any
from ..stdlib import forward_other_names, load

_std: Any = load("queues")

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]

SimpleQueue = _std.SimpleQueue


class _BatchMethods:
    """Putting and getting several objects in one call."""

    put: Any
    get: Any

    def put_many(self, objs: Iterable[Any], block: bool = True, timeout: float | None = None) -> None:
        """Put each object of an iterable in. The attribute `put` of `queue.Full` says how many went in."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for number, obj in enumerate(objs):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                self.put(obj, block, left)
            except Full as full:
                full.put = number  # type: ignore[attr-defined]
                raise

    def put_many_nowait(self, objs: Iterable[Any]) -> None:
        """`put_many` without waiting."""
        self.put_many(objs, False)

    def get_many(
        self, block: bool = True, timeout: float | None = None, max_messages_to_get: int | None = None
    ) -> list[Any]:
        """Wait for the first object; return it and those that follow at once, in a list."""
        if max_messages_to_get == 0:
            return []
        taken = [self.get(block, timeout)]
        while max_messages_to_get is None or len(taken) < max_messages_to_get:
            try:
                taken.append(self.get(False))
            except Empty:
                break
        return taken

    def get_many_nowait(self, max_messages_to_get: int | None = None) -> list[Any]:
        """`get_many` without waiting."""
        return self.get_many(False, None, max_messages_to_get)


class Queue(_BatchMethods, _std.Queue):  # type: ignore[misc]
    """A queue for many producers and many consumers, unbounded unless `maxsize` is positive."""


class JoinableQueue(_BatchMethods, _std.JoinableQueue):  # type: ignore[misc]
    """A queue that counts the messages that are not reported as done."""


forward_other_names(__name__, _std)
