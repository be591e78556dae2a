"""The orderly exit: ending what this process has started, and telling the engine that it ends on purpose.

The engine takes a process that vanished without the mark for a dead one (its locks become
`OwnerDied` for the next acquirer), so the mark is the last thing a process does: after joining its children,
its finalizers and its exit handlers. `os._exit`, exec and signals leave no mark and are deaths.
"""

from __future__ import annotations

import atexit

from procession import _engine

from ..stdlib import process, util

__all__ = ["exit_function", "mark_at_interpreter_exit", "register_alone", "unregister"]


def exit_function() -> None:
    """The stdlib's exit function, but daemons live until the other children, which they may serve, end."""
    others = [child for child in process.active_children() if not child.daemon]
    if others and len(others) < len(process._children):
        # The stdlib's order: what it does first, it finds done.
        util._run_finalizers(0)
        for child in others:
            child.join()
    util._exit_function()


def mark_at_interpreter_exit() -> None:
    """Register the mark to be made after the exit function (the last registered runs first)."""
    atexit.unregister(util._exit_function)
    atexit.register(_engine.leave)
    atexit.register(exit_function)


def unregister() -> None:
    """Take these two, and what others registered, off the list: what comes then is not for this process."""
    atexit._clear()


def register_alone() -> None:
    """From here on only these two are called at this process's end."""
    atexit._clear()
    mark_at_interpreter_exit()
