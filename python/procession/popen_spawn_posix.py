"""A child that begins as a fresh interpreter.

Its seat in the engine is reserved before anything is pickled, so that what is pickled for the child already
belongs to it too; a start that fails gives the seat back, and with it everything the child was to hold.
"""

from __future__ import annotations

import sys

from . import _engine, popen_fork, spawn
from ._core import sentinels
from ._core.hints import Any
from ._core.payload import pack
from ._core.stdlib import load, util
from ._core.ties import passed_lifeline

resource_tracker = load("resource_tracker")

__all__ = ["Popen"]


class _DupFd:
    """A descriptor that has the same number in the child."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def detach(self) -> int:
        return self.fd


def tracker_fd() -> int | None:
    """The resource tracker, where named things are in use: parent and child must have the same one."""
    tracker = resource_tracker._resource_tracker
    if tracker._fd is None and "multiprocessing.shared_memory" not in sys.modules:
        return None
    return tracker.getfd()


class Popen(popen_fork.Popen):
    """One spawned child."""

    method = "spawn"
    DupFd = _DupFd

    def __init__(self, process_obj: Any) -> None:
        self._fds: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Make a descriptor of this process exist in the child, under the same number."""
        self._fds.append(fd)
        return fd

    def _launch(self, process_obj: Any) -> None:
        seat = self.seat = _engine.reserve_seat()
        lent: list[int] = []
        try:
            lent.append(pack(process_obj, self))
            lent.append(sentinels.of_this_process())
            line = sentinels.line_if_needed()
            try:
                with passed_lifeline(process_obj) as lifeline:
                    end = None if line is None else line.write
                    pid = self._execute(seat, lent[0], lent[1], lifeline, end)
            except BaseException:
                if line is not None:
                    line.failed()
                raise
        except BaseException:
            _engine.release_seat(seat)
            raise
        finally:
            util.close_fds(*lent)
        _engine.note_pid(seat, pid)
        self._watch(pid, line)

    def _execute(self, seat: int, payload: int, parent: int, lifeline: int | None, end: int | None) -> int:
        arena, tracker = _engine.arena_fd(), tracker_fd()
        passed = [*self._fds, payload, parent, arena]
        passed += [fd for fd in (lifeline, tracker, end) if fd is not None]
        arguments = {} if end is None else {"end": end}
        command = spawn.get_command_line(
            pipe_handle=payload,
            arena=arena,
            seat=seat,
            parent=parent,
            lifeline=lifeline,
            tracker_fd=tracker,
            **arguments,
        )
        return util.spawnv_passfds(command[0], command, passed)
