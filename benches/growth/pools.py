"""Pools with many waiting tasks."""

from __future__ import annotations

import time
from typing import Any

from tables import FORK, best, table


def busy_pool(number: int) -> Any:
    """A pool whose two workers sleep, with that many waiting tasks, and their results."""
    pool = FORK.Pool(2)
    for _ in range(2):
        pool.apply_async(time.sleep, (3600,))
    while pool._inqueue.qsize():
        time.sleep(0.001)
    return pool, [pool.apply_async(abs, (task,)) for task in range(number)]


@table("tasks that wait", (1_000, 10_000, 100_000))
def cancel_a_task(number: int) -> float:
    """Cancels one of them, in the middle of the others."""
    pool, results = busy_pool(number)
    some = iter(results[:: max(1, number // 100)])
    # Load the modules that it imports.
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
    """Cancels a map of 10 tasks, behind the others."""
    pool, _ = busy_pool(number)

    def turn() -> None:
        pool.map_async(abs, range(10), 1).cancel()

    taken = best(50, turn)
    pool.terminate()
    return taken


@table("tasks that wait", (1_000, 10_000, 100_000), "us a task")
def terminate(number: int) -> float:
    """Terminates the pool: the time divided by the number of tasks."""
    pool, results = busy_pool(number)
    start = time.perf_counter()
    pool.terminate()
    pool.join()
    taken = time.perf_counter() - start
    assert all(result.ready() for result in results)
    return taken / number


@table("bounded `imap` iterators that are open", (1, 10, 100, 1_000))
def next_of_a_bounded_imap(number: int) -> float:
    """A result of one of them: only its generator goes on."""
    pool = FORK.Pool(2)
    iterators = [pool.imap(abs, iter(range(1_000_000)), buffersize=2) for _ in range(number)]

    def turns() -> None:
        for _ in range(100):
            next(iterators[0])

    taken = best(20, turns) / 100
    pool.terminate()
    return taken
