"""Runs in the interpreter under test: lists the test classes of some modules, or runs one class.

    python worker.py '{"events": 5, "list": ["test.test_x"]}'
    python worker.py '{"events": 5, "module": "test.test_x", "class": "TestX", "tests": ["test_y"]}'

What happens goes to the descriptor `events`, one JSON object a line, each with the length of the log by then.
"""

from __future__ import annotations

import faulthandler
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import traceback
import unittest
from collections.abc import Callable
from typing import Any

Tell = Callable[..., None]


class Recorder(unittest.TestResult):
    """Reports when each test starts and how it ends."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self.tell = tell
        self.result: tuple[str, str] | None = None

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.tell("started", test=test._testMethodName)

    # Python 3.12.1 and later call this, but not startTest, for what a decorator skips.
    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        outcome, detail = self.result or ("failed", "the test ended without a result")
        self.result = None
        self.tell("ended", test=test._testMethodName, outcome=outcome, detail=detail)

    def addSuccess(self, test: unittest.TestCase) -> None:
        self._judge(test, "passed", "")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._judge(test, "skipped", reason)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._judge(test, "failed", self._exc_info_to_string(err, test))

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._judge(test, "failed", self._exc_info_to_string(err, test))

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self._judge(test, "failed", f"{subtest}\n{self._exc_info_to_string(err, test)}")

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._judge(test, "passed", "")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._judge(test, "failed", "passed although it is marked as an expected failure")

    def _judge(self, test: unittest.TestCase, outcome: str, detail: str) -> None:
        if not isinstance(test, unittest.TestCase):  # unittest's stand-in for a class or module fixture
            self.tell("fixture", outcome=outcome, detail=f"{test}\n{detail}")
        elif self.result is None or (outcome == "failed" and self.result[0] != "failed"):
            self.result = (outcome, detail)


def list_classes(modules: list[str], tell: Tell) -> None:
    """Tell which test classes the modules define, and what about them tells their start method."""
    classes, absent, broken = [], {}, {}
    for name in modules:
        try:
            module = importlib.import_module(name)
        except unittest.SkipTest as error:
            absent[name] = str(error)
            continue
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] == "test":
                absent[name] = "not installed with this Python"
            else:
                broken[name] = traceback.format_exc()
            continue
        except Exception:
            broken[name] = traceback.format_exc()
            continue
        for value in list(vars(module).values()):
            if isinstance(value, type) and issubclass(value, unittest.TestCase) and value.__module__ == name:
                classes.append(
                    {
                        "module": name,
                        "class": value.__name__,
                        "tests": list(unittest.defaultTestLoader.getTestCaseNames(value)),
                        "start": getattr(value, "start_method", None) or getattr(value, "ctx", None),
                        "executor": getattr(getattr(value, "executor_type", None), "__name__", None),
                    }
                )
    package = importlib.import_module("multiprocessing").__name__
    tell("listed", package=package, classes=classes, absent=absent, broken=broken)


def run_class(module: str, name: str, tests: list[str], tell: Tell) -> None:
    """Run the named tests of one class, with its fixtures and its module's."""
    test_class = getattr(importlib.import_module(module), name)
    unittest.TestSuite([test_class(test) for test in tests]).run(Recorder(tell))
    support = sys.modules.get("test.support")
    tell("done", altered=bool(getattr(support, "environment_altered", False)))


def follow_into_bare_interpreters() -> None:
    """Let programs started as `python -S -c ...` have the alias too.

    Without site there is no .pth file, so the test of interpreter flags would test the standard library.
    The package has to find its own way from the program into that program's children.
    """
    spec = importlib.util.find_spec("_procession_alias")
    if spec is None or spec.origin is None:
        return
    prologue = (
        f"import sys; sys.path.append({os.path.dirname(spec.origin)!r}); "
        "import _procession_alias; _procession_alias.activate(); "
    )
    check_output = subprocess.check_output

    def with_alias(command: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(command, list) and "-S" in command and "-c" in command:
            program = command.index("-c") + 1
            command = [*command[:program], prologue + command[program], *command[program + 1 :]]
        return check_output(command, *arguments, **options)

    subprocess.check_output = with_alias


def main() -> None:
    request = json.loads(sys.argv.pop())
    # This folder's modules are none of the tests' business.
    sys.path.pop(0)
    os.set_inheritable(request["events"], False)
    # After the stacks have been written, the signal's default action ends the process.
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR2, all_threads=True, chain=True)
    # A shell starts what stands before `&` with SIGINT ignored, and some tests interrupt themselves.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PROCESSION_INSTALL" in os.environ:
        follow_into_bare_interpreters()
    # Or a crash would take along what the test has printed.
    sys.stdout.reconfigure(line_buffering=True)
    worker, log = os.getpid(), os.dup(2)

    def tell(event: str, **facts: Any) -> None:
        if os.getpid() == worker:  # forked children carry this function along
            facts.update(event=event, printed=os.fstat(log).st_size)
            line = memoryview(json.dumps(facts).encode() + b"\n")
            while line:
                line = line[os.write(request["events"], line) :]

    if "list" in request:
        list_classes(request["list"], tell)
    else:
        run_class(request["module"], request["class"], request["tests"], tell)


if __name__ == "__main__":
    main()
