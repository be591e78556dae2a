"""Descriptors that know their file, and anonymous files.

A program may close every descriptor it has, as daemons do, and the next file that it opens gets one of the
numbers. So a descriptor that is kept for long is compared with its file before it is used or closed.
"""

from __future__ import annotations

import errno
import functools
import os
import select

from .._typing import Any

__all__ = ["REFUSALS", "KnownFd", "anonymous_file", "identity_of"]

# The errors of a kernel that lacks a system call, or of a filter that forbids it.
REFUSALS = (errno.ENOSYS, errno.EPERM, errno.EACCES)

# The number in a pidfd of a process that was reaped.
_REAPED = -1

_NO_FILE = -1, -1


@functools.cache
def _shared_file() -> tuple[int, int]:
    """The file that all event counters and epoll objects share in the kernel, and pidfds before Linux 6.9."""
    try:
        with select.epoll() as one:
            status = os.fstat(one.fileno())
    except OSError:
        # A sandbox forbids epoll. Descriptors without a file cannot be told apart then.
        return _NO_FILE
    return status.st_dev, status.st_ino


def _number_of(fd: int, opened: Any = open, error: Any = OSError) -> int:
    """The number that tells an event counter, or a process, from others; 0 if there is none."""
    try:
        with opened(f"/proc/self/fdinfo/{fd}", "rb") as file:
            fields = dict(line.split(b":", 1) for line in file)
    except error:
        return 0
    return int(fields.get(b"Pid") or fields.get(b"eventfd-id") or 0)


# Names are bound early: some descriptors are closed at the end of the interpreter, when module globals are
# gone.
def identity_of(
    fd: int,
    fstat: Any = os.fstat,
    shared_file: Any = _shared_file,
    number_of: Any = _number_of,
    error: Any = OSError,
) -> tuple[int, ...] | None:
    """Return the identity of the file behind a descriptor, to compare later; None if it is closed."""
    try:
        status = fstat(fd)
        file = status.st_dev, status.st_ino
        return (*file, number_of(fd)) if file == shared_file() else file
    except error:
        return None


class KnownFd:
    """A descriptor that the program may close behind our back; it remembers its file."""

    __slots__ = ("_file", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self._file = identity_of(number)

    # Bound early, as above.
    def is_open(self, identity_of: Any = identity_of, reaped: int = _REAPED) -> bool:
        """Return whether the number still refers to the same file."""
        if self._file is None:
            return False
        now: tuple[int, ...] | None = identity_of(self.number)
        # The pidfd of a reaped process has no pid any more.
        return now == self._file or now == (*self._file[:2], reaped)

    # Bound early, as above.
    def close(self, close: Any = os.close) -> None:
        """Close it, unless the program did so already."""
        if self.is_open():
            close(self.number)


def anonymous_file(name: str, mode: str = "w+b") -> Any:
    """Return a new file without a name: in memory, or on disk where memfd_create is refused."""
    try:
        return os.fdopen(os.memfd_create(name), mode)
    except AttributeError:
        pass  # Not on Linux.
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
    import tempfile

    return tempfile.TemporaryFile(mode)
