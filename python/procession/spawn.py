"""Starting a process as a fresh interpreter: its command line, and its first steps.

The preparation data and the path of the executable are the stdlib's (its names are forwarded), because
libraries add to them there. The command line itself is made in `_core/start/interpreter.py`.
"""

from __future__ import annotations

import gc
import os
import sys

import _procession_alias

from . import _native
from ._core._typing import Any
from ._core.start.payload import unpack
from ._core.start.running import run_bootstrap
from ._core.start.tracker import adopt_tracker
from ._core.stdlib import forward_other_names, load

_std = load("spawn")

# The stdlib's forwarded names are public too.
__all__ = ["spawn_main", *_std.__all__]

_CHILD_FLAG = "--multiprocessing-fork"
# The flag of the fork server of a frozen program.
SERVER_FLAG = "--multiprocessing.forkserver"


def freeze_gc() -> None:
    """Exclude the objects of a new interpreter from garbage collection, and turn that on.

    Called when the modules that a start needs are loaded: they are never garbage.
    """
    gc.freeze()
    gc.enable()


def get_command_line(**kwds: int | None) -> list[str]:
    """Return the command line of a child that calls `spawn_main` with these arguments."""
    from ._core.start import interpreter

    if getattr(sys, "frozen", False):
        return interpreter.frozen_command(_CHILD_FLAG, *(f"{name}={value!r}" for name, value in kwds.items()))
    arguments = ", ".join(f"{name}={value!r}" for name, value in kwds.items())
    program = interpreter.package_import(f"from procession.spawn import spawn_main; spawn_main({arguments})")
    return [*interpreter.interpreter_command(), program, _CHILD_FLAG]


def is_forking(argv: list[str]) -> bool:
    """Return whether this is the command line of a child."""
    return argv[1:2] == [_CHILD_FLAG]


def freeze_support() -> None:
    """Run the child or the server and exit, if a frozen program has started itself as one."""
    if is_forking(sys.argv) or sys.argv[1:2] == [SERVER_FLAG]:
        _refuse_if_elevated()
    if is_forking(sys.argv):
        given = (argument.split("=") for argument in sys.argv[2:])
        arguments: dict[str, Any] = {n: None if value == "None" else int(value) for n, value in given}
        spawn_main(**arguments)
        sys.exit()
    if sys.argv[1:2] == [SERVER_FLAG]:
        from . import forkserver

        forkserver.main(*map(int, sys.argv[2:]))
        sys.exit()
    # The resource tracker is the stdlib's.
    _std.freeze_support()


def _refuse_if_elevated() -> None:
    """Exit if this program has rights that its starter may lack: it must not run code from a descriptor."""
    if _procession_alias.is_elevated():
        sys.exit(
            "procession: this program has rights that its starter may lack (it is setuid or setgid, or its "
            "file has capabilities), so it runs no code sent to it; its processes can be started by fork"
        )


def spawn_main(
    pipe_handle: int,
    parent_pid: int | None = None,
    tracker_fd: int | None = None,
    *,
    arena: int | None = None,
    proc_id: int | None = None,
    parent: int | None = None,
    lifeline: int | None = None,
    end: int | None = None,
    tracker_read: int | None = None,
    tracker_token: int | None = None,
) -> None:
    """The main function of a spawned child: `pipe_handle` has its payload, `parent` is its parent's sentinel.

    Where there are no pidfds, `end` is the writing end of its liveness pipe. Without an arena, the child was
    started by the stdlib's protocol, and runs the stdlib's function.
    """
    if arena is None or proc_id is None or parent is None:
        _std.spawn_main(pipe_handle, parent_pid, tracker_fd)
        return
    assert is_forking(sys.argv), "Not forking"
    tracker = [fd for fd in (tracker_fd, tracker_read, tracker_token) if fd is not None]
    for fd in (arena, parent, *tracker):
        os.set_inheritable(fd, False)
    _native.fill_standard_numbers()
    freeze_gc()
    _native.enter(arena, proc_id)
    if end is not None:
        from ._core.system.sentinels import keep_own_pipe

        keep_own_pipe(end)
    if lifeline is not None:
        _native.die_with_parent(lifeline)
        os.close(lifeline)
    adopt_tracker(tracker)
    sys.exit(_run(pipe_handle, parent))


def _run(fd: int, parent_sentinel: int) -> int:
    """Load the process object from `fd` and run it; return the exit code."""
    return run_bootstrap(unpack(fd), parent_sentinel)


forward_other_names(__name__, _std)
