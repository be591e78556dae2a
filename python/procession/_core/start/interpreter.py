"""Starting an interpreter as a child or a server: its command line, its environment, and the start itself.

The command line carries this package's own path, because an interpreter started with -S or -I has no
site-packages to find the package in.

The environment carries the hash seed. If `hash(key) % n`, or the order of a set, differed between a child and
its parent, programs that divide work by hash would break. The stdlib's `spawnv_passfds` cannot give a child
an environment; `start_interpreter` can. Where a tool (a profiler, for example) has replaced `spawnv_passfds`,
the tool's function starts the interpreter.
"""

from __future__ import annotations

import _posixsubprocess
import os
import sys
from collections.abc import Iterable, Sequence

import _procession_alias

from ... import _native
from .._typing import Any
from ..stdlib import load, unpatched, util
from . import main_program

__all__ = ["frozen_command", "interpreter_command", "package_import", "start_interpreter"]

# The folder that has the package.
_HOME = os.path.abspath(__file__)
for _ in range(4):
    _HOME = os.path.dirname(_HOME)


def package_import(statement: str) -> str:
    """Return a program text that runs an import from this package, with the alias if it is on.

    An interpreter started with -S or -I finds neither by itself. Empty entries of `sys.path`, which mean the
    working directory, are dropped: the directory may be gone, or have modules of the same names. The garbage
    collector is off until `procession.spawn.freeze_gc`: nothing is garbage before the program begins.
    """
    alias = (
        "import _procession_alias; _procession_alias.activate(); " if _procession_alias.is_active() else ""
    )
    return (
        f"import gc, sys; gc.disable(); sys.path = [*filter(None, sys.path), {_HOME!r}]; {alias}{statement}"
    )


def interpreter_command() -> list[str]:
    """Return the interpreter and its options for a program text, as this process has them."""
    options = util._args_from_interpreter_flags()
    if not main_program.has_directory() and "-P" not in options:
        # Python 3.13.0 looks into the working directory for each name that a module lacks.
        options = [*options, "-P"]
    return [load("spawn").get_executable(), *options, "-c"]


def frozen_command(*arguments: str) -> list[str]:
    """Return the command line by which a frozen program starts itself; `freeze_support` reads it."""
    return [load("spawn").get_executable(), *arguments]


def start_interpreter(command: Sequence[str | bytes], passed: Iterable[int]) -> int:
    """Start an interpreter that inherits these descriptors, and return its process id."""
    environment = None
    if unpatched(util, "spawnv_passfds") is not None:
        environment = _environment_for(command[0])
    if environment is None:
        pid: int = util.spawnv_passfds(command[0], command, passed)
        return pid
    # The child writes an error of exec there. As in the stdlib, the text is not read: the exit code tells.
    read, write = os.pipe()
    try:
        given: tuple[Any, ...] = (
            command, [os.fsencode(command[0])], True, tuple(sorted(passed)), None, environment,
            -1, -1, -1, -1, -1, -1, read, write,
            False, False, -1, None, None, None, -1, None, *_VFORK,
        )  # fmt: skip
        return _posixsubprocess.fork_exec(*given)
    finally:
        util.close_fds(read, write)


def _environment_for(executable: str | bytes) -> list[bytes] | None:
    if getattr(sys, "frozen", False) or not sys.flags.hash_randomization:
        return None
    return _native.environment_of_same_hashes(os.fsdecode(executable))


def _vfork() -> tuple[bool, ...]:
    """The last argument of `fork_exec` until Python 3.13."""
    if sys.version_info >= (3, 14):
        return ()
    import subprocess

    return (subprocess._USE_VFORK,)


_VFORK = _vfork()
