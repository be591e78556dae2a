"""A progress bar for a person at a terminal; nothing at all in a file or a pipe."""

import shutil
import time
from typing import TextIO

from scraper.summary import Summary

__all__ = ["Progress"]

BAR_WIDTH = 30
SECONDS_BETWEEN_DRAWINGS = 0.05
CLEAR_LINE = "\r\x1b[K"


class Progress:
    """One line at the bottom of the terminal: `clear` it before others print, `draw` it after."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._wanted = out.isatty()
        self._shown = False
        self._next_drawing = 0.0

    def draw(self, summary: Summary) -> None:
        """Show how far the run is, though not more often than an eye can follow."""
        now = time.monotonic()
        if not self._wanted or (self._shown and now < self._next_drawing):
            return
        self._next_drawing = now + SECONDS_BETWEEN_DRAWINGS
        self._out.write(CLEAR_LINE + bar(summary)[: shutil.get_terminal_size().columns - 1])
        self._out.flush()
        self._shown = True

    def clear(self) -> None:
        """Take the bar away."""
        if self._shown:
            self._out.write(CLEAR_LINE)
            self._out.flush()
            self._shown = False


def bar(summary: Summary) -> str:
    """The bar as text."""
    filled = BAR_WIDTH * summary.done // max(1, summary.wanted)
    drawing = "#" * filled + "-" * (BAR_WIDTH - filled)
    failed = f", {summary.failed} failed" if summary.failed else ""
    return f"[{drawing}] {summary.done}/{summary.wanted}{failed}"
