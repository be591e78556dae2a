"""Waiting for one descriptor."""

from __future__ import annotations

import math
import select
import time

from .arguments import seconds

__all__ = ["is_readable"]

# poll counts milliseconds in an int; longer waits are made of several.
_LONGEST_POLL_MS = 24 * 60 * 60 * 1000


def is_readable(fd: int, timeout: float | None) -> bool:
    """Whether `fd` becomes readable within `timeout` seconds; None waits for ever."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    if timeout is None:
        return bool(poller.poll())
    deadline = time.monotonic() + (seconds("timeout", timeout) or 0.0)
    while True:
        left_ms = max(0, math.ceil((deadline - time.monotonic()) * 1000))
        if poller.poll(min(left_ms, _LONGEST_POLL_MS)):
            return True
        if left_ms <= _LONGEST_POLL_MS and time.monotonic() >= deadline:
            return False
