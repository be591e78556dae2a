"""Queues in which much waits, or in which one task is late."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

from tables import FORK, best, mp, table

from procession import _native


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


def hold_one(queue: Any, taken: Any) -> None:
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
    return os.fstat(_native.arena_fd()).st_blocks * 512
