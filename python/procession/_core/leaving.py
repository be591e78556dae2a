"""The orderly exit: telling the engine that a process ends on purpose.

The engine takes a process that vanished without the mark for a dead one (its locks become
`OwnerDied` for the next acquirer), so the mark is the last thing a process does: after joining its children,
its finalizers and its exit handlers. `os._exit`, exec and signals leave no mark and are deaths.
"""

from __future__ import annotations

import atexit
import os
import sys

from procession import _engine

from .hints import NoReturn
from .stdlib import util

__all__ = ["end_forked_child", "forget_inherited_exit_handlers", "mark_at_interpreter_exit"]

# Since 3.13 a forked child runs the exit handlers it registered itself; before, it ran none,
# and the stdlib's `_bootstrap` called `util._exit_function`.
_CHILDREN_RUN_EXIT_HANDLERS = sys.version_info >= (3, 13)


def mark_at_interpreter_exit() -> None:
    """Register the mark to be made after the stdlib's own exit function (the last registered runs first)."""
    atexit.unregister(util._exit_function)
    atexit.register(_engine.leave)
    atexit.register(util._exit_function)


def forget_inherited_exit_handlers() -> None:
    """In a forked child, first thing: the parent's exit handlers are not the child's to run."""
    if _CHILDREN_RUN_EXIT_HANDLERS:
        atexit._clear()
        atexit.register(util._exit_function)


def end_forked_child(code: int) -> NoReturn:
    """In a forked child, last thing."""
    try:
        if _CHILDREN_RUN_EXIT_HANDLERS:
            atexit._run_exitfuncs()
    finally:
        _engine.leave()
        os._exit(code)
