"""What an operation costs, or what memory stays, as a function of what is there: it should not grow.

    python benches/growth.py                    every table
    python benches/growth.py reply              those whose name contains it

A table is a function of a number, which gives seconds or bytes; each of its rows is a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import procession as mp

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


def busy_pool(number: int) -> Any:
    """A pool both of whose workers sleep, with so many tasks that wait, and their results."""
    pool = FORK.Pool(2)
    for _ in range(2):
        pool.apply_async(time.sleep, (3600,))
    while pool._inqueue.qsize():
        time.sleep(0.001)
    return pool, [pool.apply_async(abs, (task,)) for task in range(number)]


@table("tasks that wait", (1_000, 10_000, 100_000))
def cancel_a_task(number: int) -> float:
    """One of them, in the midst of the others."""
    pool, results = busy_pool(number)
    some = iter(results[:: max(1, number // 100)])
    # What is imported for it.
    next(some).cancel()
    taken = []
    for result in some:
        start = time.perf_counter()
        assert result.cancel()
        taken.append(time.perf_counter() - start)
    pool.terminate()
    return sorted(taken)[len(taken) // 2]


@table("tasks that wait", (1_000, 10_000, 100_000))
def cancel_a_map(number: int) -> float:
    """One of 10 tasks, behind the others."""
    pool, _ = busy_pool(number)

    def turn() -> None:
        pool.map_async(abs, range(10), 1).cancel()

    taken = best(50, turn)
    pool.terminate()
    return taken


@table("tasks that wait", (1_000, 10_000, 100_000), "us a task")
def terminate(number: int) -> float:
    """All of them, and two workers: divided by their number."""
    pool, results = busy_pool(number)
    start = time.perf_counter()
    pool.terminate()
    pool.join()
    taken = time.perf_counter() - start
    assert all(result.ready() for result in results)
    return taken / number


@table("bounded `imap` iterators that are open", (1, 10, 100, 1_000))
def next_of_a_bounded_imap(number: int) -> float:
    """A result of one of them: its generator, and no other, goes on."""
    pool = FORK.Pool(2)
    iterators = [pool.imap(abs, iter(range(1_000_000)), buffersize=2) for _ in range(number)]

    def turns() -> None:
        for _ in range(100):
            next(iterators[0])

    taken = best(20, turns) / 100
    pool.terminate()
    return taken


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
