"""What an operation costs, or what memory stays, as a function of what is there: it should not grow.

    python benches/growth.py                    every table
    python benches/growth.py reply              those whose name contains it

A table is a function of a number, which gives seconds or bytes; each of its rows is a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import procession as mp
from procession import _engine

FORK = mp.get_context("fork")
MIB = 1 << 20
# Name, what the number is, the numbers, the unit.
TABLES: dict[str, tuple[Callable[[int], float], str, tuple[int, ...], str]] = {}


def table(what: str, numbers: tuple[int, ...], unit: str = "us") -> Callable[..., Callable[[int], float]]:
    """Makes a function a table."""

    def add(function: Callable[[int], float]) -> Callable[[int], float]:
        TABLES[function.__name__] = (function, what, numbers, unit)
        return function

    return add


def best(times: int, work: Callable[[], None]) -> float:
    """The shortest time it took: other programs can only make it longer."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


@table("messages that wait", (0, 100_000, 1_000_000))
def put_and_get(number: int) -> float:
    """One more message, and the oldest one."""
    queue = mp.Queue()
    queue.put_many([7] * number)

    def turns() -> None:
        for _ in range(1000):
            queue.put(7)
            queue.get()

    return best(20, turns) / 1000


@table("messages that wait", (0, 100_000, 1_000_000))
def qsize_empty_and_full(number: int) -> float:
    """All three, of a queue with a limit that is not reached."""
    queue = mp.Queue(number + 10)
    queue.put_many([7] * number)

    def turns() -> None:
        for _ in range(1000):
            assert queue.qsize() == number
            assert queue.empty() == (number == 0)
            assert not queue.full()

    return best(20, turns) / 1000


@table("messages that wait", (10, 100_000, 1_000_000))
def put_into_a_full_queue(number: int) -> float:
    """In vain."""
    queue = mp.Queue(number)
    queue.put_many([7] * number)

    def turns() -> None:
        for _ in range(1000):
            with contextlib.suppress(mp.queues.Full):
                queue.put_nowait(7)

    return best(20, turns) / 1000


@table("messages that were received and not reported", (0, 100_000, 1_000_000))
def task_done_and_join(number: int) -> float:
    """A message more that is put, received and reported; and a `join` that does not wait."""
    queue = mp.JoinableQueue()
    for _ in range(number):
        queue.put(7)
        queue.get()

    def turns() -> None:
        for _ in range(1000):
            queue.put(7)
            queue.get()
            queue.task_done()
            assert queue._unfinished() == number

    taken = best(20, turns) / 1000
    for _ in range(number):
        queue.task_done()
    queue.join()
    return taken


def hold_one(queue: mp.JoinableQueue, taken: Any) -> None:
    """Has a task in hand for ever."""
    queue.get()
    taken.set()
    time.sleep(3600)


@table("messages that passed meanwhile", (0, 100_000, 1_000_000))
def beside_a_task_that_is_late(number: int) -> float:
    """A message that is put, received and reported, while another process has one in hand."""
    queue, taken = FORK.JoinableQueue(), FORK.Event()
    FORK.Process(target=hold_one, args=(queue, taken), daemon=True).start()
    queue.put(7)
    taken.wait()

    def turns(count: int = 1000) -> None:
        for _ in range(count):
            queue.put(7)
            queue.get()
            queue.task_done()

    turns(number)
    return best(20, turns) / 1000


@table("messages that passed meanwhile", (0, 100_000, 1_000_000), "MiB")
def memory_beside_a_task_that_is_late(number: int) -> float:
    """What all shared memory takes then."""
    beside_a_task_that_is_late(number)
    return os.fstat(_engine.arena_fd()).st_blocks * 512


def show(name: str) -> None:
    """Runs the rows of a table and prints them."""
    function, what, numbers, unit = TABLES[name]
    print(f"\n{name}: {(function.__doc__ or '').rstrip('.')}, by {what}")
    for number in numbers:
        ran = subprocess.run(
            [sys.executable, __file__, "--row", name, str(number)], capture_output=True, text=True
        )
        if ran.returncode:
            sys.exit(ran.stderr)
        value = float(ran.stdout)
        shown = f"{value / MIB:10.1f} MiB" if unit == "MiB" else f"{value * 1e6:10.1f} us"
        print(f"{number:>12,} {shown}", flush=True)


def main() -> None:
    """One row, or the tables that were asked for."""
    if sys.argv[1:2] == ["--row"]:
        print(TABLES[sys.argv[2]][0](int(sys.argv[3])), flush=True)
        os._exit(0)
    for name in TABLES:
        if any(part in name for part in sys.argv[1:] or [""]):
            show(name)


if __name__ == "__main__":
    main()
