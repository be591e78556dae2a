"""A killed program takes its workers and daemons along, and no other process."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import procession
from procession import _native
from procession.pool import Pool

LIMIT_MS = 30_000

# The worst kind of worker: busy in C code, and ignoring every signal that it can.
PROGRAM = """
import os, signal, sys
import procession
from procession.managers import SyncManager

def be_busy(pids):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGIO):
        signal.signal(number, signal.SIG_IGN)
    pids.put(os.getpid())
    pow(3, 10**9)

def be_busy_with_a_child(pids):
    kin = procession.get_context(sys.argv[1])
    kin.Process(target=be_busy, args=(pids,)).start()
    be_busy(pids)

def share(queue):
    global pids
    pids = queue

def task(_):
    be_busy_with_a_child(pids)

def start_a_daemon(pids, line):
    daemon = procession.get_context(sys.argv[1]).Process(target=be_busy, args=(pids,), daemon=True)
    daemon.start()
    line.recv()

def main(method, what):
    ctx = procession.get_context(method)
    pids = ctx.Queue()
    match what:
        case "daemon":
            ctx.Process(target=be_busy, args=(pids,), daemon=True).start()
            count = 1
        case "pool":
            workers = ctx.Pool(2, share, (pids,))
            job = workers.map_async(task, range(2), 1)
            count = 4
        case "manager":
            manager = SyncManager(ctx=ctx)
            manager.start(tell_pid, (pids,))
            count = 1
        case "process":
            ctx.Process(target=be_busy, args=(pids,)).start()
            count = 1
        case "heir":
            ctx.Process(target=be_busy, args=(pids,), daemon=True).start()
            busy = pids.get()
            heir = os.fork()
            if heir == 0:
                signal.pause()
            for pid in (busy, heir):
                pids.put(pid)
            count = 2
        case "closed":
            ctx.Process(target=be_busy, args=(pids,), daemon=True).start()
            busy = pids.get()
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            pids = ctx.Queue()
            pids.put(busy)
            count = 1
        case "grandchild":
            ours, theirs = ctx.Pipe()
            parent = ctx.Process(target=start_a_daemon, args=(pids, theirs))
            parent.start()
            count = 1
    print(*(pids.get() for _ in range(count)), flush=True)
    if what == "grandchild":
        print(parent.pid, flush=True)
    signal.pause()

def tell_pid(pids):
    pids.put(os.getpid())

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


class Running:
    """A running program, and the processes that it reported."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self.program = program
        assert program.stdout is not None
        self.pids = [int(pid) for pid in program.stdout.readline().split()]
        assert self.pids, "the program did not start its processes"
        self._pidfds = [os.pidfd_open(pid) for pid in self.pids]

    def all_end(self) -> bool:
        return all(_is_readable(pidfd) for pidfd in self._pidfds)

    def close(self) -> None:
        self.program.kill()
        for pidfd in self._pidfds:
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.close(pidfd)
        self.program.communicate()


def _is_readable(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(LIMIT_MS))


@pytest.fixture
def run(tmp_path: Path, start_method: str) -> Iterator[Callable[[str], Running]]:
    """Run the program above until it has started what its argument asks for."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    home = os.path.dirname(os.path.dirname(os.path.abspath(procession.__file__)))
    running: list[Running] = []

    def run(what: str) -> Running:
        program = subprocess.Popen(
            [sys.executable, str(script), start_method, what],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": home},
        )
        running.append(Running(program))
        return running[-1]

    yield run
    for one in running:
        one.close()


@pytest.mark.parametrize("what", ["daemon", "pool", "manager"])
def test_a_killed_program_takes_along(run: Callable[[str], Running], what: str) -> None:
    """Daemons, the workers of pools with their children, and servers of managers."""
    running = run(what)
    running.program.kill()
    assert running.all_end()


def test_a_program_that_ends_without_cleaning_up_takes_its_daemons_along(
    run: Callable[[str], Running],
) -> None:
    """SIGTERM ends a Python program at once, unless it says otherwise."""
    running = run("daemon")
    running.program.terminate()
    assert running.all_end()


def test_a_killed_child_takes_its_own_daemon_along(run: Callable[[str], Running]) -> None:
    """The chain runs from parent to child at any depth, however they were forked."""
    running = run("grandchild")
    assert running.program.stdout is not None
    os.kill(int(running.program.stdout.readline()), signal.SIGKILL)
    assert running.all_end()
    assert running.program.poll() is None


def test_what_a_program_started_ends_with_the_last_that_was_forked_from_it(
    run: Callable[[str], Running],
) -> None:
    """As when a daemonized program is killed."""
    running = run("heir")
    _, heir = running.pids
    running.program.kill()
    running.program.wait()
    os.kill(heir, signal.SIGKILL)
    assert running.all_end()


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_a_program_that_closed_all_its_descriptors_takes_along(run: Callable[[str], Running]) -> None:
    """Children end when the program ends, and not when it closes its descriptors."""
    running = run("closed")
    running.program.kill()
    assert running.all_end()


def test_a_process_that_is_no_daemon_outlives_its_parent(run: Callable[[str], Running]) -> None:
    """As with the standard library."""
    running = run("process")
    running.program.kill()
    running.program.wait()
    os.kill(running.pids[0], 0)


def double(x: int) -> int:
    return 2 * x


def double_all(method: str, numbers: list[int]) -> list[int]:
    with procession.get_context(method).Pool(2) as pool:
        return pool.map(double, numbers)


def test_workers_of_a_pool_may_have_pools(ctx: Any, start_method: str, nothing_left: None) -> None:
    """So may their children; `daemon` keeps its value."""
    pool: Pool
    with ctx.Pool(2) as pool:
        assert pool.starmap(double_all, [(start_method, [1, 2]), (start_method, [3])]) == [[2, 4], [6]]
        assert pool.apply(is_a_daemon) is True


def is_a_daemon() -> bool:
    return procession.current_process().daemon


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_daemons_do_not_collect_descriptors() -> None:
    """Each process uses one descriptor for its lifeline, however many came before it."""
    counts = set()
    for _ in range(3):
        ctx = procession.get_context("fork")
        ours, theirs = ctx.Pipe()
        process = ctx.Process(target=tell, args=(theirs, count_descriptors), daemon=True)
        process.start()
        counts.add(ours.recv())
        process.join()
        process.close()
        ours.close()
        theirs.close()
    assert len(counts) == 1


def tell(line: Any, question: Callable[[], Any]) -> None:
    line.send(question())


@pytest.mark.parametrize("number", [-1, 9999])
def test_a_lifeline_that_is_no_descriptor_is_refused(number: int) -> None:
    """The process is never left without a lifeline."""
    with pytest.raises(OSError, match="lifeline"):
        _native.die_with_parent(number)
