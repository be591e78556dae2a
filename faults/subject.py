"""The package under test, as cases and their child processes see it, and helpers for all cases.

A case raises if the package does something wrong; the runner kills it if it hangs.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import Any

# The runner imports this for the names of the cases and sets no package: it must not install a drop-in.
PACKAGE = os.environ.get("FAULTS_PACKAGE", "multiprocessing")
METHOD = os.environ.get("FAULTS_METHOD", "fork")

if PACKAGE == "procession":
    # Install the drop-in, so that concurrent.futures and others use it too.
    import procession

    procession.install()

package: Any = importlib.import_module("multiprocessing")
ctx: Any = package.get_context(METHOD)
# The package's own extensions; a case that needs them does not run with the standard library.
ours: Any = importlib.import_module("procession") if PACKAGE == "procession" else None

# The time within which survivors must go on, in seconds; longer on a busy machine.
PROMPT = float(os.environ.get("FAULTS_PROMPT", "2.0"))


class Fault:
    """One case: what happens, and the function that does it."""

    def __init__(self, group: str, what: str, run: Callable[[], None], extension: bool, once: bool) -> None:
        self.group = group
        self.what = what
        self.run = run
        self.extension = extension
        self.once = once
        self.name = run.__name__


FAULTS: dict[str, Fault] = {}


def fault(
    what: str, *, extension: bool = False, once: bool = False
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Register a case. `extension`: the stdlib has no such thing; `once`: it is too long to be repeated."""

    def register(run: Callable[[], None]) -> Callable[[], None]:
        group = run.__module__.rpartition(".")[2]
        FAULTS[run.__name__] = Fault(group, what, run, extension, once)
        return run

    return register


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    os.kill(pid, number)


def die(how: str = "SIGKILL") -> None:
    """End this process, now."""
    match how:
        case "os._exit":
            os._exit(7)
        case "exec":
            os.execv("/bin/true", ["true"])
        case _:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), getattr(signal, how))
            time.sleep(60)


def start(target: Callable[..., Any], *args: Any, **kwds: Any) -> Any:
    process = ctx.Process(target=target, args=args, **kwds)
    process.start()
    return process


def run_and_kill(target: Callable[..., Any], *args: Any) -> None:
    """Start a process, wait until it reports over a pipe that it has reached a point, and kill it there."""
    line, theirs = package.Pipe()
    process = start(target, theirs, *args)
    assert line.recv() == "there"
    process.kill()
    process.join()
    line.close()
    theirs.close()


@contextmanager
def promptly() -> Any:
    """Fail if the block takes longer than `PROMPT`."""
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    assert took < PROMPT, f"it took {took:.1f} s"


@contextmanager
def raises(*kinds: Any) -> Any:
    try:
        yield
    except kinds:
        return
    raise AssertionError(f"no {' or '.join(kind.__name__ for kind in kinds)} was raised")


def gone_within(pids: list[int], seconds: float = PROMPT) -> bool:
    """Whether all these processes, which are not our children, end in time."""
    fds = []
    for pid in pids:
        with suppress(ProcessLookupError):
            fds.append(os.pidfd_open(pid))
    limit = time.monotonic() + seconds
    try:
        return all(select.select([fd], [], [], max(0.0, limit - time.monotonic()))[0] for fd in fds)
    finally:
        for fd in fds:
            os.close(fd)


def is_sleeping(pid: int) -> bool:
    """Whether a process is asleep."""
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it never came to that"
        time.sleep(0.002)


def wait_until_asleep(pid: int) -> None:
    """Wait until a process sleeps in its final wait: it must be asleep three times in a row."""
    seen = 0
    while seen < 5:
        seen = seen + 1 if is_sleeping(pid) else 0
        time.sleep(0.01)


def python(*arguments: str, **kwds: Any) -> Any:
    import subprocess

    return subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwds
    )
