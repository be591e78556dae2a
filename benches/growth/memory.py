"""What bursts of messages leave: memory, and the cost of later operations."""

from __future__ import annotations

import os
import time
from typing import Any

from starts import start_and_join
from tables import FORK, best, mp, table

from procession import _native


def burst(count: int, size: int) -> Any:
    """A queue through which that many messages went, all waiting at the same time."""
    queue = mp.Queue()
    message = bytes(size)
    for _ in range(count):
        queue.put(message)
    for _ in range(count):
        queue.get()
    return queue


@table("messages of 2 kB that were there once", (0, 100_000, 400_000))
def start_and_join_after_a_burst(number: int) -> float:
    """Starts a process after all was received."""
    queue = burst(number, 2_000)
    taken = best(40, start_and_join)
    queue.close()
    return taken


@table("messages of 2 kB that wait", (0, 100_000, 400_000))
def start_and_join_beside_waiting_messages(number: int) -> float:
    """Starts a process while all wait."""
    queue = mp.Queue()
    for _ in range(number):
        queue.put(bytes(2_000))
    return best(40, start_and_join)


def answer(requests: Any) -> None:
    """Answers each request through the queue that came with it."""
    while (request := requests.get()) is not None:
        request[1].put(request[0] + 1)


@table("messages of 1.5 kB that were there once", (0, 100_000, 400_000))
def fresh_reply_queue(number: int) -> float:
    """A request that carries a reply queue, and its reply."""
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
    """Drops the last handle of a lock that was in a message."""
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
    """The memory that stays a second after all was received."""
    queue = burst(400_000_000 // size, size)
    time.sleep(1)
    taken = mp.memory_info()["resident"]
    queue.close()
    return taken or 0


@table("bytes of each message, of a burst of 400 MB", (2_000, 100_000, 900_000, 9_000_000), "MiB")
def memory_without_a_queue(size: int) -> float:
    """The memory that stays after the last queue is gone."""
    queue = burst(400_000_000 // size, size)
    queue.close()
    queue.join_thread()
    del queue
    return os.fstat(_native.arena_fd()).st_blocks * 512
