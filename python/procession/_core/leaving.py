"""The orderly exit: telling the engine that a process ends on purpose.

The engine takes a process that vanished without the mark for a dead one (its locks become
`OwnerDied` for the next acquirer), so the mark is the last thing a process does: after joining its children,
its finalizers and its exit handlers. `os._exit`, exec and signals leave no mark and are deaths.
"""

from __future__ import annotations

import atexit

from procession import _engine

from .stdlib import util

__all__ = ["mark_at_interpreter_exit"]


def mark_at_interpreter_exit() -> None:
    """Register the mark to be made after the stdlib's own exit function (the last registered runs first)."""
    atexit.unregister(util._exit_function)
    atexit.register(_engine.leave)
    atexit.register(util._exit_function)
