"""A forked child does the same before and after its target as in the stdlib, in less Python code."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

Run = Callable[..., "CompletedProcess[str]"]

PROGRAM = """
    import atexit, logging, os, sys, threading, time
    import {package} as mp
    from {package} import util

    def say(*words):
        print(*words, flush=True)

    def grandchild():
        say("a grandchild ends before its parent does")

    class Own(mp.get_context("{method}").Process):
        def run(self):
            say("a run of its own", self.name)

    class Repairing(mp.get_context("{method}").Process):
        @staticmethod
        def _after_fork():
            say("an after-fork of its own")

    class Bootstrapping(mp.get_context("{method}").Process):
        def _bootstrap(self, *args, **kwds):
            say("a bootstrap of its own")
            return super()._bootstrap(*args, **kwds)

    def target(what):
        if what == "return":
            return 5
        if what.startswith("exit"):
            sys.exit({{"exit": None, "exit 3": 3, "exit text": "a text"}}[what])
        if what == "raise":
            raise ValueError("what went wrong")
        if what == "handlers":
            atexit.register(say, "registered first, runs last")
            atexit.register(say, "registered last, runs first")
            util.Finalize(None, say, ("a finalizer",), exitpriority=1)
            util.Finalize(None, say, ("an earlier finalizer",), exitpriority=20)
        if what == "children":
            mp.get_context("fork").Process(target=grandchild).start()
        if what == "thread":
            threading.Thread(target=lambda: (time.sleep(0.1), say("a thread ends first"))).start()
        if what == "unflushed":
            print("without a flush")
        if what == "state":
            say(mp.current_process().name, mp.parent_process().name, mp.active_children())
            say(repr(sys.stdin.read()), sys.stdin.name != 0, mp.get_start_method())
            say(threading.main_thread().native_id == os.getpid(), mp.Process().name)

    if __name__ == "__main__":
        atexit.register(say, "the parent's exit handler")
        ctx = mp.get_context("{method}")
        mp.set_start_method("{method}")
        if "log" in sys.argv:
            mp.log_to_stderr(logging.DEBUG)
        kinds = {{"own": Own, "repairing": Repairing, "bootstrapping": Bootstrapping}}
        child = kinds.get(sys.argv[1], ctx.Process)(target=target, args=(sys.argv[1],), name="Child")
        child.start()
        child.join()
        say("exit code", child.exitcode)
"""

WAYS = [
    *(
        "return",
        "exit",
        "exit 3",
        "exit text",
        "raise",
        "handlers",
        "children",
        "thread",
        "unflushed",
        "state",
    ),
    *("own", "repairing", "bootstrapping"),
]


def outcome(run: Run, package: str, method: str, *arguments: str) -> tuple[int, str, str]:
    """The output of a program, without what differs from run to run."""
    done = run(PROGRAM.format(package=package, method=method), *arguments)
    errors = re.sub(r'File "[^"]*", line \d+', "File", done.stderr.replace(package, "multiprocessing"))
    # The way from the start to the target is the package's own.
    errors = re.sub(r"(?s)(Traceback[^\n]*\n).*(  File, in target)", r"\1\2", errors)
    return done.returncode, done.stdout, errors


@pytest.mark.parametrize("method", ["fork", "forkserver"])
@pytest.mark.parametrize("way", WAYS)
def test_a_child_ends_as_the_stdlibs_does(run_script: Run, way: str, method: str) -> None:
    """Output, errors and exit code are the same, whatever the target does."""
    ours = outcome(run_script, "procession", method, way)
    if way == "handlers" and sys.version_info < (3, 13):
        # There the stdlib's forked children run no `atexit` functions; here they do, last first.
        handlers = [line for line in ours[1].splitlines() if line.startswith("registered")]
        assert handlers == ["registered last, runs first", "registered first, runs last"]
        return
    assert ours == outcome(run_script, "multiprocessing", method, way)
    assert "exit code" in ours[1]


@pytest.mark.parametrize("way", ["return", "handlers", "raise"])
def test_a_child_logs_its_beginning_and_its_end(run_script: Run, way: str) -> None:
    """With the logger on, the same words as the stdlib's."""
    words = ("child process calling self.run()", "process shutting down", "process exiting with exitcode")
    for package in ("procession", "multiprocessing"):
        _, _, errors = outcome(run_script, package, "fork", way, "log")
        logged = [line for line in errors.splitlines() if "Child" in line]
        assert [sum(word in line for line in logged) for word in words] == [1, 1, 1], (package, errors)


def test_a_child_for_which_there_is_no_place_is_no_second_copy_of_its_parent(run_script: Run) -> None:
    """If the process table is full, it fails or is not started; the program runs once."""
    program = """
    import procession as mp
    from procession import _native

    box = mp.Queue()
    entries = []
    try:
        while True:
            entries.append(_native.reserve_entry())
    except RuntimeError as error:
        print("4095" in str(error))
    try:
        child = mp.get_context("fork").Process(target=box.put, args=("sent",))
        child.start()
        child.join()
        print("exit code", child.exitcode)
    except (OSError, RuntimeError) as error:
        print("exit code 1")
    for entry in entries:
        _native.release_entry(entry)
    child = mp.get_context("fork").Process(target=box.put, args=("sent",))
    child.start()
    child.join()
    print(box.get(timeout=10), child.exitcode, flush=True)
    """
    assert run_script(program).stdout.splitlines() == ["True", "exit code 1", "sent 0"]
