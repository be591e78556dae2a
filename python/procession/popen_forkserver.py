"""A child that begins as a copy of the fork server.

It is a child of the server and not of this process. This process sees its end through its pidfd, or through
the server's report where the system refuses pidfds. The exit status comes from the server, and is unknown if
the server has died.
"""

from __future__ import annotations

import errno
import os
import threading

from . import _native, forkserver, popen_fork
from ._core._typing import Any
from ._core.start import forkserver_loop as forkserver_loop
from ._core.start.launched import LaunchedChild
from ._core.start.parent_death import dies_with_parent
from ._core.start.payload import pack
from ._core.start.tracker import passed_tracker
from ._core.system import sentinels
from ._core.system.sentinels import is_readable
from ._native import KnownFd

__all__ = ["Popen"]


class _DupFd:
    """A descriptor that the child finds among those it was given, by position."""

    def __init__(self, position: int) -> None:
        self.position = position

    def detach(self) -> int:
        inherited = forkserver.get_inherited_fds()
        assert inherited is not None, "not a child of the fork server"
        return inherited[self.position]


class Popen(LaunchedChild, popen_fork.Popen):
    """One child of the fork server."""

    method = "forkserver"
    DupFd = _DupFd

    def duplicate_for_child(self, fd: int) -> int:
        """Send a descriptor of this process to the child; return its position among those sent."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def _start(self, process_obj: Any, proc_id: int) -> tuple[forkserver_loop.Report, int]:
        with pack(process_obj, self) as payload:
            parent, lifeline = self._borrow_sentinel(), None
            if dies_with_parent(process_obj):
                self._borrow(lifeline := _native.lifeline_fd())
            return forkserver.connect_to_new_process(
                proc_id, payload.fileno(), parent, lifeline, passed_tracker(), self._fds
            )

    def _take_charge(self, started: tuple[forkserver_loop.Report, int]) -> None:
        report, reports = started
        self.pid = report.pid
        self._reports = KnownFd(reports)
        if report.pidfd is not None:
            self._own(KnownFd(report.pidfd), self._reports)
        else:
            # The server's report becomes readable when the child ends, like a pidfd.
            self._own(self._reports)
            if report.kind == forkserver_loop.ENDED:
                self._set_returncode(report.value)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit code, None while the child runs; wait for it if `flag` is 0."""
        # The kernel reports the end to the server alone.
        return self.wait(0 if flag == os.WNOHANG else None)

    def _ends_within(self, timeout: float) -> bool:
        if self._sentinel.is_open():
            return is_readable(self.sentinel, timeout)
        return sentinels.soon(self._is_gone, self._sentinel, timeout)

    def _is_gone(self) -> bool:
        return self.proc_id is None or _native.exit_state(self.proc_id) != "alive"

    def _collect_status(self) -> int | None:
        if self._reports.is_open():
            return forkserver_loop.read_end(self._reports.number)
        # The program has closed the socket, so the server cannot report.
        while not sentinels.soon(self._is_gone, self._sentinel, threading.TIMEOUT_MAX):
            pass
        return None

    def _kill(self, sig: int) -> None:
        """Signal the child by its pid, which is its own until the server reaps it."""
        if self._is_gone():
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        os.kill(self.pid, sig)
