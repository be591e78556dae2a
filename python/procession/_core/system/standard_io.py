"""Keeping the descriptors 0, 1 and 2 for standard input, output and error, also where these are closed.

In a program that closed them (it has no terminal), the next open files get these numbers. A process started
then would write its output into such a file, or close it as its standard input.
"""

from __future__ import annotations

import os

__all__ = ["STANDARD_NUMBERS", "StandardNumbersTaken", "fill_standard"]

STANDARD_NUMBERS = range(3)


def fill_standard() -> list[int]:
    """Open the null device under those of the three numbers that are free; return them."""
    taken = []
    for fd in STANDARD_NUMBERS:
        try:
            os.get_inheritable(fd)
        except OSError:
            taken.append(os.open(os.devnull, os.O_RDWR))
    return taken


# Not a generator-based context manager: every start of a process uses it.
class StandardNumbersTaken:
    """Inside this context, new descriptors get other numbers; a forked child keeps it that way."""

    def __enter__(self) -> None:
        self._taken = fill_standard()

    def __exit__(self, *exc_info: object) -> None:
        for fd in self._taken:
            os.close(fd)
