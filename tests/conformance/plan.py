"""Finds the tests and selects those to run: suites, start methods, the skip list, patterns."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

SUITES = ("multiprocessing", "main", "futures")
STARTS = ("fork", "forkserver", "spawn")
KINDS = {
    "processes": "only_type='processes'",
    "manager": "only_type='manager'",
    "threads": "only_type='threads'",
    "misc": "exclude_types=True",
}
FUTURES = ("as_completed", "deadlock", "init", "process_pool", "shutdown", "wait")

# CPython has such a module for each start method and kind, but not every installation does.
DRIVER = """\
from test import _test_multiprocessing as tests

# Or each child of a fork server would import all of this anew.
tests.PRELOAD[:] = ["__main__", __name__]
tests.install_tests_in_module_dict(globals(), {start!r}, {kind})
"""


@dataclass(frozen=True)
class Case:
    """Tests of one class that run in one worker."""

    suite: str
    start: str
    module: str
    name: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Skip:
    """An entry of the skip list: a pattern of Class.test, and why matching tests are skipped."""

    suite: str
    test: str
    reason: str
    python: tuple[str, ...] = ()

    def applies(self) -> bool:
        """Whether the entry is about this Python."""
        version = ".".join(platform.python_version_tuple()[:2])
        return not self.python or version in self.python

    def covers(self, case: Case, test: str) -> bool:
        """Whether the entry names the test."""
        return case.suite == self.suite and fnmatchcase(f"{case.name}.{test}", self.test)


@dataclass
class Plan:
    """The tests to run, the tests that the skip list excludes, and the entries that matched."""

    cases: list[Case] = field(default_factory=list)
    excluded: list[tuple[Case, str, Skip]] = field(default_factory=list)
    used: set[Skip] = field(default_factory=set)


def load_skips(path: Path) -> list[Skip]:
    """The entries of a skip list that are about this Python."""
    entries = [
        Skip(entry["suite"], entry["test"], entry["reason"], tuple(entry.get("python", ())))
        for entry in json.loads(path.read_text())
    ]
    return [entry for entry in entries if entry.applies()]


def write_drivers(folder: Path) -> None:
    """Put the modules into a folder whose test classes `modules_of` names."""
    for start in STARTS:
        for name, kind in KINDS.items():
            (folder / f"conformance_{start}_{name}.py").write_text(DRIVER.format(start=start, kind=kind))


def modules_of(suite: str, start: str) -> list[str]:
    """The modules in which the tests of a suite are."""
    if suite == "multiprocessing":
        return [f"conformance_{start}_{kind}" for kind in KINDS]
    if suite == "main":
        return ["test.test_multiprocessing_main_handling"]
    return [f"test.test_concurrent_futures.test_{name}" for name in FUTURES]


def cases_of(suite: str, start: str, classes: Iterable[dict[str, Any]]) -> list[Case]:
    """The listed classes that are about a start method (those that name none are about each)."""
    return [
        Case(suite, start, found["module"], found["class"], tuple(found["tests"]))
        for found in classes
        if found["start"] in (None, start) and found["executor"] in (None, "ProcessPoolExecutor")
    ]


def choose(cases: Iterable[Case], skips: list[Skip], wanted: Callable[[str], bool]) -> Plan:
    """Take out what the skip list covers, and what is not wanted."""
    plan = Plan()
    for case in cases:
        kept = []
        for test in case.tests:
            skip = next((skip for skip in skips if skip.covers(case, test)), None)
            if skip is not None:
                plan.used.add(skip)
            if not wanted(f"{case.name}.{test}"):
                continue
            if skip is None:
                kept.append(test)
            else:
                plan.excluded.append((case, test, skip))
        if kept:
            plan.cases.append(replace(case, tests=tuple(kept)))
    return plan
