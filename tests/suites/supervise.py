"""Runs all tests of one file, whatever they do to the process they run in."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from sources import TestFile

from tests.support.worker_process import Overdue, Worker

PROGRAM = Path(__file__).with_name("worker.py")
PACKAGES = {False: "multiprocessing", True: "procession"}
# The limit for importing modules and for fixtures, in seconds; a test's limit does not cover them.
SECONDS_BETWEEN_TESTS = 60
# Results of no single test: how the process ended after the last test, and what it left running.
END, LEFT = "<end>", "<left running>"


@dataclass(frozen=True)
class Result:
    """How a test ended: passed, failed, skipped, timed out, crashed or not run."""

    outcome: str
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Runner:
    """Where workers run, and for how long a test and a file may."""

    scratch: Path
    limit: float
    file_limit: float

    def run(self, file: TestFile, alias: bool, only: list[str] | None = None) -> dict[str, Result]:
        """The results of all or some tests of a file, run in as many processes as needed."""
        results: dict[str, Result] = {}
        deadline = time.monotonic() + self.file_limit
        skipped = [test for test, _ in file.skipped]
        while True:
            attempt = Attempt(self, file, alias, only, [*skipped, *results], deadline)
            attempt.watch()
            progress = set(attempt.results) - set(results)
            results |= attempt.results
            if attempt.finished or not progress:
                break
        for test in only or ():
            results.setdefault(test, Result("not run"))
        return results


@dataclass
class Attempt:
    """One process that runs tests of a file, until it ends or has to be ended."""

    runner: Runner
    file: TestFile
    alias: bool
    only: list[str] | None
    without: list[str]
    deadline: float
    results: dict[str, Result] = field(default_factory=dict)
    finished: bool = False
    current: str | None = None
    since: float = 0.0
    position: int = 0

    def watch(self) -> None:
        """Follow the process to its end."""
        request = {
            "root": str(self.file.root),
            "file": self.file.path,
            "options": self.file.options,
            "only": self.only,
            "without": self.without,
        }
        self.since = time.monotonic()
        with Worker(PROGRAM, self.runner.scratch, request, [], self.alias) as worker:
            try:
                while (event := worker.next_event(self._patience())) is not None:
                    self._take(event)
            except Overdue:
                worker.dump_stacks()
                self._broken_off("timed out", worker.printed(self.position))
                return
            status = worker.status()
            if not self.finished:
                self._broken_off("crashed", f"{worker.printed(self.position)}\n{_in_words(status)}")
                return
            self._add(END, "passed" if status == 0 else "crashed", _in_words(status))
            left = worker.leftovers()
            self._add(LEFT, "failed" if left else "passed", "\n".join(left))

    def _patience(self) -> float:
        limit = self.runner.limit
        if self.current is None:
            limit = max(limit, SECONDS_BETWEEN_TESTS)
        return max(0.0, min(limit, self.deadline - time.monotonic()))

    def _take(self, event: dict) -> None:
        match event["event"]:
            case "begun":
                expected, found = PACKAGES[self.alias], event["package"]
                if found != expected:
                    sys.exit(
                        f"`multiprocessing` is {found} here and not {expected}: "
                        f"is the package's wheel installed for {sys.executable}?"
                    )
            case "started":
                self.current, self.since = event["test"], time.monotonic()
            case "ended":
                self._add(event["test"], event["outcome"], event["detail"])
                self.current, self.since = None, time.monotonic()
            case "done":
                self.finished = True
        self.position = event["printed"]

    def _broken_off(self, outcome: str, detail: str) -> None:
        if self.finished or self.current is None:
            self.finished = True
            self._add(END, outcome, detail)
        else:
            self._add(self.current, outcome, detail)

    def _add(self, test: str, outcome: str, detail: str) -> None:
        self.results[test] = Result(outcome, detail.strip()[-8_000:], round(time.monotonic() - self.since, 3))


def _in_words(status: int) -> str:
    if status >= 0:
        return f"the process ended with status {status}"
    return f"the process was ended by {signal.Signals(-status).name}"
