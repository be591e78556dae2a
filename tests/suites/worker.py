"""Runs in the interpreter under test: the tests of one file, by pytest.

    python worker.py '{"events": 5, "root": "/...", "file": "tests/test_x.py", "only": null, "without": []}'

What happens goes to the descriptor `events`, one JSON object a line, each with the length of the log by then.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

Tell = Callable[..., None]
OPTIONS = (
    # Ignore the library's own pytest settings.
    *("-c", os.devnull),
    # Two files of a suite may run at once, and a process that is ended must not keep the lock of a cache.
    *("-p", "no:cacheprovider"),
    # The limits are the runner's.
    *("-p", "no:faulthandler"),
    "--quiet",
    "--tb=short",
)
MAX_DETAIL = 8_000


class Recorder:
    """Reports when each test starts and how it ends, and deselects unwanted tests."""

    def __init__(self, tell: Tell, only: list[str] | None, without: list[str]) -> None:
        self.tell = tell
        self.only = None if only is None else set(only)
        self.without = set(without)
        self.outcome, self.detail = "passed", ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [
            item
            for item in items
            if item.nodeid not in self.without and (self.only is None or item.nodeid in self.only)
        ]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            why = str(report.longrepr)[-MAX_DETAIL:]
            self.tell("ended", test=f"{report.nodeid}::<import>", outcome="failed", detail=why)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.outcome, self.detail = "passed", ""
        self.tell("started", test=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # The outcome of an expected failure means nothing.
        if hasattr(report, "wasxfail") or report.passed or self.outcome == "failed":
            return
        self.outcome = "failed" if report.failed else "skipped"
        printed = "\n".join(f"--- {title}\n{text[-MAX_DETAIL // 4 :]}" for title, text in report.sections)
        self.detail = f"{printed}\n{report.longreprtext}"[-MAX_DETAIL:]

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.tell("ended", test=nodeid, outcome=self.outcome, detail=self.detail)


def main() -> None:
    request = json.loads(sys.argv.pop())
    # The tests must not import this folder's modules.
    sys.path.pop(0)
    os.set_inheritable(request["events"], False)
    worker, log = os.getpid(), os.dup(2)
    # After the stacks have been written, the signal's default action ends the process.
    faulthandler.enable(log)
    faulthandler.register(signal.SIGUSR2, log, all_threads=True, chain=True)
    # A shell starts what stands before `&` with SIGINT ignored, and some tests interrupt themselves.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def tell(event: str, **facts: Any) -> None:
        if os.getpid() == worker:  # forked children carry this function along
            facts.update(event=event, printed=os.fstat(log).st_size)
            line = memoryview(json.dumps(facts).encode() + b"\n")
            while line:
                line = line[os.write(request["events"], line) :]

    # Loaded on both sides: some tests look through all modules there are.
    package = importlib.import_module("multiprocessing").__name__
    tell("begun", package=package)
    file = os.path.join(request["root"], request["file"])
    recorder = Recorder(tell, request["only"], request["without"])
    pytest.main([*OPTIONS, "--rootdir", request["root"], *request["options"], file], plugins=[recorder])
    tell("done")


if __name__ == "__main__":
    main()
