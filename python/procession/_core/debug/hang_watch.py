"""A thread that looks for waits that will never end, and reports them unasked."""

from __future__ import annotations

import os
import sys
import threading
import time

from _procession_alias import variable

from ..arguments import seconds
from ..fallback import choice
from . import diagnosis

__all__ = ["VARIABLE", "debug_watch", "watch_as_environment_says"]

VARIABLE = "PROCESSION_DEBUG_WATCH"
DEFAULT_INTERVAL = 10.0


def watch_as_environment_says(load: diagnosis.Load) -> None:
    """Start the watch if the environment says so; only in the first process, which watches the whole tree."""
    text = variable(VARIABLE)
    os.environ.pop(VARIABLE)
    if choice.reason is not None or text is None:
        return
    try:
        debug_watch(load, float(text or DEFAULT_INTERVAL))
    except ValueError:
        raise ValueError(f"{VARIABLE} must be a number of seconds, such as 10, not {text!r}") from None


def debug_watch(load: diagnosis.Load, every: float = DEFAULT_INTERVAL) -> None:
    """See `procession.debug_watch`."""
    if choice.reason is not None:
        raise choice.needs_engine("debug_watch")
    if not 0 < (seconds("every", every) or 0) < threading.TIMEOUT_MAX:
        raise ValueError(f"every must be a positive number of seconds, not {every!r}")
    diagnosis.record_origins(load)
    # A daemon thread: it has nothing to finish.
    threading.Thread(target=_watch, args=(every,), name="procession.debug_watch", daemon=True).start()


def _watch(every: float) -> None:
    from procession import _native

    _native.ensure_registered()
    seen: set[str] = set()
    reported: set[str] = set()
    while True:
        time.sleep(every)
        found = set(_native.report()[1])
        # A finding may be over a moment later: report it when it is found twice, and only once.
        if new := (found & seen) - reported:
            reported |= new
            diagnosis.debug_dump(sys.stderr)
        seen = found
