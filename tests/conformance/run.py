"""CPython's own tests of multiprocessing, run against Procession under the name `multiprocessing`.

The tests are those that this interpreter has installed, and so is Procession. Each test class runs in a
process of its own; a test that takes too long is ended, and the rest of its class runs in another process.

    python tests/conformance/run.py                                 everything, under fork
    python tests/conformance/run.py --start all --json all.json     under every start method
    python tests/conformance/run.py --only 'WithProcessesTestLock.*' --repeat 20
    python tests/conformance/run.py --baseline                      the standard library itself
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import signal
import sys
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))  # the package `tests`

import plan  # noqa: E402
from report import Report  # noqa: E402
from supervise import Result, Runner  # noqa: E402

PACKAGE, STDLIB = "procession", "multiprocessing"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--start", choices=(*plan.STARTS, "all"), default="fork", help="default: fork")
    parser.add_argument("--suite", choices=(*plan.SUITES, "all"), default="all", help="default: all")
    parser.add_argument(
        "--only",
        action="append",
        metavar="PATTERN",
        help="tests whose Class.test matches this or contains it (may be repeated)",
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run everything N times in a row")
    parser.add_argument(
        "--limit", type=float, default=60, metavar="SECONDS", help="of one test (default: 60)"
    )
    parser.add_argument("--baseline", action="store_true", help="test the standard library instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    parser.add_argument("--skips", type=Path, default=HERE / "skips.json", help="another skip list")
    parser.add_argument(
        "--module", type=Path, metavar="FILE", help="the tests of this file instead of a suite"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for each test as it ends")
    return parser.parse_args(arguments)


class Conformance:
    """One invocation: the suites it is about, and what it finds."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self.options = options
        self.suites = [options.suite] if options.suite != "all" else list(plan.SUITES)
        self.starts = [options.start] if options.start != "all" else list(plan.STARTS)
        self.expected = STDLIB if options.baseline else PACKAGE
        self.report = Report(self.expected, platform.python_version())
        drivers = scratch / "drivers"
        drivers.mkdir()
        plan.write_drivers(drivers)
        modules = [drivers]
        if options.module is not None:
            self.suites = ["module"]
            modules.append(options.module.resolve().parent)
        self.runner = Runner(scratch, modules, alias=not options.baseline, limit=options.limit)

    def run(self) -> Report:
        """Find the tests, run them as often as asked for."""
        planned = self._plan()
        for _ in range(self.options.repeat):
            results: list[Result] = []
            self.report.runs.append(results)
            results += self.unusable
            results += [Result(case, test, "excluded", skip.reason) for case, test, skip in planned.excluded]
            for case in planned.cases:
                for result in self.runner.run(case):
                    results.append(result)
                    if self.options.verbose:
                        print(f"{result.outcome:10} {result.seconds:7.2f} s  {result.name}", file=sys.stderr)
        return self.report

    def _plan(self) -> plan.Plan:
        self.unusable: list[Result] = []
        skips = plan.load_skips(self.options.skips)
        cases: list[plan.Case] = []
        found = set()
        for start in self.starts:
            for suite in self.suites:
                listed = self._list(suite, start)
                cases += plan.cases_of(suite, start, listed)
                found |= {suite} if listed else set()
        chosen = plan.choose(cases, skips, self._wanted)
        self.report.unmatched = [skip for skip in skips if skip.suite in found and skip not in chosen.used]
        return chosen

    def _list(self, suite: str, start: str) -> list[dict]:
        file = self.options.module
        modules = [file.stem] if file else plan.modules_of(suite, start)
        listed = self.runner.list_classes(modules)
        if listed["package"] != self.expected:
            sys.exit(
                f"`multiprocessing` is {listed['package']} here and not {self.expected}: "
                f"is the package's wheel installed for {sys.executable}?"
            )
        absent = listed["absent"]
        if set(absent) == set(modules) and len(set(absent.values())) == 1:
            absent = {f"all of {suite}": absent[modules[0]]}
        for name, why in absent.items():
            note = f"left out: {name}: {why}"
            if note not in self.report.notes:
                self.report.notes.append(note)
        for name, trace in listed["broken"].items():
            case = plan.Case(suite, start, name, name, ("<import>",))
            self.unusable.append(Result(case, "<import>", "failed", trace.strip()))
        return listed["classes"]

    def _wanted(self, name: str) -> bool:
        only = self.options.only
        return only is None or any(pattern in name or fnmatchcase(name, pattern) for pattern in only)


def main() -> int:
    options = parse()
    # Whoever ends the runner ends the tests.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    # The standard library puts sockets below it, whose names are short.
    scratch = Path(tempfile.mkdtemp(prefix="conf"))
    try:
        report = Conformance(options, scratch).run()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("\n".join(report.lines()))
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), indent=1) + "\n")
    return 0 if report.succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
