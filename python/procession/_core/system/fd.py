"""Descriptors that know their file.

A program may close every number it has, as daemons do, and the next file that it opens gets one of them. What
is kept for long is therefore compared before it is used or closed.
"""

from __future__ import annotations

import errno
import functools
import os
import select

from .._typing import Any

__all__ = ["REFUSALS", "KnownFd", "anonymous_file", "identity_of"]

# What a kernel that does not know a call, or a filter that forbids it, says.
REFUSALS = (errno.ENOSYS, errno.EPERM, errno.EACCES)

# What a descriptor says of a process that was reaped.
_REAPED = -1

_NO_FILE = -1, -1


@functools.cache
def _shared_file() -> tuple[int, int]:
    """What all event counters and epoll objects are to the kernel, and before Linux 6.9 all processes."""
    try:
        with select.epoll() as one:
            status = os.fstat(one.fileno())
    except OSError:
        # A sandbox refuses it. Descriptors that are of no file cannot be told from each other then.
        return _NO_FILE
    return status.st_dev, status.st_ino


def _number_of(fd: int, opened: Any = open, error: Any = OSError) -> int:
    """The number by which the kernel tells an event counter, or a process, from others of its kind."""
    try:
        with opened(f"/proc/self/fdinfo/{fd}", "rb") as file:
            told = dict(line.split(b":", 1) for line in file)
    except error:
        return 0
    return int(told.get(b"Pid") or told.get(b"eventfd-id") or 0)


# Bound early: what is forgotten at the end of the interpreter is closed when names of modules are gone.
def identity_of(
    fd: int,
    fstat: Any = os.fstat,
    shared_file: Any = _shared_file,
    number_of: Any = _number_of,
    error: Any = OSError,
) -> tuple[int, ...] | None:
    """What a descriptor stands for, whose number may be somebody else's one day; None if it is closed."""
    try:
        status = fstat(fd)
        file = status.st_dev, status.st_ino
        return (*file, number_of(fd)) if file == shared_file() else file
    except error:
        return None


class KnownFd:
    """A descriptor of this process's own, as long as the program did not close it."""

    __slots__ = ("_file", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self._file = identity_of(number)

    # Bound early, as above.
    def is_open(self, identity_of: Any = identity_of, reaped: int = _REAPED) -> bool:
        """Whether the number is this file's still."""
        if self._file is None:
            return False
        now = identity_of(self.number)
        # The number of a process that was reaped is free, and its descriptor knows none any more.
        return now == self._file or now == (*self._file[:2], reaped)

    # Bound early, as above.
    def close(self, close: Any = os.close) -> None:
        """Close it, unless the program did."""
        if self.is_open():
            close(self.number)


def anonymous_file(name: str, mode: str = "w+b") -> Any:
    """A file that is gone when nobody has it any more: in memory, or where that is refused on disk."""
    try:
        return os.fdopen(os.memfd_create(name), mode)
    except AttributeError:
        pass  # Not on Linux.
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
    import tempfile

    return tempfile.TemporaryFile(mode)
