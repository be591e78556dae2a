"""Runs a module as `python -m` does and asserts that processes of the package did its work.

Command-line tools fall back to one process, or to threads, in silence.
"""

from __future__ import annotations

import runpy
import sys
from multiprocessing import process

from proof import EXPECTED, MODE

if __name__ == "__main__":
    expected = EXPECTED[MODE].partition("/")[2]
    started: list[str] = []
    start = process.BaseProcess.start

    def watched_start(self: process.BaseProcess) -> None:
        """Take note of whose process it is."""
        started.append(sys.modules[type(self).__module__].__name__.partition(".")[0])
        start(self)

    process.BaseProcess.start = watched_start
    sys.argv[:] = sys.argv[1:]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    finally:
        assert set(started) == {expected}, f"{started} in mode {MODE}"
