"""Threads and processes that wait."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from tables import FORK, mp, table

THREADS = (10, 100, 1_000, 4_000)


def waiting(number: int) -> Any:
    """A condition that many threads wait for, and an event that is set when all went on."""
    cond, done = mp.Condition(), threading.Event()
    went_on = []

    def wait() -> None:
        with cond:
            cond.wait()
            went_on.append(1)
            if len(went_on) == number:
                done.set()

    threading.stack_size(64 * 1024)
    for _ in range(number):
        threading.Thread(target=wait, daemon=True).start()
    until_all_wait(cond, number)
    return cond, done


def until_all_wait(cond: Any, number: int) -> None:
    """Returns once that many threads wait for a condition."""
    while cond._sleeping_count.get_value() < number:
        time.sleep(0.01)


@table("threads that wait", THREADS, beside=True)
def notify_all(number: int) -> float:
    """The time until all of them went on."""
    cond, done = waiting(number)
    start = time.perf_counter()
    with cond:
        cond.notify_all()
    done.wait()
    return time.perf_counter() - start


@table("threads that wait", THREADS, beside=True)
def notify_one(number: int) -> float:
    """Notifies one of them."""
    cond, _ = waiting(number)
    start = time.perf_counter()
    with cond:
        cond.notify()
    return time.perf_counter() - start


def wait_once(cond: Any, went_on: Any) -> None:
    """Waits for the condition, and reports it afterwards."""
    with cond:
        cond.wait()
    went_on.release()


@table("processes that wait", (10, 100, 300), beside=True)
def notify_all_processes(number: int) -> float:
    """The time until all of them went on."""
    cond, went_on = FORK.Condition(), FORK.Semaphore(0)
    for _ in range(number):
        FORK.Process(target=wait_once, args=(cond, went_on), daemon=True).start()
    until_all_wait(cond, number)
    start = time.perf_counter()
    with cond:
        cond.notify_all()
    for _ in range(number):
        went_on.acquire()
    return time.perf_counter() - start


def switches() -> int:
    """The context switches of all threads of this process."""
    count = 0
    for task in os.listdir("/proc/self/task"):
        status = Path("/proc/self/task", task, "status").read_text()
        count += sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)
    return count


@table("threads that wait", (10, 100, 1_000), "a second", beside=True)
def wakeups_of_waiting_threads(number: int) -> float:
    """How often all of them wake up while nothing happens."""
    event = mp.Event()
    threading.stack_size(64 * 1024)
    for _ in range(number):
        threading.Thread(target=event.wait, daemon=True).start()
    time.sleep(2)
    before = switches()
    time.sleep(4)
    return (switches() - before) / 4
