"""A child that begins as a fresh interpreter.

Its seat in the engine is reserved before anything is pickled, so that what is pickled for the child already
belongs to it too; a start that fails gives the seat back, and with it everything the child was to hold.
"""

from __future__ import annotations

import os

from . import _native, popen_fork, spawn
from ._core import sentinels
from ._core.hints import Any
from ._core.interpreters import start_interpreter
from ._core.payload import pack
from ._core.standard_io import STANDARD_NUMBERS
from ._core.stdlib import util
from ._core.ties import passed_lifeline
from ._core.tracker import passed_tracker

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
        self._lent: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Make a descriptor of this process exist in the child, and return its number there."""
        if fd in STANDARD_NUMBERS:
            # In the child that is its standard input or output, which it may close.
            fd = os.dup(fd)
            self._lent.append(fd)
        self._fds.append(fd)
        return fd

    def _launch(self, process_obj: Any) -> None:
        seat = self.seat = _native.reserve_entry()
        lent = self._lent
        try:
            lent.append(payload := pack(process_obj, self))
            lent.append(parent := sentinels.of_this_process())
            line = sentinels.line_if_needed()
            try:
                with passed_lifeline(process_obj) as lifeline:
                    end = None if line is None else line.write
                    pid = self._execute(seat, payload, parent, lifeline, end)
            except BaseException:
                if line is not None:
                    line.failed()
                raise
        except BaseException:
            _native.release_entry(seat)
            raise
        finally:
            util.close_fds(*lent)
        _native.set_pid(seat, pid)
        self._watch(pid, line)

    def _execute(self, seat: int, payload: int, parent: int, lifeline: int | None, end: int | None) -> int:
        arena, (tracker, *pending) = _native.arena_fd(), passed_tracker()
        passed = [*self._fds, payload, parent, arena, tracker, *pending]
        passed += [fd for fd in (lifeline, end) if fd is not None]
        arguments = {} if end is None else {"end": end}
        arguments.update(zip(("tracker_read", "tracker_token"), pending, strict=False))
        command = spawn.get_command_line(
            pipe_handle=payload,
            arena=arena,
            seat=seat,
            parent=parent,
            lifeline=lifeline,
            tracker_fd=tracker,
            **arguments,
        )
        return start_interpreter(command, passed)
