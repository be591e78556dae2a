"""Descriptors that know their file.

A program may close every number it has, as daemons do, and the next file that it opens gets one of them. What
is kept for long is therefore compared before it is used or closed.
"""

from __future__ import annotations

import os

from .hints import Any

__all__ = ["KnownFd", "identity_of"]


class KnownFd:
    """A descriptor of this process's own, as long as the program did not close it."""

    __slots__ = ("_file", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self._file = identity_of(number)

    def is_open(self) -> bool:
        """Whether the number is this file's still."""
        return self._file is not None and self._file == identity_of(self.number)

    # Bound early: what is forgotten at the end of the interpreter is closed when names of modules are gone.
    def close(self, close: Any = os.close, fstat: Any = os.fstat, error: Any = OSError) -> None:
        """Close it, unless the program did."""
        try:
            stat = fstat(self.number)
        except error:
            return
        if (stat.st_dev, stat.st_ino) == self._file:
            close(self.number)


def identity_of(fd: int) -> tuple[int, int] | None:
    """What a descriptor stands for, whose number may be somebody else's one day; None if it is closed."""
    try:
        stat = os.fstat(fd)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
