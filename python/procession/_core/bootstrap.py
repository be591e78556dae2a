"""A forked child from its first step to its last, with as little Python as that takes.

Every object that a forked child touches, be it to count one more reference, has its page copied: that is
most of what a start costs. The stdlib's `BaseProcess._bootstrap` and `util._exit_function` are general: they
import, they look for what may not be there. What is here does the same for the usual case, step by step. A
process class, or a library, with a `_bootstrap` or an `_after_fork` of its own gets the stdlib's.
"""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import threading
from collections.abc import Callable

from procession import _engine

from .hints import Any, NoReturn
from .stdlib import context, process, util
from .ties import is_tied

__all__ = ["release_forked_seat", "run_forked_child"]

_thread: Any = threading
_exit_handlers: Any = atexit
_Base: Any = process.BaseProcess

_bootstrap, _after_fork = _Base._bootstrap, _Base._after_fork

# The versions of Python whose `_bootstrap` is known here.
_IS_KNOWN = (3, 13) <= sys.version_info < (3, 15)

# Since 3.13 a forked child runs the exit handlers it registered itself; before, it ran none,
# and the stdlib's `_bootstrap` called `util._exit_function`.
_CHILDREN_RUN_EXIT_HANDLERS = sys.version_info >= (3, 13)

# A process object, and the descriptor that tells of its parent's end.
Role = tuple[Any, int]


def release_forked_seat() -> None:
    """Give back the child's seat, which was reserved before the fork failed."""
    if (seat := _engine.forked_seat()) is not None:
        _engine.release_seat(seat)


def run_forked_child(process_obj: Any, parent: int, find_role: Callable[[], Role] | None = None) -> NoReturn:
    """Be the child that a process object stands for, which may have to be found out first."""
    code = 1
    try:
        if _CHILDREN_RUN_EXIT_HANDLERS:
            # The parent's exit handlers are not the child's to run.
            _exit_handlers._clear()
        if find_role is not None:
            process_obj, parent = find_role()
        elif is_tied(process_obj):
            _engine.hang_on()
        kind = type(process_obj)
        if _IS_KNOWN and kind._bootstrap is _bootstrap and kind._after_fork is _after_fork:
            code = _run(process_obj, parent)
        else:
            code = process_obj._bootstrap(parent)
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        try:
            if _CHILDREN_RUN_EXIT_HANDLERS:
                if _exit_handlers._ncallbacks():
                    _exit_handlers._run_exitfuncs()
                # Last of all, as if it had been registered before all others.
                if util._finalizer_registry or process._children or util._logger:
                    util._exit_function()
        finally:
            _engine.leave()
            os._exit(code)


def _run(this: Any, parent: int) -> int:
    """`BaseProcess._bootstrap` of Python 3.13 and 3.14, without its imports."""
    code = 1
    try:
        if this._start_method is not None:
            context._default_context._actual_context = context._concrete_contexts[this._start_method]
        process._process_counter = itertools.count(1)
        process._children = set()
        util._close_stdin()
        process._current_process = this
        process._parent_process = process._ParentProcess(this._parent_name, this._parent_pid, parent)
        _thread.main_thread()._set_native_id()
        util._finalizer_registry.clear()
        if util._afterfork_registry.data:
            util._run_after_forkers()
        if util._logger:
            util.info("child process calling self.run()")
        this.run()
        code = 0
    except SystemExit as end:
        if end.code is None:
            code = 0
        elif isinstance(end.code, int):
            code = end.code
        else:
            sys.stderr.write(str(end.code) + "\n")
    except BaseException:
        import traceback

        sys.stderr.write(f"Process {this.name}:\n")
        traceback.print_exc()
    finally:
        _thread._shutdown()
        if util._logger:
            util.info(f"process exiting with exitcode {code}")
        util._flush_std_streams()
    return code
