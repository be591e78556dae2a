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


def burst(count: int, size: int) -> mp.Queue:
    """A queue through which so many messages went, all waiting at a time."""
    queue = mp.Queue()
    message = bytes(size)
    for _ in range(count):
        queue.put(message)
    for _ in range(count):
        queue.get()
    return queue


def nothing() -> None:
    pass


def start_and_join() -> None:
    process = FORK.Process(target=nothing)
    process.start()
    process.join()


@table("messages of 2 kB that were there once", (0, 100_000, 400_000))
def start_and_join_after_a_burst(number: int) -> float:
    """A process, after all was received."""
    queue = burst(number, 2_000)
    taken = best(40, start_and_join)
    queue.close()
    return taken


@table("messages of 2 kB that wait", (0, 100_000, 400_000))
def start_and_join_beside_waiting_messages(number: int) -> float:
    """A process, while all wait."""
    queue = mp.Queue()
    for _ in range(number):
        queue.put(bytes(2_000))
    return best(40, start_and_join)


@table("locks", (0, 1_000, 10_000, 100_000))
def start_and_join_beside_objects(number: int) -> float:
    """A process that inherits them: each side has to hold every one."""
    kept = [mp.Lock() for _ in range(number)]
    return best(10, start_and_join) + 0 * len(kept)


def answer(requests: mp.Queue) -> None:
    """Answers each request by the queue that came with it."""
    while (request := requests.get()) is not None:
        request[1].put(request[0] + 1)


@table("messages of 1.5 kB that were there once", (0, 100_000, 400_000))
def fresh_reply_queue(number: int) -> float:
    """A request that carries a queue of its own, and its answer."""
    requests = mp.Queue()
    server = FORK.Process(target=answer, args=(requests,), daemon=True)
    server.start()
    burst(number, 1_500)

    def ask() -> None:
        reply = mp.Queue()
        requests.put((1, reply))
        assert reply.get(timeout=60) == 2

    ask()
    return best(500, ask)


@table("messages of 1.5 kB that were there once", (0, 100_000, 400_000))
def drop_a_lock_that_was_sent(number: int) -> float:
    """The last handle of a lock that once was in a message."""
    queue = burst(number, 1_500)
    locks = [mp.Lock() for _ in range(200)]
    for lock in locks:
        queue.put(lock)
    received = [queue.get() for _ in locks]
    locks.clear()
    del lock
    return best(200, received.pop)


@table("bytes of each message, of a burst of 400 MB", (2_000, 100_000, 900_000, 9_000_000), "MiB")
def memory_after_a_burst(size: int) -> float:
    """What stays a second after all was received."""
    queue = burst(400_000_000 // size, size)
    time.sleep(1)
    taken = mp.memory_info()["resident"]
    queue.close()
    return taken or 0


@table("bytes of each message, of a burst of 400 MB", (2_000, 100_000, 900_000, 9_000_000), "MiB")
def memory_without_a_queue(size: int) -> float:
    """What stays when the last queue has gone."""
    queue = burst(400_000_000 // size, size)
    queue.close()
    queue.join_thread()
    del queue
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
