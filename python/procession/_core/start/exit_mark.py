"""The orderly exit: end what this process has started, then mark in the engine that it exits on purpose.

The engine treats a process that vanished without the mark as died: the next process to acquire one of its
locks gets `OwnerDied`. So the mark is the last step of a process, after it has joined its children and run
its finalizers and exit handlers. `os._exit`, exec and signals leave no mark and count as deaths.
"""

from __future__ import annotations

import atexit

from procession import _native

from ..stdlib import process, util

__all__ = ["exit_function", "mark_at_interpreter_exit", "register_alone", "unregister"]


def exit_function() -> None:
    """Like the stdlib's exit function, except that daemons live until the other children have ended.

    Daemons may serve the other children.
    """
    others = [child for child in process.active_children() if not child.daemon]
    if others and len(others) < len(process._children):
        # The stdlib's own first step, which it then finds done.
        util._run_finalizers(0)
        for child in others:
            child.join()
    util._exit_function()


def mark_at_interpreter_exit() -> None:
    """Register the exit function and, after it, the mark (the last registered runs first)."""
    atexit.unregister(util._exit_function)
    atexit.register(_native.mark_exit)
    atexit.register(exit_function)


def unregister() -> None:
    """Remove all exit handlers: those registered from here on are for the children of this process."""
    atexit._clear()


def register_alone() -> None:
    """Remove all exit handlers except these two."""
    atexit._clear()
    mark_at_interpreter_exit()
