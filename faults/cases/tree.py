"""Parents, children and signals: which processes end, and which survive."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

from faults.subject import METHOD, PACKAGE, ctx, fault, gone_within, package, python, start, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
# The program that a case starts and kills while the case observes.
SELF = os.path.join(os.path.dirname(HERE), "program.py")


def be_busy(out: Any = None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if out is not None:
        out.put(os.getpid())
    pow(3, 10**9)


def share(queue: Any) -> None:
    global pids
    pids = queue


def busy_task(_: int) -> None:
    be_busy(pids)


def program_with_a_pool() -> None:
    queue = ctx.Queue()
    pool = ctx.Pool(2, share, (queue,))
    job = pool.map_async(busy_task, range(2), 1)
    print(queue.get(), queue.get(), flush=True)
    job.wait()


def program_with_a_daemon() -> None:
    queue = ctx.Queue()
    start(be_busy, queue, daemon=True)
    print(queue.get(), flush=True)
    signal.pause()


def program_with_a_manager() -> None:
    manager = ctx.Manager()
    print(manager._process.pid, flush=True)
    signal.pause()


def middle(out: Any) -> None:
    start(be_busy, out, daemon=True)
    be_busy(out)


def program_with_a_grandchild() -> None:
    queue = ctx.Queue()
    middle_one = start(middle, queue)
    print(*{queue.get(), queue.get()} - {middle_one.pid}, middle_one.pid, flush=True)
    signal.pause()


def program_that_sleeps_in_a_pool() -> None:
    pool = ctx.Pool(2)
    job = pool.map_async(time.sleep, [60, 60], 1)
    print(*(worker.pid for worker in pool._pool), flush=True)
    job.get()


def program_that_sleeps_in_a_process() -> None:
    process = start(time.sleep, 60)
    print(process.pid, flush=True)
    process.join()


def program_that_leaves_a_pool() -> None:
    pool = ctx.Pool(2)
    pool.map_async(time.sleep, [60, 60], 1)
    print(*(worker.pid for worker in pool._pool), flush=True)


class Program:
    def __init__(self, name: str) -> None:
        self.process = python(SELF, PACKAGE, METHOD, name, process_group=0)
        self.pids = [int(pid) for pid in self.process.stdout.readline().split()]
        assert self.pids, self.process.communicate()[1]


def check_killed(name: str) -> None:
    program = Program(name)
    program.process.kill()
    program.process.wait()
    ended = gone_within(program.pids)
    for pid in program.pids:
        if not ended:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    assert ended, "its processes live on"
    program.process.communicate()


@fault("a program is killed: its pool's busy workers are gone")
def killed_program_with_a_pool() -> None:
    check_killed("program_with_a_pool")


@fault("a program is killed: its busy daemon is gone")
def killed_program_with_a_daemon() -> None:
    check_killed("program_with_a_daemon")


@fault("a program is killed: the server of its manager is gone")
def killed_program_with_a_manager() -> None:
    check_killed("program_with_a_manager")


@fault("a child is killed: its own daemon is gone")
def killed_child_with_a_daemon() -> None:
    program = Program("program_with_a_grandchild")
    grandchild, child = program.pids
    os.kill(child, signal.SIGKILL)
    ended = gone_within([grandchild])
    for pid in (program.process.pid, *program.pids):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    program.process.communicate()
    assert ended


@fault("Ctrl-C while a pool works: one traceback, everything gone")
def ctrl_c_in_a_pool() -> None:
    check_interrupt("program_that_sleeps_in_a_pool")


def check_interrupt(name: str) -> None:
    program = Program(name)
    time.sleep(0.2)
    os.killpg(program.process.pid, signal.SIGINT)
    try:
        _, errors = program.process.communicate(timeout=5)
    finally:
        if program.process.returncode is None:
            os.killpg(program.process.pid, signal.SIGKILL)
    assert gone_within(program.pids)
    assert errors.count("KeyboardInterrupt") == 1, errors
    assert errors.count("Traceback") == 1, errors


@fault("Ctrl-C while a pool works that was never closed: the program ends")
def exit_with_an_open_pool() -> None:
    program = Program("program_that_leaves_a_pool")
    try:
        program.process.communicate(timeout=8)
    finally:
        if program.process.returncode is None:
            os.killpg(program.process.pid, signal.SIGKILL)
    assert program.process.returncode == 0
    assert gone_within(program.pids)


@fault("SIGTERM of a program with a pool: nothing is left")
def terminated_program_with_a_pool() -> None:
    program = Program("program_with_a_pool")
    program.process.terminate()
    ended = gone_within([program.process.pid, *program.pids])
    if not ended:
        os.killpg(program.process.pid, signal.SIGKILL)
    program.process.communicate()
    assert ended


def put_and_exit(out: Any) -> None:
    out.put(os.getpid())


@fault("a thousand processes are started and joined; no zombie, no descriptor is left", once=True)
def many_processes() -> None:
    start(put_nothing).join()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        batch = [start(put_nothing) for _ in range(10)]
        for process in batch:
            process.join()
            assert process.exitcode == 0
            process.close()
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert not package.active_children()


def put_nothing() -> None:
    pass


def use_everything(box: Any, lock: Any) -> None:
    with lock:
        box.put("from the child")


@fault("processes are started while other threads use a queue and a lock")
def start_beside_busy_threads() -> None:
    box, lock = ctx.Queue(), ctx.Lock()
    stop = threading.Event()

    def churn() -> None:
        other = ctx.Queue()
        while not stop.is_set():
            with lock:
                other.put(1)
            other.get()

    threads = [threading.Thread(target=churn, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            process = start(use_everything, box, lock)
            assert box.get(timeout=10) == "from the child"
            process.join(10)
            assert process.exitcode == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@fault("a process is joined that somebody else reaped")
def reaped_by_somebody_else() -> None:
    process = start(put_nothing)
    if METHOD != "forkserver":
        os.waitpid(process.pid, 0)
    process.join(5)
    assert not process.is_alive()


@fault("SIGCHLD is ignored")
def ignored_sigchld() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    process = start(put_nothing)
    process.join(5)
    assert not process.is_alive()


@fault("a child is stopped and goes on: nobody takes it for dead")
def stopped_child_is_alive() -> None:
    box = ctx.Queue()
    process = start(put_twice, box)
    assert box.get(timeout=10) == 1
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(1.0)
    assert process.is_alive()
    os.kill(process.pid, signal.SIGCONT)
    box.put("go")
    process.join(10)
    assert process.exitcode == 0


def put_twice(box: Any) -> None:
    box.put(1)
    time.sleep(0.5)
    if box.get(timeout=10) != "go":
        sys.exit(1)


def interrupted_wait(line: Any, box: Any) -> None:
    signal.signal(signal.SIGUSR1, lambda number, frame: line.send("handled"))
    line.send("there")
    line.send(box.get())


@fault("a signal handler runs in a process that waits; the wait goes on")
def signals_reach_waiters() -> None:
    box = ctx.Queue()
    line, theirs = package.Pipe()
    process = start(interrupted_wait, theirs, box)
    line.recv()
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGUSR1)
    assert line.poll(5) and line.recv() == "handled"
    box.put("message")
    assert line.poll(5) and line.recv() == "message"
    process.join()
    wait_until(lambda: not process.is_alive())
