"""Queues with many waiting messages, or with one task that is late."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

from tables import FORK, best, mp, table

from procession import _native


@table("messages that wait", (0, 100_000, 1_000_000))
def put_and_get(number: int) -> float:
    """Puts one more message and gets the oldest one."""
    queue = mp.Queue()
    queue.put_many([7] * number)

    def turns() -> None:
        for _ in range(1000):
            queue.put(7)
            queue.get()

    return best(20, turns) / 1000


@table("messages that wait", (0, 100_000, 1_000_000))
def qsize_empty_and_full(number: int) -> float:
    """`qsize`, `empty` and `full` of a bounded queue that is not full."""
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
    """`put_nowait` on a full queue."""
    queue = mp.Queue(number)
    queue.put_many([7] * number)

    def turns() -> None:
        for _ in range(1000):
            with contextlib.suppress(mp.queues.Full):
                queue.put_nowait(7)

    return best(20, turns) / 1000


@table("messages that were received and not reported", (0, 100_000, 1_000_000))
def task_done_and_join(number: int) -> float:
    """Puts, receives and reports one more message; and a `join` that does not wait."""
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


def hold_one(queue: Any, taken: Any) -> None:
    """Receives a message and never reports it."""
    queue.get()
    taken.set()
    time.sleep(3600)


@table("messages that passed meanwhile", (0, 100_000, 1_000_000))
def beside_a_task_that_is_late(number: int) -> float:
    """Puts, receives and reports a message while another process has an unreported one."""
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
    """The size of all shared memory afterwards."""
    beside_a_task_that_is_late(number)
    return os.fstat(_native.arena_fd()).st_blocks * 512
