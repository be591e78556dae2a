"""Descriptors that become readable when a process ends.

They are pidfds. Where the system refuses those (an old kernel, valgrind, gVisor, a sandbox), the sentinel is
the reading end of a liveness pipe: it becomes readable when no process has the writing end any more. So each
process closes its parent's writing end after a fork. A program that closes all descriptors, or passes them
on, still makes such a sentinel readable too early or too late. Therefore `join` also asks the kernel about
the process itself.
"""

from __future__ import annotations

import math
import os
import select
import signal
import threading
import time
from collections.abc import Callable

from procession import _native
from procession._native import KnownFd

from ..arguments import seconds
from .fd import REFUSALS

__all__ = [
    "LivenessPipe",
    "has_ended",
    "is_readable",
    "keep_own_pipe",
    "pipe_if_needed",
    "of_child",
    "of_this_process",
    "send_signal",
    "soon",
]

# poll(2) counts milliseconds in an int; longer waits take several calls.
_LONGEST_POLL_MS = 24 * 60 * 60 * 1000
# How often a child is checked whose liveness pipe may be wrong, in seconds.
_CHECK_INTERVAL = 0.02

_are_refused = False
# The writing end of this process's own liveness pipe, which its parent watches.
_own: int | None = None
# The liveness pipes of children that are being started, by the thread that starts them.
_starting: dict[int, LivenessPipe] = {}


def of_child(pid: int) -> int | None:
    """Return a pidfd for a child; None where the system refuses pidfds."""
    global _are_refused
    if _are_refused:
        return None
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
    _are_refused = True
    os.register_at_fork(after_in_child=_after_fork)
    return None


def of_this_process() -> int:
    """Return a descriptor by which a child sees the end of this process; the caller closes it."""
    pidfd = of_child(os.getpid())
    return _native.lifeline_fd() if pidfd is None else pidfd


class LivenessPipe:
    """A pipe that shows the end of a child which is about to be started."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        _starting[threading.get_ident()] = self

    def started(self) -> int:
        """In the parent, once the child is started: return its sentinel."""
        _starting.pop(threading.get_ident(), None)
        os.close(self.write)
        return self.read

    def failed(self) -> None:
        """Close the pipe: no child was started."""
        os.close(self.started())


def pipe_if_needed() -> LivenessPipe | None:
    """Return a liveness pipe for the next child; None where it will have a pidfd.

    To be called after `of_this_process`, which finds out whether there are pidfds.
    """
    return LivenessPipe() if _are_refused else None


def keep_own_pipe(write: int) -> None:
    """In a child that was not forked: keep the writing end of its liveness pipe as long as it lives."""
    global _own
    os.set_inheritable(write, False)
    if of_child(os.getpid()) is None:
        _own = write


def _after_fork() -> None:
    global _own
    if _own is not None:
        _close(_own)
        _own = None
    mine = _starting.pop(threading.get_ident(), None)
    for pipe in (*_starting.values(), *([mine] if mine else [])):
        _close(pipe.read)
        if pipe is not mine:
            _close(pipe.write)
    _starting.clear()
    if mine is not None:
        _own = mine.write


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass  # The program has closed all descriptors.


def has_ended(sentinel: KnownFd, pid: int, timeout: float) -> bool:
    """Return whether a child of this process, not reaped yet, ends within `timeout` seconds."""
    if not _are_refused and sentinel.is_open():
        return is_readable(sentinel.number, timeout)
    return soon(lambda: _is_zombie(pid, sentinel), sentinel, timeout)


def soon(condition: Callable[[], bool], sentinel: KnownFd, timeout: float) -> bool:
    """Return whether a condition holds within `timeout` seconds, where the sentinel may be late or early."""
    deadline = time.monotonic() + timeout
    while not (holds := condition()) and time.monotonic() < deadline:
        # The pipe of a child that closed all its descriptors stays readable.
        nap = min(_CHECK_INTERVAL, max(0.0, deadline - time.monotonic()))
        if not sentinel.is_open() or is_readable(sentinel.number, 0):
            time.sleep(nap)
        else:
            is_readable(sentinel.number, nap)
    return holds


def _is_zombie(pid: int, sentinel: KnownFd) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return True
    except OSError:
        return sentinel.is_open() and is_readable(sentinel.number, 0)


def send_signal(sentinel: KnownFd, number: int, kill: Callable[[int], None]) -> None:
    """Signal a process through its pidfd; where it has none, call `kill` with the signal's number."""
    try:
        if sentinel.is_open():
            signal.pidfd_send_signal(sentinel.number, number)
            return
    except ProcessLookupError:
        raise
    except OSError:
        pass
    kill(number)


def is_readable(fd: int, timeout: float | None) -> bool:
    """Return whether `fd` becomes readable within `timeout` seconds; None waits for ever."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    if timeout is None:
        return bool(poller.poll())
    deadline = time.monotonic() + (seconds("timeout", timeout) or 0.0)
    while True:
        left_ms = max(0, math.ceil((deadline - time.monotonic()) * 1000))
        if poller.poll(min(left_ms, _LONGEST_POLL_MS)):
            return True
        if left_ms <= _LONGEST_POLL_MS and time.monotonic() >= deadline:
            return False
