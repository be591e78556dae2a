"""The system refuses what the engine needs: programs run on the standard library instead.

`faults/cases/refusals.py` tests the refused calls for which the engine has a substitute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import procession

ROOT = Path(__file__).resolve().parents[2]
REFUSED = str(ROOT / "faults" / "refused.py")
HOME = str(Path(procession.__file__).parent.parent)

PROGRAM = """
import subprocess, sys, os
import {package} as multiprocessing
from {package}.pool import ThreadPool
from {package}.managers import BaseManager


class Shelf:
    def top(self):
        return "book"


class Manager(BaseManager):
    pass


Manager.register("Shelf", Shelf)


def work(n, queue, lock):
    import {package}
    with lock:
        queue.put((n, type(queue).__module__.partition(".")[0]))


if __name__ == "__main__":
    for method in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context(method)
        queue, lock = context.Queue(), context.Lock()
        process = context.Process(target=work, args=(7, queue, lock))
        process.start()
        print(queue.get(timeout=60)[0], end=" ")
        process.join()
        with context.Pool(2) as pool, ThreadPool(1) as threads:
            print(pool.map(abs, [-1, -2]), threads.map(abs, [-3]), end=" ")
        with Manager(ctx=context) as manager:
            print(manager.Shelf().top(), process.exitcode)
    sys.stdout.flush()
    subprocess.run([sys.executable, "-c", "import {package}; print({package}.Queue().empty())"])
"""
ALL_WORKS = ["7 [1, 2] [3] book 0"] * 3 + ["True"]


def run(
    tmp_path: Path, program: str, *launcher: str, call: str = "memfd_create", error: str = "EPERM", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a program, from a file, that may not make a system call."""
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(program))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PROCESSION")}
    return subprocess.run(
        [sys.executable, REFUSED, call, error, sys.executable, *launcher, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**clean, "PYTHONPATH": HOME, **env},
        cwd=tmp_path,
    )


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS", "EACCES"])
def test_where_the_engine_cannot_run_a_program_works_all_the_same(tmp_path: Path, error: str) -> None:
    """One warning in a tree of processes gives the reason and names the line that imports the package."""
    done = run(tmp_path, PROGRAM.format(package="procession"), error=error)
    assert (done.stdout.splitlines(), done.returncode) == (ALL_WORKS, 0), done.stderr
    assert done.stderr.count("Warning") == 1, done.stderr
    place = (
        f"{tmp_path / 'program.py'}:3: RuntimeWarning: procession cannot run its engine, since this system"
    )
    assert done.stderr.startswith(f"{place} refuses memfd_create")
    assert "PROCESSION_FALLBACK=quiet" in done.stderr


@pytest.mark.parametrize("way", ["launcher", "variable"])
def test_an_unchanged_program_works_under_the_alias(tmp_path: Path, way: str) -> None:
    """`multiprocessing` then means the standard library, or an extension of it."""
    program = PROGRAM.format(package="multiprocessing")
    if way == "launcher":
        done = run(tmp_path, program, "-m", "procession", PROCESSION_FALLBACK="quiet")
    else:
        # Runs at the start of every interpreter, as the .pth file of an installed package does.
        text = "import _procession_alias; _procession_alias.activate()\n"
        (tmp_path / "sitecustomize.py").write_text(text)
        path = os.pathsep.join([str(tmp_path), HOME])
        done = run(tmp_path, program, PROCESSION_INSTALL="1", PROCESSION_FALLBACK="quiet", PYTHONPATH=path)
    assert (done.stdout.splitlines(), done.stderr) == (ALL_WORKS, "")


def test_types_are_multiprocessings_under_the_alias_without_the_engine_too(tmp_path: Path) -> None:
    """Each class reports the module that it is pickled by."""
    program = """
    import multiprocessing as mp, pickle
    things = [mp.Queue(), mp.SimpleQueue(), mp.Lock(), mp.Event(), mp.Value("i", 0), mp.Process()]
    print({type(thing).__module__.partition(".")[0] for thing in things})
    print(all(pickle.loads(pickle.dumps(type(thing))) is type(thing) for thing in things))
    """
    done = run(tmp_path, program, "-m", "procession", PROCESSION_FALLBACK="quiet")
    assert (done.stdout, done.stderr) == ("{'multiprocessing'}\nTrue\n", "")


def test_a_program_can_insist_on_the_engine(tmp_path: Path) -> None:
    """PROCESSION_FALLBACK=error makes the import fail."""
    done = run(tmp_path, "import procession", PROCESSION_FALLBACK="error")
    assert done.returncode == 1
    assert (
        "ImportError: procession cannot run its engine, since this system refuses memfd_create" in done.stderr
    )


def test_where_warnings_are_errors_the_import_fails_each_time(tmp_path: Path) -> None:
    """A second import fails as well."""
    program = """
    for attempt in range(2):
        try:
            import procession
        except RuntimeWarning as warning:
            print(str(warning).partition(",")[0])
    """
    done = run(tmp_path, program, "-W", "error")
    assert done.stdout.splitlines() == ["procession cannot run its engine"] * 2, done.stderr


IN_A_SANDBOX = """
import os, sys
sys.path.insert(0, {root!r})
os.environ.update(FAULTS_PACKAGE="multiprocessing", FAULTS_METHOD="fork")
from faults.cases.limits import refuse
import errno
import procession


def work(queue):
    import procession
    queue.put(type(queue.qsize).__name__)


if __name__ == "__main__":
    before = procession.Queue() if {used} else None
    refuse("memfd_create", errno.EPERM)
    for method in procession.get_all_start_methods():
        context = procession.get_context(method)
        queue = context.Queue()
        process = context.Process(target=work, args=(queue,))
        process.start()
        print(queue.get(timeout=60), end=" ")
        process.join()
        with context.Pool(1) as pool:
            print(pool.map(abs, [-1]), process.exitcode)
    box = procession.Queue()
    print(isinstance(box, procession._native.Queue), type(box).__module__)
"""


def test_a_program_may_go_into_a_sandbox_after_the_import(tmp_path: Path) -> None:
    """Before it makes its first object: that is the standard library's, and the warning names its line."""
    done = run(tmp_path, IN_A_SANDBOX.format(root=str(ROOT), used=False), call="futex_waitv")
    assert done.stdout.splitlines() == ["method [1] 0"] * 3 + ["False procession._core.fallback.queues"], (
        done.stderr
    )
    assert done.stderr.count("RuntimeWarning") == 1 and "program.py:20: Run" in done.stderr


def test_a_program_that_has_shared_memory_keeps_the_engine_in_a_sandbox(tmp_path: Path) -> None:
    """So do its children, which start inside the sandbox."""
    done = run(tmp_path, IN_A_SANDBOX.format(root=str(ROOT), used=True), call="futex_waitv")
    works = ["builtin_function_or_method [1] 0"] * 3
    assert (done.stdout.splitlines(), done.stderr) == ([*works, "True procession.queues"], "")


WITHOUT_RANDOM_NUMBERS = """
import os, sys
sys.path.insert(0, {root!r})
os.environ.update(FAULTS_PACKAGE="multiprocessing", FAULTS_METHOD="fork")
from faults.cases.limits import refuse
import errno


if __name__ == "__main__":
    refuse("getrandom", errno.EACCES)
    import procession
    context = procession.get_context("fork")
    with context.Pool(1) as pool:
        print(pool.map(abs, [-1]), type(context.Queue()).__module__)
"""


def test_where_random_numbers_are_refused_a_program_works_all_the_same(tmp_path: Path) -> None:
    """Otherwise Rust's standard library would panic while the engine is loaded."""
    done = run(tmp_path, WITHOUT_RANDOM_NUMBERS.format(root=str(ROOT)), call="futex_waitv")
    assert done.stdout.splitlines() == ["[1] procession._core.fallback.queues"], done.stderr
    assert "since this system refuses getrandom (errno 13)" in done.stderr
