"""Processes that are started beside many objects."""

from __future__ import annotations

import os

from tables import FORK, best, mp, table


def nothing() -> None:
    """The target of a child."""


def start_and_join() -> None:
    """Starts and joins a process by fork."""
    process = FORK.Process(target=nothing)
    process.start()
    process.join()


def plain_fork() -> None:
    """A child that ends at once."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@table("locks that the parent has open", (0, 1_000, 10_000, 100_000), beside=True)
def start_with_objects(number: int) -> float:
    """Start and join of a process."""
    _locks = [FORK.Lock() for _ in range(number)]
    return best(10, start_and_join)


@table("locks that the parent has open", (0, 1_000, 10_000, 100_000), beside=True)
def fork_with_objects(number: int) -> float:
    """A plain `os.fork`."""
    _locks = [FORK.Lock() for _ in range(number)]
    return best(10, plain_fork)


@table("children that live on", (0, 60, 350), beside=True)
def start_beside_living_children(number: int) -> float:
    """Start and join of a process: each start polls all children."""
    go = FORK.Event()
    others = [FORK.Process(target=go.wait, daemon=True) for _ in range(number)]
    for other in others:
        other.start()
    taken = best(20, start_and_join)
    go.set()
    return taken


@table("locks that 21 processes have open", (0, 1_000, 10_000, 100_000))
def start_with_objects_that_20_others_hold(number: int) -> float:
    """Start and join of a process."""
    _locks = [FORK.Lock() for _ in range(number)]
    go = FORK.Event()
    others = [FORK.Process(target=go.wait, daemon=True) for _ in range(20)]
    for other in others:
        other.start()
    return best(10, start_and_join)


@table("locks that they have open", (1_000, 10_000, 100_000), "MiB")
def memory_of_20_holders(number: int) -> float:
    """The additional memory of 20 processes."""
    _locks = [FORK.Lock() for _ in range(number)]
    before = mp.memory_info()["in_use"]
    go = FORK.Event()
    others = [FORK.Process(target=go.wait, daemon=True) for _ in range(20)]
    for other in others:
        other.start()
    return mp.memory_info()["in_use"] - before


@table("received arrays of 40 kB that the parent has", (100, 1_000, 10_000))
def fork_with_arrays(number: int) -> float:
    """A plain `os.fork`."""
    import numpy as np

    box, arrays = mp.Queue(), []
    for _ in range(number):
        box.put(np.zeros(5000))
        arrays.append(box.get())
    return best(1, plain_fork)
