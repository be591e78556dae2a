"""Keeping the numbers 0, 1 and 2 for standard input, output and error, also where these are closed.

A program that closed them (it has no terminal) gets the three numbers for what is opened next. In a process
that is started then, what is meant for it would be its standard output, or be closed as its standard input.
"""

from __future__ import annotations

import os

__all__ = ["STANDARD_NUMBERS", "StandardNumbersTaken", "fill_standard"]

STANDARD_NUMBERS = range(3)


def fill_standard() -> list[int]:
    """Open the null device under those of the three numbers that are free; return these."""
    taken = []
    for fd in STANDARD_NUMBERS:
        try:
            os.get_inheritable(fd)
        except OSError:
            taken.append(os.open(os.devnull, os.O_RDWR))
    return taken


# No generator: every start of a process passes here.
class StandardNumbersTaken:
    """Within, what is opened gets other numbers; a forked child goes on so."""

    def __enter__(self) -> None:
        self._taken = fill_standard()

    def __exit__(self, *exc_info: object) -> None:
        for fd in self._taken:
            os.close(fd)
