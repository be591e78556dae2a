"""Starting an interpreter that draws the same hashes of strings as this one.

Where sets and `hash(key) % n` were others in a child than in its parent, what a program divides by hash
would fall apart. The stdlib's `spawnv_passfds` cannot give a child an environment, which is all that this
adds. Where a tool (a profiler, say) has put its own function in that one's place, it starts the interpreter.
"""

from __future__ import annotations

import _posixsubprocess
import os
import sys
from collections.abc import Iterable, Sequence

from ... import _engine
from .._typing import Any
from ..stdlib import unpatched, util


def start_interpreter(command: Sequence[str | bytes], passed: Iterable[int]) -> int:
    """Start an interpreter that inherits these descriptors, and return its process id."""
    environment = None
    if unpatched(util, "spawnv_passfds") is not None:
        environment = _environment_for(command[0])
    if environment is None:
        return util.spawnv_passfds(command[0], command, passed)
    # The child writes an error of exec there, as with the stdlib for nobody to read: its exit code tells.
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
    return _engine.environment_of_same_hashes(os.fsdecode(executable))


def _vfork() -> tuple[bool, ...]:
    """The last argument of `fork_exec` until Python 3.13."""
    if sys.version_info >= (3, 14):
        return ()
    import subprocess

    return (subprocess._USE_VFORK,)


_VFORK = _vfork()
