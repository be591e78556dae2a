"""CPython's own tests pass (a sample here, all by `make conformance`), and their runner reports correctly."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

RUNNER = Path(__file__).resolve().parents[1] / "conformance" / "run.py"
LIMIT_SECONDS = 150

# Classes that take a second or so, and how many of their tests pass in the Python that has the fewest.
SAMPLE = {
    "fork": (
        15,
        [
            "WithProcessesTestLock",
            "WithProcessesTestSemaphore",
            "WithProcessesTestEvent",
            "WithProcessesTestArray",
            "WithManagerTestLock",
        ],
    ),
    "forkserver": (
        14,
        [
            "WithProcessesTestCondition",
            "WithProcessesTestValue",
            "WithProcessesTestArray",
        ],
    ),
    "spawn": (
        12,
        [
            "WithProcessesTestSemaphore",
            "WithProcessesTestValue",
            "WithProcessesTestPicklingConnections",
            "TestSimpleQueue",
            "TestFlags",
        ],
    ),
}

PREAMBLE = """
import fcntl, multiprocessing, os, signal, subprocess, sys, threading, unittest

HERE = {here!r}

# From here on a file's lock is held as long as this process, or one that it starts, lives.
def hold():
    held = os.open(os.path.join(HERE, "held"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    os.set_inheritable(held, True)
"""

needs_tests_of_python = pytest.mark.skipif(
    importlib.util.find_spec("test") is None
    or importlib.util.find_spec("test._test_multiprocessing") is None,
    reason="this Python was installed without its tests",
)


@dataclass
class Ran:
    """What a run of the runner left."""

    status: int
    printed: str
    report: dict

    def outcomes(self, run: int = 0) -> dict[str, str]:
        """How each test ended."""
        return {result["test"]: result["outcome"] for result in self.report["runs"][run]}

    def detail(self, test: str) -> str:
        """What was said about a test."""
        return next(result["detail"] for result in self.report["runs"][0] if result["test"] == test)


class Conform:
    """Runs the runner, on the throw-away modules it is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.report = folder / "report.json"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(RUNNER), "--json", str(self.report), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __call__(self, *arguments: str) -> Ran:
        process = self.start(*arguments)
        try:
            printed, _ = process.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()
            printed, _ = process.communicate(timeout=30)
            pytest.fail(f"the runner did not end; it printed\n{printed}")
        assert self.report.exists(), printed
        return Ran(process.returncode, printed, json.loads(self.report.read_text()))

    def write(self, text: str) -> str:
        """A module with this text below what all of them need."""
        module = self.folder / "throw_away.py"
        module.write_text(PREAMBLE.format(here=str(self.folder)) + textwrap.dedent(text))
        return str(module)

    def run_module(self, text: str, *arguments: str) -> Ran:
        """Run the tests of a module with this text."""
        return self("--module", self.write(text), *arguments)


@pytest.fixture
def conform(tmp_path: Path) -> Conform:
    """The runner, with a folder for what it is given and what it says."""
    return Conform(tmp_path)


def nobody_holds(folder: Path) -> bool:
    """Whether all processes are gone that held the file's lock."""
    with open(folder / "held") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@needs_tests_of_python
@pytest.mark.parametrize("start", SAMPLE)
def test_a_sample_of_cpythons_own_tests_passes(start: str, conform: Conform) -> None:
    """What CPython expects of its locks, values and queues holds for Procession's."""
    least, classes = SAMPLE[start]
    chosen = [option for name in classes for option in ("--only", f"{name}.*")]
    ran = conform("--suite", "multiprocessing", "--start", start, *chosen)
    assert ran.status == 0, ran.printed
    assert ran.report["package"] == "procession"
    assert {name.partition(".")[0] for name in ran.outcomes()} == set(classes)
    assert list(ran.outcomes().values()).count("passed") >= least, ran.printed
    assert ran.report["unmatched"] == []


def test_a_test_that_hangs_is_ended_and_shows_where(conform: Conform) -> None:
    """It counts as timed out, its stack is told, its children end with it, and the tests after it run."""
    ran = conform.run_module(
        """
        def stuck_here():
            threading.Event().wait()

        def stuck_in_the_child():
            os.setsid()
            stuck_here()

        class Hanging(unittest.TestCase):
            def test_1_before(self): pass

            def test_2_hangs(self):
                hold()
                child = multiprocessing.get_context("fork").Process(target=stuck_in_the_child)
                child.start()
                stuck_here()

            def test_3_after(self): pass
        """,
        "--limit",
        "2",
    )
    assert ran.status == 1
    assert ran.outcomes() == {
        "Hanging.test_1_before": "passed",
        "Hanging.test_2_hangs": "timed out",
        "Hanging.test_3_after": "passed",
    }
    stacks = ran.detail("Hanging.test_2_hangs")
    assert "in test_2_hangs" in stacks
    assert "in stuck_in_the_child" in stacks
    assert "timed out: module fork Hanging.test_2_hangs\n    still running after 2 s, in File" in ran.printed
    assert nobody_holds(conform.folder)


def test_a_test_that_ends_its_process_fails_alone(conform: Conform) -> None:
    """It counts as crashed, with what ended the process, and the tests after it run."""
    ran = conform.run_module(
        """
        class Crashing(unittest.TestCase):
            def test_1_before(self): pass

            def test_2_is_killed(self): os.kill(os.getpid(), signal.SIGKILL)

            def test_3_exits(self):
                print("last words", flush=True)
                os._exit(0)

            def test_4_after(self): pass
        """
    )
    assert ran.status == 1
    assert ran.outcomes() == {
        "Crashing.test_1_before": "passed",
        "Crashing.test_2_is_killed": "crashed",
        "Crashing.test_3_exits": "crashed",
        "Crashing.test_4_after": "passed",
    }
    assert ran.detail("Crashing.test_2_is_killed") == "the process was ended by SIGKILL"
    assert ran.detail("Crashing.test_3_exits") == "last words\nthe process ended with status 0"


def test_each_test_counts_as_what_it_was(conform: Conform) -> None:
    """Failures, errors, skips and what is expected to fail are told apart, subtests included."""
    ran = conform.run_module(
        """
        class Outcomes(unittest.TestCase):
            def test_passes(self): pass
            def test_fails(self): self.assertEqual("one", "two")
            def test_raises(self): raise KeyError("three")
            def test_fails_in_a_subtest(self):
                for number in range(3):
                    with self.subTest(number=number): self.assertNotEqual(number, 1)
            def test_fails_in_a_cleanup(self): self.addCleanup(self.fail, "unclean")
            def test_skips(self): self.skipTest("not today")
            @unittest.skip("never")
            def test_is_skipped(self): pass
            @unittest.expectedFailure
            def test_fails_as_expected(self): self.fail("of course")
            @unittest.expectedFailure
            def test_passes_unexpectedly(self): pass
        """
    )
    assert ran.outcomes() == {
        "Outcomes.test_passes": "passed",
        "Outcomes.test_fails": "failed",
        "Outcomes.test_raises": "failed",
        "Outcomes.test_fails_in_a_subtest": "failed",
        "Outcomes.test_fails_in_a_cleanup": "failed",
        "Outcomes.test_skips": "skipped",
        "Outcomes.test_is_skipped": "skipped",
        "Outcomes.test_fails_as_expected": "passed",
        "Outcomes.test_passes_unexpectedly": "failed",
    }
    assert ran.status == 1
    assert ran.printed.splitlines()[3].split()[:6] == ["module", "fork", "2", "5", "2", "0"]
    assert "failed: module fork Outcomes.test_raises\n    KeyError: 'three'" in ran.printed


def test_a_fixture_that_fails_is_not_overlooked(conform: Conform) -> None:
    """Tests kept from running count as failed or skipped; a failure after the last test counts, too."""
    ran = conform.run_module(
        """
        class Unready(unittest.TestCase):
            @classmethod
            def setUpClass(cls): raise OSError("no room")
            def test(self): pass

        class Unwanted(unittest.TestCase):
            @classmethod
            def setUpClass(cls): raise unittest.SkipTest("not here")
            def test(self): pass

        class Untidy(unittest.TestCase):
            @classmethod
            def tearDownClass(cls): raise OSError("left a mess")
            def test(self): pass

        class Deadly(unittest.TestCase):
            @classmethod
            def tearDownClass(cls): os._exit(0)
            def test(self): pass
        """
    )
    assert ran.outcomes() == {
        "Unready.test": "failed",
        "Unwanted.test": "skipped",
        "Untidy.test": "passed",
        "Untidy.<fixture>": "failed",
        "Deadly.test": "passed",
        "Deadly.<fixture>": "crashed",
    }
    assert ran.detail("Unready.test").endswith("OSError: no room")
    assert ran.detail("Untidy.<fixture>").endswith("OSError: left a mess")


def test_what_a_class_leaves_running_is_told_and_ended(conform: Conform) -> None:
    """A process in a session of its own, whose parent is gone, is found all the same."""
    ran = conform.run_module(
        """
        SLEEP = "import threading; threading.Event().wait()"

        class Leaving(unittest.TestCase):
            def test(self):
                hold()
                subprocess.Popen([sys.executable, "-c", SLEEP], close_fds=False, start_new_session=True)
        """
    )
    assert ran.status == 1
    assert ran.outcomes() == {"Leaving.test": "passed", "Leaving.<left running>": "failed"}
    assert "threading.Event().wait()" in ran.detail("Leaving.<left running>")
    assert nobody_holds(conform.folder)


def test_entries_of_the_skip_list_exclude_or_are_reported(conform: Conform) -> None:
    """An excluded test does not run; an entry without a test is named, unless it is for another Python."""
    skips = conform.folder / "skips.json"
    skips.write_text(
        json.dumps(
            [
                {"suite": "module", "test": "Skipping.test_fails*", "reason": "it does"},
                {"suite": "module", "test": "Skipping.test_gone", "reason": "it was there once"},
                {"suite": "module", "test": "Skipping.test_old", "reason": "old", "python": ["3.10"]},
                {"suite": "main", "test": "Skipping.test_passes", "reason": "of a suite that is not run"},
            ]
        )
    )
    ran = conform.run_module(
        """
        class Skipping(unittest.TestCase):
            def test_fails_always(self): self.fail()
            def test_passes(self): pass
        """,
        "--skips",
        str(skips),
    )
    assert ran.status == 0, ran.printed
    assert ran.outcomes() == {"Skipping.test_fails_always": "excluded", "Skipping.test_passes": "passed"}
    assert ran.detail("Skipping.test_fails_always") == "it does"
    assert ran.report["unmatched"] == ["Skipping.test_gone"]
    assert ran.printed.endswith("match no test:\n    module Skipping.test_gone\n")


def test_the_projects_skip_list_gives_a_reason_for_each_of_its_entries() -> None:
    """Every exclusion is reported."""
    entries = json.loads(RUNNER.with_name("skips.json").read_text())
    assert len(entries) == 10
    assert all(len(entry["reason"]) > 40 for entry in entries)


def test_tests_that_differ_from_run_to_run_are_reported(conform: Conform) -> None:
    """With --repeat, a flaky test is named with how often it ended how."""
    ran = conform.run_module(
        """
        class Flaky(unittest.TestCase):
            def test_now_and_then(self): os.mkdir(os.path.join(HERE, "once"))
            def test_always(self): pass
        """,
        "--repeat",
        "3",
    )
    assert ran.status == 1
    assert [ran.outcomes(run)["Flaky.test_now_and_then"] for run in range(3)] == [
        "passed",
        "failed",
        "failed",
    ]
    assert ran.report["differing"] == {"module fork Flaky.test_now_and_then": {"passed": 1, "failed": 2}}
    assert "    module fork Flaky.test_now_and_then: passed 1, failed 2 of 3\n" in ran.printed


def test_the_baseline_is_the_standard_library(conform: Conform) -> None:
    """With --baseline tests see the interpreter's own package, without it Procession's."""
    text = """
        class Named(unittest.TestCase):
            def test_name(self): self.skipTest(multiprocessing.__name__)
            def test_passes(self): pass
    """
    assert conform.run_module(text).detail("Named.test_name") == "procession"
    ran = conform.run_module(text, "--baseline")
    assert ran.detail("Named.test_name") == "multiprocessing"
    assert ran.printed.startswith("multiprocessing on Python")


def test_a_run_without_a_single_test_is_no_success(conform: Conform) -> None:
    """A misspelled pattern does not look like a green run."""
    ran = conform.run_module("class Some(unittest.TestCase):\n    def test(self): pass\n", "--only", "Same.*")
    assert ran.status == 1
    assert ran.outcomes() == {}


def test_a_module_that_cannot_be_imported_is_a_failure(conform: Conform) -> None:
    """Its tests can't be counted, but are not forgotten."""
    ran = conform.run_module("import no_such_module_anywhere\n")
    assert ran.status == 1
    assert ran.outcomes() == {"throw_away.<import>": "failed"}


def test_ending_the_runner_ends_the_tests(conform: Conform) -> None:
    """SIGTERM to the runner leaves nothing of a running test behind."""
    module = conform.write(
        """
        class Endless(unittest.TestCase):
            def test(self):
                hold()
                with open(os.path.join(HERE, "running"), "w") as running: running.write("yes")
                threading.Event().wait()
        """
    )
    os.mkfifo(conform.folder / "running")
    running = os.open(conform.folder / "running", os.O_RDONLY | os.O_NONBLOCK)
    with conform.start("--module", module) as process:
        ready, _, _ = select.select([running], [], [], 60)
        os.close(running)
        process.terminate()
        process.communicate(timeout=60)
    assert ready, "the test did not begin"
    assert process.returncode == 128 + signal.SIGTERM
    assert nobody_holds(conform.folder)
