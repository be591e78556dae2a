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
from ._core import TYPE_CHECKING
from ._core._typing import Any
from ._core.start.payload import unpack
from ._core.start.running import run_bootstrap
from ._core.start.tracker import adopt_tracker
from ._core.stdlib import forward_other_names, load

if TYPE_CHECKING:
    from multiprocessing.spawn import get_executable as get_executable
    from multiprocessing.spawn import get_preparation_data as get_preparation_data
    from multiprocessing.spawn import import_main_path as import_main_path
    from multiprocessing.spawn import set_executable as set_executable

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


def get_command_line(**kwds: int | str | None) -> list[str]:
    """Return the command line of a child that calls `spawn_main` with these arguments."""
    from ._core.start import interpreter

    if getattr(sys, "frozen", False):
        return interpreter.frozen_command(_CHILD_FLAG, *(f"{name}={value}" for name, value in kwds.items()))
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
        arguments: dict[str, Any] = {name: _parsed(name, value) for name, value in given}
        spawn_main(**arguments)
        sys.exit()
    if sys.argv[1:2] == [SERVER_FLAG]:
        from . import forkserver

        control, config_fd, handshake = sys.argv[2:]
        forkserver.main(int(control), int(config_fd), handshake)
        sys.exit()
    # The resource tracker is the stdlib's.
    _std.freeze_support()


def _parsed(name: str, value: str) -> int | str | None:
    """Return an argument of `spawn_main` from the command line of a frozen program."""
    if value == "None":
        return None
    return value if name == "handshake" else int(value)


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
    handshake: str | None = None,
    parent: int | None = None,
    end: int | None = None,
    tracker_read: int | None = None,
    tracker_token: int | None = None,
) -> None:
    """The main function of a spawned child: `pipe_handle` has its payload, `parent` is its parent's sentinel.

    Where there are no pidfds, `end` is the writing end of its liveness pipe. Without a handshake, the child
    was started by the stdlib's protocol, and runs the stdlib's function.
    """
    if handshake is None or parent is None:
        _std.spawn_main(pipe_handle, parent_pid, tracker_fd)
        return
    assert is_forking(sys.argv), "Not forking"
    _native.fill_standard_numbers()
    freeze_gc()
    join_tree(handshake)
    tracker = [fd for fd in (tracker_fd, tracker_read, tracker_token) if fd is not None]
    for fd in (parent, *tracker):
        os.set_inheritable(fd, False)
    if end is not None:
        from ._core.system.sentinels import keep_own_pipe

        keep_own_pipe(end)
    adopt_tracker(tracker)
    sys.exit(_run(pipe_handle, parent))


def join_tree(handshake: str) -> None:
    """In a new interpreter: join its parent's process tree. Raises RuntimeError if the versions differ."""
    if _native.answer_handshake(handshake) is None:
        raise RuntimeError(
            f"the package procession of {sys.executable} does not understand how it was started; "
            "use one version of Procession in all processes of a tree"
        )


def _run(fd: int, parent_sentinel: int) -> int:
    """Load the process object from `fd` and run it; return the exit code."""
    return run_bootstrap(unpack(fd), parent_sentinel)


forward_other_names(__name__, _std)
