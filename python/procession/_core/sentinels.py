"""Descriptors that become readable when a process ends.

They are pidfds. Where the system refuses those (an old kernel, valgrind, gVisor, a sandbox), the reading end
of a pipe does for one: it is readable when nobody has the writing end any more. The writing end of a
process's own pipe is therefore closed in whatever that process forks. A program that closes all descriptors,
or hands them on to others, still makes such a sentinel speak too early or too late, so that `join` also asks
the kernel for the process itself.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

from procession import _native

from .known_fd import KnownFd
from .refusals import REFUSALS
from .waiting import is_readable

__all__ = [
    "Line",
    "has_ended",
    "keep",
    "line_if_needed",
    "of_child",
    "of_this_process",
    "send_signal",
    "soon",
]

# How often a child is looked after whose pipe may be wrong, in seconds.
_LOOK = 0.02

_are_refused = False
# The writing end of this process's own pipe, by which its parent sees its end.
_own: int | None = None
# The pipes of children that are being started, by the thread that starts them.
_in_flight: dict[int, Line] = {}


def of_child(pid: int) -> int | None:
    """A pidfd; None where the system refuses those."""
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
    """What a child is given to see the end of this process; to be closed by the caller."""
    pidfd = of_child(os.getpid())
    return _native.lifeline_fd() if pidfd is None else pidfd


class Line:
    """A pipe, by which the end of a child will be seen that is about to be started."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        _in_flight[threading.get_ident()] = self

    def started(self) -> int:
        """In the parent, with the child started: its sentinel."""
        _in_flight.pop(threading.get_ident(), None)
        os.close(self.write)
        return self.read

    def failed(self) -> None:
        """Nothing was started."""
        os.close(self.started())


def line_if_needed() -> Line | None:
    """A line for the next child; None where it will have a pidfd. To be asked after `of_this_process`."""
    return Line() if _are_refused else None


def keep(write: int) -> None:
    """In a child that was not forked: keep the writing end of its line for as long as it lives."""
    global _own
    os.set_inheritable(write, False)
    if of_child(os.getpid()) is None:
        _own = write


def _after_fork() -> None:
    global _own
    if _own is not None:
        _close(_own)
        _own = None
    mine = _in_flight.pop(threading.get_ident(), None)
    for line in (*_in_flight.values(), *([mine] if mine else [])):
        _close(line.read)
        if line is not mine:
            _close(line.write)
    _in_flight.clear()
    if mine is not None:
        _own = mine.write


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass  # By who closed all that there was.


def has_ended(sentinel: KnownFd, pid: int, timeout: float) -> bool:
    """Whether a child that is to be reaped by this process ends within so many seconds."""
    if not _are_refused and sentinel.is_open():
        return is_readable(sentinel.number, timeout)
    return soon(lambda: _is_zombie(pid, sentinel), sentinel, timeout)


def soon(condition: Callable[[], bool], sentinel: KnownFd, timeout: float) -> bool:
    """Whether it holds within so many seconds, of something that a sentinel may not tell, or too early."""
    deadline = time.monotonic() + timeout
    while not (holds := condition()) and time.monotonic() < deadline:
        # The pipe of one that closed all its descriptors is readable for good.
        nap = min(_LOOK, max(0.0, deadline - time.monotonic()))
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
    """Signal a process by its sentinel; where there is no pidfd for it, `kill` knows another way."""
    try:
        if sentinel.is_open():
            signal.pidfd_send_signal(sentinel.number, number)
            return
    except ProcessLookupError:
        raise
    except OSError:
        pass
    kill(number)
