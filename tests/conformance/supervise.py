"""Runs all tests of one class, whatever they do to the process they run in."""

from __future__ import annotations

import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from plan import Case

from tests.support.worker_process import Overdue, Worker

PROGRAM = Path(__file__).with_name("worker.py")
# The limit for importing modules and for fixtures, in seconds; a test's limit does not cover them.
SECONDS_BETWEEN_TESTS = 60
# Failures that belong to no single test.
FIXTURE, EXIT, LEFT = "<fixture>", "<exit>", "<left running>"
FRAME = re.compile(r"^Current thread .*\n +(File .*)$", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """How a test ended: passed, failed, timed out, crashed, skipped or excluded."""

    case: Case
    test: str
    outcome: str
    detail: str = ""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """Suite, start method, class and test."""
        return f"{self.case.suite} {self.case.start} {self.case.name}.{self.test}"

    @property
    def is_failure(self) -> bool:
        """Whether it fails the run."""
        return self.outcome in ("failed", "timed out", "crashed")


@dataclass(frozen=True)
class Runner:
    """Where and how workers are run."""

    scratch: Path
    modules: list[Path]
    alias: bool
    limit: float

    def list_classes(self, modules: list[str]) -> dict:
        """What worker.py has to say about the modules."""
        with self._worker({"list": modules}) as worker:
            try:
                listed = worker.next_event(SECONDS_BETWEEN_TESTS)
            except Overdue:
                worker.dump_stacks()
                listed = None
            if listed is None:
                raise RuntimeError(f"the test modules cannot be imported:\n{worker.printed()}")
            return listed

    def run(self, case: Case) -> list[Result]:
        """The results of all tests of a class, run in as many processes as needed."""
        results: list[Result] = []
        pending = list(case.tests)
        while pending:
            attempt = self._attempt(case, pending)
            results += attempt
            ended = {result.test for result in attempt}
            pending = [test for test in pending if test not in ended]
        return results

    def _worker(self, request: dict) -> Worker:
        return Worker(PROGRAM, self.scratch, request, self.modules, self.alias)

    def _attempt(self, case: Case, tests: list[str]) -> list[Result]:
        """The results of at least one test, from one process."""
        request = {"module": case.module, "class": case.name, "tests": tests}
        with self._worker(request) as worker:
            return Attempt(case, tests, worker, self.limit).watch()


class Attempt:
    """One process that runs tests of a class, until it ends or has to be ended."""

    def __init__(self, case: Case, tests: list[str], worker: Worker, limit: float) -> None:
        self.case = case
        self.tests = tests
        self.worker = worker
        self.limit = limit
        self.results: list[Result] = []
        self.fixtures: list[tuple[str, str]] = []
        self.current: str | None = None
        self.since = time.monotonic()
        self.position = 0
        self.done = False

    def watch(self) -> list[Result]:
        """Follow the process to its end; the results of the tests that need not be tried again."""
        try:
            while (event := self.worker.next_event(self._patience())) is not None:
                self._take(event)
        except Overdue:
            self.worker.dump_stacks()
            self._broken_off("timed out", f"still running after {self._patience():g} s, {self._where()}")
        else:
            status = self.worker.status()
            if self.done:
                self._finished(status)
            else:
                self._broken_off("crashed", _in_words(status))
        return self.results

    def _patience(self) -> float:
        return self.limit if self.current is not None else max(self.limit, SECONDS_BETWEEN_TESTS)

    def _take(self, event: dict) -> None:
        match event["event"]:
            case "started":
                self.current, self.since = event["test"], time.monotonic()
            case "ended":
                self._add(event["test"], event["outcome"], event["detail"])
                self.current, self.since = None, time.monotonic()
            case "fixture":
                self.fixtures.append((event["outcome"], event["detail"]))
            case "done":
                self.done = True
                if event["altered"]:
                    self._add(FIXTURE, "failed", f"{self._printed()}\nleft processes or threads behind")
        self.position = event["printed"]

    def _broken_off(self, outcome: str, why: str) -> None:
        detail = f"{self._printed()}\n{why}"
        if self.current is not None:
            self._add(self.current, outcome, detail)
            return
        if not self.results:
            for test in self.tests:
                self._add(test, outcome, f"{detail}, before the first test")
            return
        # Retry what has not run yet, but keep the failure that interrupted the run.
        self._add(EXIT if self.done else FIXTURE, outcome, f"{detail}, outside any test")
        if self.done:
            self._account_for_the_rest()

    def _finished(self, status: int) -> None:
        self._account_for_the_rest()
        if status:
            self._add(EXIT, "crashed", f"{self._printed()}\n{_in_words(status)}, after the last test")
        if left := self.worker.leftovers():
            self._add(LEFT, "failed", "\n".join(left))

    def _account_for_the_rest(self) -> None:
        """Tests that did not run although the worker finished were prevented by a fixture."""
        ended = {result.test for result in self.results}
        rest = [test for test in self.tests if test not in ended]
        failures = [detail for outcome, detail in self.fixtures if outcome == "failed"]
        if failures:
            for test in rest or [FIXTURE]:
                self._add(test, "failed", failures[0])
        elif self.fixtures:
            for test in rest:
                self._add(test, "skipped", self.fixtures[0][1])
        else:
            for test in rest:
                self._add(test, "failed", "the test was not run")

    def _add(self, test: str, outcome: str, detail: str) -> None:
        seconds = round(time.monotonic() - self.since, 3)
        self.results.append(Result(self.case, test, outcome, detail.strip()[-12_000:], seconds))

    def _printed(self) -> str:
        return self.worker.printed(self.position).rstrip()

    def _where(self) -> str:
        frame = FRAME.search(self._printed())
        return f"in {frame[1]}" if frame else "without a stack"


def _in_words(status: int) -> str:
    if status >= 0:
        return f"the process ended with status {status}"
    return f"the process was ended by {signal.Signals(-status).name}"
