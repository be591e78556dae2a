"""A child that begins as a fresh interpreter."""

from __future__ import annotations

import os

from . import _native, popen_fork, spawn
from ._core._typing import Any
from ._core.start.interpreter import start_interpreter
from ._core.start.launched import LaunchedChild
from ._core.start.parent_death import dies_with_parent
from ._core.start.payload import pack
from ._core.start.tracker import passed_tracker
from ._core.system import sentinels
from ._core.system.fd import STANDARD_NUMBERS

__all__ = ["Popen"]


class _DupFd:
    """A descriptor that has the same number in the child."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def detach(self) -> int:
        return self.fd


class Popen(LaunchedChild, popen_fork.Popen):
    """One spawned child."""

    method = "spawn"
    DupFd = _DupFd

    def duplicate_for_child(self, fd: int) -> int:
        """Make a descriptor of this process exist in the child; return its number there."""
        if fd in STANDARD_NUMBERS:
            # In the child, this number is its standard input or output, which it may close.
            self._borrow(fd := os.dup(fd))
        self._fds.append(fd)
        return fd

    def _start(self, process_obj: Any, proc_id: int) -> tuple[int, sentinels.LivenessPipe | None]:
        with pack(process_obj, self) as payload:
            parent = self._borrow_sentinel()
            handshake, descriptors = _native.offer_handshake(proc_id, dies_with_parent(process_obj))
            self._borrow(*descriptors)
            pipe = sentinels.pipe_if_needed()
            try:
                return self._execute(payload.fileno(), parent, handshake, descriptors, pipe), pipe
            except BaseException:
                if pipe is not None:
                    pipe.failed()
                raise

    def _execute(
        self,
        payload: int,
        parent: int,
        handshake: str,
        descriptors: list[int],
        pipe: sentinels.LivenessPipe | None,
    ) -> int:
        tracker, *pending = passed_tracker()
        passed = [*self._fds, payload, parent, *descriptors, tracker, *pending]
        optional: dict[str, int] = dict(zip(("tracker_read", "tracker_token"), pending, strict=False))
        if pipe is not None:
            passed.append(pipe.write)
            optional["end"] = pipe.write
        command = spawn.get_command_line(
            pipe_handle=payload, handshake=handshake, parent=parent, tracker_fd=tracker, **optional
        )
        return start_interpreter(command, passed)

    def _take_charge(self, started: tuple[int, sentinels.LivenessPipe | None]) -> None:
        pid, pipe = started
        assert self.proc_id is not None
        _native.set_pid(self.proc_id, pid)
        self._watch(pid, pipe)
