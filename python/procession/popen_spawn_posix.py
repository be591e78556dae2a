"""A child that begins as a fresh interpreter.

Its entry in the engine's process table is reserved before pickling, so that the child already holds the
objects that are pickled for it. A start that fails releases the entry, and with it all these holds.
"""

from __future__ import annotations

import os

from . import _native, popen_fork, spawn
from ._core._typing import Any
from ._core.start.interpreter import start_interpreter
from ._core.start.parent_death import passed_lifeline
from ._core.start.payload import pack
from ._core.start.tracker import passed_tracker
from ._core.stdlib import util
from ._core.system import sentinels
from ._core.system.fd import STANDARD_NUMBERS

__all__ = ["Popen"]


class _DupFd:
    """A descriptor that has the same number in the child."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def detach(self) -> int:
        return self.fd


class Popen(popen_fork.Popen):
    """One spawned child."""

    method = "spawn"
    DupFd = _DupFd

    def __init__(self, process_obj: Any) -> None:
        self._fds: list[int] = []
        self._borrowed: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Make a descriptor of this process exist in the child; return its number there."""
        if fd in STANDARD_NUMBERS:
            # In the child, this number is its standard input or output, which it may close.
            fd = os.dup(fd)
            self._borrowed.append(fd)
        self._fds.append(fd)
        return fd

    def _launch(self, process_obj: Any) -> None:
        proc_id = self.proc_id = _native.reserve_entry()
        borrowed = self._borrowed
        try:
            borrowed.append(payload := pack(process_obj, self))
            borrowed.append(parent := sentinels.of_this_process())
            pipe = sentinels.pipe_if_needed()
            try:
                with passed_lifeline(process_obj) as lifeline:
                    end = None if pipe is None else pipe.write
                    pid = self._execute(proc_id, payload, parent, lifeline, end)
            except BaseException:
                if pipe is not None:
                    pipe.failed()
                raise
        except BaseException:
            _native.release_entry(proc_id)
            raise
        finally:
            util.close_fds(*borrowed)
        _native.set_pid(proc_id, pid)
        self._watch(pid, pipe)

    def _execute(self, proc_id: int, payload: int, parent: int, lifeline: int | None, end: int | None) -> int:
        arena, (tracker, *pending) = _native.arena_fd(), passed_tracker()
        passed = [*self._fds, payload, parent, arena, tracker, *pending]
        passed += [fd for fd in (lifeline, end) if fd is not None]
        arguments = {} if end is None else {"end": end}
        arguments.update(zip(("tracker_read", "tracker_token"), pending, strict=False))
        command = spawn.get_command_line(
            pipe_handle=payload,
            arena=arena,
            proc_id=proc_id,
            parent=parent,
            lifeline=lifeline,
            tracker_fd=tracker,
            **arguments,
        )
        return start_interpreter(command, passed)
