"""The base class of viztracer's tests: assertions about files and traces."""

from __future__ import annotations

import contextlib
import io
import os
import time
import unittest
from collections.abc import Callable, Iterator
from typing import Any

SECONDS_BETWEEN_LOOKS = 0.1


class BaseTmpl(unittest.TestCase):
    """Tests whose output nobody sees."""

    pkg_config = None

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        with contextlib.redirect_stdout(io.StringIO()) as self.stdout:
            return super().run(result)

    def assertEventNumber(self, data: dict[str, Any], expected_entries: int) -> None:
        """How many events there are that are no metadata."""
        events = [event for event in data["traceEvents"] if event["ph"] != "M"]
        self.assertEqual(len(events), expected_entries, events)

    def functionInEvents(self, data: dict[str, Any], func_name: str) -> bool:
        """Whether a call of a function was traced."""
        return any(event["ph"] == "X" and func_name in event["name"] for event in data["traceEvents"])

    def assertFunctionInEvents(self, data: dict[str, Any], func_name: str) -> None:
        self.assertTrue(self.functionInEvents(data, func_name), f"no call of {func_name} was traced")

    def assertFunctionNotInEvents(self, data: dict[str, Any], func_name: str) -> None:
        self.assertFalse(self.functionInEvents(data, func_name), f"a call of {func_name} was traced")

    def getProcessNumber(self, data: dict[str, Any]) -> int:
        """How many processes the events are of."""
        return len({event["pid"] for event in data["traceEvents"] if "pid" in event})

    def assertFileExists(self, path: str, timeout: float = 0, msg: str | None = None) -> None:
        problem = f"{path} is not there: {msg or 'nothing wrote it'}"
        self._eventually(lambda: self.assertTrue(os.path.exists(path), problem), timeout)

    def assertFileNotExist(self, path: str) -> None:
        self.assertFalse(os.path.exists(path), f"{path} is there")

    def assertTrueTimeout(self, func: Callable[[], object], timeout: float) -> None:
        """A function that raises no AssertionError, sooner or later."""
        self._eventually(func, timeout)

    def _eventually(self, function: Callable[[], object], timeout: float) -> None:
        for is_last in _looks(timeout):
            try:
                function()
            except AssertionError:
                if is_last:
                    raise
            else:
                return


def _looks(timeout: float) -> Iterator[bool]:
    end = time.monotonic() + timeout
    while (now := time.monotonic()) < end:
        yield False
        time.sleep(min(SECONDS_BETWEEN_LOOKS, end - now))
    yield True
