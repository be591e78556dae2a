"""Test suites of libraries and of CPython, run with the standard library and under PROCESSION_INSTALL=1.

It reports only tests that pass with the standard library and fail here, after repeating them on both sides.
Each test file runs in processes of its own, which are ended if a test takes too long.

    python tests/suites/run.py --archives FOLDER                    everything in the folder, and CPython's
    python tests/suites/run.py --archives FOLDER --only loky        one suite
    python tests/suites/run.py --archives FOLDER --only loky/tests/test_futures.py::test_wait
    python tests/suites/run.py --file FILE                          the tests of one file of yours
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import shutil
import signal
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))  # the package `tests`

import sources  # noqa: E402
from compare import Compared, Results, compare, lines, reason  # noqa: E402
from sources import TestFile  # noqa: E402
from supervise import END, Result, Runner  # noqa: E402


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--archives", type=Path, metavar="FOLDER", help="where the source packages are")
    parser.add_argument("--file", type=Path, help="the tests of this file instead of the suites")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="a suite, suite/file or suite/file::test"
    )
    parser.add_argument(
        "--runs", type=int, default=1, metavar="N", help="run all tests here N times (default: once)"
    )
    parser.add_argument(
        "--repeat", type=int, default=3, metavar="N", help="repeat what differs at most N times (default: 3)"
    )
    parser.add_argument(
        "--limit", type=float, default=120, metavar="SECONDS", help="of one test (default: 120)"
    )
    parser.add_argument(
        "--file-limit", type=float, default=3600, metavar="SECONDS", help="of one file (default: 3600)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    parser.add_argument(
        "--stdlib",
        type=Path,
        metavar="FILE",
        help="the standard library's results, from an earlier --json",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for each file as it ends")
    options = parser.parse_args(arguments)
    for name in options.only:
        if name.partition("/")[0] not in sources.NAMES:
            parser.error(f"--only {name}: the suites are {', '.join(sources.NAMES)}")
    return options


class Comparison:
    """One invocation: the files it is about, and what it finds."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self.options = options
        self.scratch = scratch
        self.runner = Runner(scratch, options.limit, options.file_limit)
        self.known = _read(options.stdlib) if options.stdlib else {}
        self.notes: list[str] = []

    def run(self) -> list[Compared]:
        """Run every chosen file on both sides."""
        compared = []
        for file in self._files():
            only = [name.partition("/")[2] for name in self.options.only if "::" in name]
            tests = [name for name in only if name.startswith(f"{file.path}::")] or None
            stdlib = self.known.get(file.name)
            if stdlib is None:
                stdlib = self.runner.run(file, False, tests)
            elif tests is not None:
                stdlib = {test: result for test, result in stdlib.items() if test in tests}
            compared.append(self._compare(file, stdlib, tests))
            if self.options.json:  # a run of hours that is interrupted keeps what it has found so far
                self.options.json.write_text(json.dumps(_as_json(compared), indent=1) + "\n")
        return compared

    def _compare(self, file: TestFile, stdlib: Results, tests: list[str] | None) -> Compared:
        def run(file: TestFile, alias: bool, only: list[str] | None) -> Results:
            return self.runner.run(file, alias, only or tests)

        compared = compare(file, stdlib, run, self.options.runs, self.options.repeat)
        ended = stdlib.get(END)
        if tests is None and ended is not None and ended.outcome != "passed":
            # Tests behind that place have no result to compare with.
            self.notes.append(f"not to the end with the standard library: {file.name}: {ended.outcome}")
        if self.options.verbose:
            both, failing = compared.count(True, True), compared.failing_here
            print(f"{file.name}: {both} pass on both sides, {len(failing)} fail here", file=sys.stderr)
            for suspect in failing:
                print(f"  {suspect.test}: {reason(suspect)}", file=sys.stderr)
        return compared

    def _files(self) -> list[TestFile]:
        if self.options.file is not None:
            path = self.options.file.resolve()
            return [TestFile("file", path.parent, path.name)]
        files: list[TestFile] = []
        for name in sources.NAMES:
            if not self._is_wanted(name, None):
                continue
            try:
                files += sources.files_of(name, self.options.archives or Path(), self.scratch)
            except sources.Missing as error:
                self.notes.append(f"left out: {name}: {error}")
        files = [file for file in files if self._is_wanted(file.suite, file.path)]
        self.notes += [
            f"left out: {file.suite} {test}: {why}" for file in files for test, why in file.skipped
        ]
        return files

    def _is_wanted(self, suite: str, path: str | None) -> bool:
        for name in self.options.only:
            wanted, _, rest = name.partition("/")
            if wanted == suite and (not rest or path is None or rest.partition("::")[0] == path):
                return True
        return not self.options.only


def _read(earlier: Path) -> dict[str, Results]:
    files = json.loads(earlier.read_text())["files"]
    return {
        name: {test: Result(**result) for test, result in sides["stdlib"].items()}
        for name, sides in files.items()
    }


def _as_json(files: list[Compared]) -> dict:
    return {
        "python": platform.python_version(),
        "files": {
            compared.file.name: {
                "stdlib": _records(compared.stdlib),
                "here": _records(compared.here),
                "fail here": [suspect.test for suspect in compared.failing_here],
                "unsteady": [suspect.test for suspect in compared.unsteady],
            }
            for compared in files
        },
    }


def _records(results: Results) -> dict[str, dict]:
    return {test: dataclasses.asdict(result) for test, result in results.items()}


def main() -> int:
    options = parse()
    # Whoever ends the runner ends the tests.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    # Tests put sockets below it, whose names are short.
    scratch = Path(tempfile.mkdtemp(prefix="suites"))
    try:
        comparison = Comparison(options, scratch)
        files = comparison.run()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"Python {platform.python_version()}\n")
    print("\n".join(lines(files, comparison.notes)))
    compared_anything = any(compared.count(True, True) for compared in files)
    return 0 if compared_anything and not any(compared.failing_here for compared in files) else 1


if __name__ == "__main__":
    sys.exit(main())
