"""A forked child from its first step to its last, with as little Python code as possible.

Every object that a forked child touches, even to count a reference, has its memory page copied: that is most
of the cost of a start. The stdlib's `BaseProcess._bootstrap` and `util._exit_function` are general: they
import modules and look for things that are seldom there. The functions here do the same steps for the usual
case. A process class with a `_bootstrap` or an `_after_fork` of its own gets the stdlib's, and so do all
processes where a tool (coverage, a profiler) has wrapped these functions, before or after this package was
imported.
"""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import threading
from collections.abc import Callable

from procession import _native

from .._typing import Any, NoReturn
from ..stdlib import context, process, unpatched, util
from .exit_mark import exit_function
from .parent_death import dies_with_parent
from .running import exit_code, report_error, run_bootstrap

__all__ = ["reap_incomplete_child", "release_forked_entry", "run_forked_child"]

_thread: Any = threading
_exit_handlers: Any = atexit


_bootstrap = unpatched(process, "BaseProcess._bootstrap")
_after_fork = unpatched(process, "BaseProcess._after_fork")
_exit_function = unpatched(util, "_exit_function")

# Whether `_run` below matches the `_bootstrap` of this Python.
_IS_KNOWN = sys.version_info < (3, 16)

# A process object, and the sentinel of its parent.
Role = tuple[Any, int]


def release_forked_entry() -> None:
    """Release the entry that was reserved for a child, after a fork that failed."""
    if (proc_id := _native.forked_child()) is not None:
        _native.release_entry(proc_id)


def reap_incomplete_child(pid: int, proc_id: int | None) -> None:
    """Reap a child that could not take over what its parent holds: it exits at once."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # SIGCHLD is ignored.
    if proc_id is not None:
        _native.reap(proc_id)


def _is_whole() -> bool:
    """Return whether a new child holds all that its parent holds; if not, the parent raises the reason."""
    try:
        _native.check_fork()
    except (MemoryError, OSError, RuntimeError):
        return False
    return True


def run_forked_child(process_obj: Any, parent: int, find_role: Callable[[], Role] | None = None) -> NoReturn:
    """Run the child that a process object stands for; `find_role` returns it where it is not known yet."""
    code = 1
    try:
        if not _is_whole():
            os._exit(code)
        if find_role is not None:
            _native.drop_parent_links()
            process_obj, parent = find_role()
        else:
            # The child must not run its parent's exit handlers.
            _exit_handlers._clear()
            if dies_with_parent(process_obj):
                _native.die_with_parent()
            else:
                _native.drop_parent_links()
        kind = type(process_obj)
        if _IS_KNOWN and kind._bootstrap is _bootstrap and kind._after_fork is _after_fork:
            code = _run(process_obj, parent)
        else:
            code = run_bootstrap(process_obj, parent)
    except Exception:
        sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType]
        sys.stderr.flush()
    finally:
        try:
            if _exit_handlers._ncallbacks():
                _exit_handlers._run_exitfuncs()
            # Last of all, as if it had been registered before all others.
            if (
                util._finalizer_registry
                or process._children
                or util._logger
                or util._exit_function is not _exit_function
            ):
                exit_function()
        finally:
            # Exit here in any case: the child must never go on as a copy of its parent.
            try:
                _native.mark_exit()
            finally:
                os._exit(code)


def _run(this: Any, parent: int) -> int:
    """`BaseProcess._bootstrap`, without its imports and its general cases."""
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
        code = exit_code(end)
    except BaseException:
        code = report_error(this)
    finally:
        _thread._shutdown()
        if util._logger:
            util.info(f"process exiting with exitcode {code}")
        util._flush_std_streams()
    return code
