"""Starting an interpreter with the same string hashes as this one.

If `hash(key) % n`, or the order of a set, differed between a child and its parent, programs that divide work
by hash would break. The hash seed travels in the environment, and the stdlib's `spawnv_passfds` cannot give a
child an environment; this module adds that. Where a tool (a profiler, for example) has replaced
`spawnv_passfds`, the tool's function starts the interpreter.
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
    return _engine.environment_of_same_hashes(os.fsdecode(executable))


def _vfork() -> tuple[bool, ...]:
    """The last argument of `fork_exec` until Python 3.13."""
    if sys.version_info >= (3, 14):
        return ()
    import subprocess

    return (subprocess._USE_VFORK,)


_VFORK = _vfork()
