"""Starting a process as a fresh interpreter: its command line, and what it does first.

The preparation data and the path of the executable are the stdlib's (its names are forwarded), for other
libraries add to them there. The command line carries this package's own path, because an interpreter started
with -S or -I has no site-packages to find it in.
"""

from __future__ import annotations

import gc
import os
import sys

import _procession_alias

from . import _engine
from ._core.descriptors import fill_standard
from ._core.forwarding import forward_other_names
from ._core.hints import Any
from ._core.payload import unpack
from ._core.running import run_bootstrap
from ._core.stdlib import resource_tracker, util
from ._core.stdlib import spawn as _std

# The forwarded names of the stdlib belong to it too.
__all__ = ["spawn_main", *_std.__all__]

_CHILD_FLAG = "--multiprocessing-fork"


def package_import(statement: str) -> str:
    """A program text that runs an import from this package, and keeps up the alias if there is one.

    An interpreter started with -S or -I may find neither by itself. There is no garbage before the program
    begins; `settle` ends the truce.
    """
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    alias = (
        "import _procession_alias; _procession_alias.activate(); " if _procession_alias.is_active() else ""
    )
    return f"import gc, sys; gc.disable(); sys.path.append({home!r}); {alias}{statement}"


def settle() -> None:
    """In a new interpreter, with all loaded that a start takes: none of that will ever be garbage."""
    gc.freeze()
    gc.enable()


def get_command_line(**kwds: int | None) -> list[str]:
    """Return the command line of a child that calls `spawn_main` with these arguments."""
    if getattr(sys, "frozen", False):
        return [sys.executable, _CHILD_FLAG, *(f"{name}={value!r}" for name, value in kwds.items())]
    arguments = ", ".join(f"{name}={value!r}" for name, value in kwds.items())
    program = package_import(f"from procession.spawn import spawn_main; spawn_main({arguments})")
    return [_std.get_executable(), *util._args_from_interpreter_flags(), "-c", program, _CHILD_FLAG]


def is_forking(argv: list[str]) -> bool:
    """Whether this command line is a child's."""
    return argv[1:2] == [_CHILD_FLAG]


def freeze_support() -> None:
    """If this program was started as a child by its frozen self: run the child and exit."""
    if is_forking(sys.argv):
        given = (argument.split("=") for argument in sys.argv[2:])
        arguments: dict[str, Any] = {n: None if value == "None" else int(value) for n, value in given}
        spawn_main(**arguments)
        sys.exit()


def spawn_main(
    pipe_handle: int,
    arena: int,
    seat: int,
    parent: int,
    lifeline: int | None = None,
    tracker_fd: int | None = None,
) -> None:
    """The whole life of a spawned child: its payload is in `pipe_handle`, its parent's pidfd is `parent`."""
    assert is_forking(sys.argv), "Not forking"
    for fd in (arena, parent):
        os.set_inheritable(fd, False)
    fill_standard()
    settle()
    _engine.enter(arena, seat)
    if lifeline is not None:
        _engine.hang_on(lifeline)
        os.close(lifeline)
    resource_tracker._resource_tracker._fd = tracker_fd
    sys.exit(_main(pipe_handle, parent))


def _main(fd: int, parent_sentinel: int) -> int:
    """Load the process object from `fd`, run it, return the exit code."""
    return run_bootstrap(unpack(fd), parent_sentinel)


forward_other_names(__name__, _std)
