"""A thread that looks for what will never end, and says so before anybody asks."""

from __future__ import annotations

import os
import sys
import threading

from procession import _engine

from . import diagnosis

__all__ = ["VARIABLE", "debug_watch", "watch_as_environment_says"]

VARIABLE = "PROCESSION_DEBUG_WATCH"
EVERY = 10.0


def watch_as_environment_says() -> None:
    """Begin, in the first process of the program that was told to; one for the whole tree is enough."""
    text = os.environ.pop(VARIABLE)
    try:
        every = float(text or EVERY)
    except ValueError:
        every = 0.0
    if not 0 < every < threading.TIMEOUT_MAX:
        raise ValueError(f"{VARIABLE} must be a number of seconds, such as 10, not {text!r}")
    debug_watch(every)


def debug_watch(every: float = EVERY) -> None:
    """See `procession.debug_watch`."""
    if not 0 < every < threading.TIMEOUT_MAX:
        raise ValueError(f"every must be a positive number of seconds, not {every!r}")
    # A daemon: it has nothing to finish.
    threading.Thread(target=_watch, args=(every,), name="procession.debug_watch", daemon=True).start()


def _watch(every: float) -> None:
    pause = threading.Event()
    seen: set[str] = set()
    told: set[str] = set()
    while not pause.wait(every):
        found = _findings()
        # What is found once may be over the next moment; what is found twice is told once.
        if new := (found & seen) - told:
            told |= new
            diagnosis.debug_dump(sys.stderr)
        seen = found


def _findings() -> set[str]:
    _engine.ensure()
    _, findings = _engine.report()
    return set(findings)
