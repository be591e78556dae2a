"""`make suites` reports exactly the tests that pass with the standard library and fail here."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

SUITES = Path(__file__).resolve().parents[1] / "suites"
sys.path.append(str(SUITES))

import sources  # noqa: E402

LIMIT_SECONDS = 150

PREAMBLE = """
import multiprocessing, os, pathlib, signal, threading, pytest

IS_HERE = multiprocessing.__name__ == "procession"
FOLDER = pathlib.Path({folder!r})

def times():
    # How often this was called on this side, over all processes.
    with open(FOLDER / f"calls-{{IS_HERE}}", "a+") as calls:
        calls.write(".")
        return calls.tell()
"""


@dataclass
class Ran:
    """What a run of the comparison left."""

    status: int
    printed: str
    report: dict
    folder: Path

    def outcomes(self, side: str) -> dict[str, str]:
        """How each test ended when all were run, on one side."""
        return {test.rpartition("::")[2]: result["outcome"] for test, result in self.report[side].items()}

    def named(self, which: str) -> list[str]:
        """The tests that are told as differing."""
        return [test.rpartition("::")[2] for test in self.report[which]]


@pytest.fixture
def compare(tmp_path: Path):
    """Compare the two sides on a file of tests with some text."""

    def run(text: str, *options: str) -> Ran:
        file, report = tmp_path / "throw_away.py", tmp_path / "report.json"
        file.write_text(PREAMBLE.format(folder=str(tmp_path)) + textwrap.dedent(text))
        command = [
            sys.executable,
            str(SUITES / "run.py"),
            "--file",
            str(file),
            "--json",
            str(report),
            *options,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS)
        assert report.exists(), done.stderr
        (found,) = json.loads(report.read_text())["files"].values()
        return Ran(done.returncode, done.stdout, found, tmp_path)

    return run


def test_only_what_the_standard_library_passes_counts_against_the_package(compare) -> None:
    """What fails or is skipped on both sides, or fails with the standard library alone, is no difference."""
    ran = compare(
        """
        def test_passes(): pass
        def test_fails(): assert False
        def test_fails_with_the_stdlib(): assert IS_HERE
        def test_is_skipped(): pytest.skip("not today")
        @pytest.mark.xfail
        def test_is_expected_to_fail_here(): assert not IS_HERE
        """
    )
    assert ran.status == 0, ran.printed
    assert ran.named("fail here") == ran.named("unsteady") == []
    assert ran.printed.splitlines()[-1].split() == ["all", "2", "2", "1", "0", "0"]


def test_a_test_that_fails_here_alone_is_told_with_its_reason(compare) -> None:
    """It was repeated on both sides before, as often as asked for, and makes the run fail."""
    ran = compare(
        """
        def test_passes(): pass
        def test_fails_here():
            times()
            if IS_HERE: raise KeyError("three")
        """,
        *("--repeat", "2"),
    )
    assert ran.status == 1
    assert ran.named("fail here") == ["test_fails_here"]
    assert "here failed, failed, failed; with the standard library passed, passed, passed" in ran.printed
    assert "E   KeyError: 'three'" in ran.printed


def test_what_is_skipped_or_missing_here_alone_is_a_failure(compare) -> None:
    """A test that does not run shows nothing."""
    ran = compare(
        """
        def test_is_skipped_here():
            if IS_HERE: pytest.skip("no multiprocessing")

        if not IS_HERE:
            def test_is_missing_here(): pass
        """,
        *("--repeat", "1"),
    )
    assert ran.status == 1
    assert ran.named("fail here") == ["test_is_skipped_here", "test_is_missing_here"]
    assert "here skipped, skipped;" in ran.printed
    assert "here not run, not run;" in ran.printed


def test_a_test_that_hangs_or_ends_its_process_does_not_stop_the_others(compare) -> None:
    """It counts as timed out or crashed, with where it was, and the tests behind it run."""
    ran = compare(
        """
        def stuck_here(): threading.Event().wait()

        def test_1_before(): pass
        def test_2_hangs_here():
            if IS_HERE:
                multiprocessing.Process(target=stuck_here).start()
                stuck_here()
        def test_3_between(): pass
        def test_4_is_killed_here():
            if IS_HERE: os.kill(os.getpid(), signal.SIGKILL)
        def test_5_after(): pass
        """,
        *("--limit", "3", "--repeat", "1"),
    )
    assert ran.status == 1
    assert ran.named("fail here") == ["test_2_hangs_here", "test_4_is_killed_here"]
    here = ran.outcomes("here")
    assert [here[test] for test in sorted(here) if test.startswith("test")] == [
        "passed",
        "timed out",
        "passed",
        "crashed",
        "passed",
    ]
    assert set(ran.outcomes("stdlib").values()) == {"passed"}
    (hangs,) = (result for test, result in ran.report["here"].items() if "hangs" in test)
    assert "in stuck_here" in hangs["detail"]


def test_a_test_that_passes_when_repeated_is_told_apart(compare) -> None:
    """A test that fails now and then, on either side, is named and does not fail the run."""
    ran = compare(
        """
        def test_passes(): pass
        def test_fails_once_here(): assert not IS_HERE or times() > 1
        def test_fails_later_with_the_stdlib():
            assert not IS_HERE and times() == 1
        """
    )
    assert ran.status == 0, ran.printed
    assert ran.named("fail here") == []
    assert ran.named("unsteady") == ["test_fails_once_here", "test_fails_later_with_the_stdlib"]
    assert "not the same when repeated:" in ran.printed


def test_a_test_that_fails_in_one_of_several_runs_here_is_told(compare) -> None:
    """All tests are run here as often as asked for, and one failure among them is enough to be repeated."""
    ran = compare(
        """
        def test_passes(): times()
        def test_fails_in_the_second_run_here():
            with open(FOLDER / "own", "a+") as own:
                own.write("." * IS_HERE)
                assert own.tell() != 2
        """,
        *("--runs", "3", "--repeat", "2"),
    )
    assert ran.status == 0, ran.printed
    assert (ran.folder / "calls-True").read_text() == "..."
    assert ran.named("unsteady") == ["test_fails_in_the_second_run_here"]
    assert "here failed, passed; with the standard library passed\n" in ran.printed


def test_a_test_that_is_left_out_does_not_run_and_is_told_with_its_reason(tmp_path: Path) -> None:
    """Nothing is left out silently."""
    left_out = ((suite, skip) for suite in sources.SUITES for skip in suite.skipped)
    suite, (name, reason) = next(left_out)
    path, group, test = name.split("::")
    package = tmp_path / f"{suite.name}-{sources.pinned_version(suite.name)}"
    (package / path).parent.mkdir(parents=True)
    (package / path).write_text(
        f"class {group}:\n    def {test}(self): assert False\n    def test_other(self): pass\n"
    )
    # The options of this suite are its own.
    (package / "tests/conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--skip-high-memory', action='store_true')\n"
    )
    with tarfile.open(tmp_path / f"{package.name}.tar.gz", "w:gz") as archive:
        archive.add(package, package.name)
    options = ["--archives", str(tmp_path), "--only", suite.name]
    done = subprocess.run(
        [sys.executable, str(SUITES / "run.py"), *options],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"left out: {suite.name} {name}: {reason}" in done.stdout
    assert done.stdout.split("all")[-1].split()[:5] == ["1", "0", "0", "0", "0"]


def test_what_a_file_leaves_running_here_alone_is_told(compare) -> None:
    """A process that outlives its tests is a difference of its own."""
    ran = compare(
        """
        import subprocess, sys

        def test_leaves_a_process():
            if IS_HERE:
                program = "import threading; threading.Event().wait()"
                subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
        """,
        *("--repeat", "1"),
    )
    assert ran.status == 1
    assert ran.named("fail here") == ["<left running>"]


def test_a_file_that_the_standard_library_does_not_finish_is_told(compare) -> None:
    """Tests that have no result there are not passed over in silence."""
    ran = compare(
        """
        def test_passes(): pass
        def test_takes_all_the_time(): IS_HERE or threading.Event().wait()
        def test_is_not_reached(): pass
        """,
        *("--file-limit", "10"),
    )
    assert "not to the end with the standard library: file throw_away.py: timed out" in ran.printed


def test_a_file_without_a_single_test_that_passes_is_no_success(compare) -> None:
    """A file that cannot be imported on either side does not look like a green run."""
    ran = compare("import no_such_module_anywhere\n")
    assert ran.status == 1
    assert ran.outcomes("here") == {"<import>": "failed", "<end>": "passed", "<left running>": "passed"}


def test_each_suite_names_a_pinned_source_package() -> None:
    """What is downloaded, and what is installed to be tested, has a version."""
    names = ("joblib", "loky", "viztracer", "pebble", "mpire", "aiomultiprocess")
    for file in ("sources.txt", "requirements.txt"):
        pinned = (SUITES / file).read_text().lower()
        assert all(f"\n{name}==" in pinned for name in names), file
