"""A typed program that uses what this package has and the stdlib has not.

`make lint` runs mypy and pyright over it, and the tests run it.
"""

# pyright: strict

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, assert_type

import procession
from procession import OwnerDied, WorkerDied
from procession.managers import SetProxy
from procession.pool import IMapIterator
from procession.queues import JoinableQueue, Queue, SimpleQueue
from procession.rust import Panic, Process, RustError
from procession.shared_memory import SharedMemory
from procession.synchronize import Condition, LockLike


def double(number: int) -> float:
    return number * 2.0


def queues() -> None:
    numbers: Queue[int] = procession.Queue()
    numbers.put_many([1, 2, 3])
    numbers.put_many((n for n in range(3)), timeout=1.0)
    numbers.put_many_nowait([4])
    assert_type(numbers.get_many(), list[int])
    numbers.put(5)
    assert_type(numbers.get_many(max_messages_to_get=2), list[int])
    assert_type(numbers.get_many_nowait(), list[int]) if not numbers.empty() else None
    # What the types are made of exists when the program runs.
    for kind in (Queue[int], JoinableQueue[str], SimpleQueue[bytes]):
        assert "[" in repr(kind)


def locks() -> None:
    lock = procession.Lock()
    assert_type(lock.acquire(on_owner_died="hold"), bool)
    assert_type(lock.locked(), bool)
    lock.release()
    with procession.RLock() as entered:
        assert_type(entered, bool)
    anything: LockLike = procession.BoundedSemaphore(1)
    assert_type(procession.Condition(anything), Condition)
    died = OwnerDied(pid=5, exitcode=-9)
    assert_type(died.pid, int | None)
    assert_type(died.signal, int | None)


def pools() -> None:
    with procession.Pool(2) as pool:
        assert_type(pool.apply(double, (2,), task_timeout=60, retries=1), float)
        assert_type(pool.map(double, [1, 2], fail_fast=True), list[float])
        assert_type(pool.starmap(double, [(1,)], task_timeout=60.0), list[float])
        assert_type(pool.map_async(double, [1], retries=1).get(), list[float])
        results: IMapIterator[float] = pool.imap(double, range(5), buffersize=2)
        as_iterator: Iterator[float] = results
        assert_type(list(as_iterator), list[float])
        job = pool.apply_async(double, (1,))
        assert_type(job.cancel(), bool)
        pool.close()
        pool.join(60)
    died = WorkerDied(pid=5, task="a task")
    assert_type(died.exitcode, int | None)


def shared_values() -> None:
    assert_type(procession.Value("i", 1).add(2), Any)
    assert_type(memoryview(procession.Array("i", 3)).nbytes, int)
    memory = SharedMemory(create=True, size=10, track=True)
    memory.close()
    memory.unlink()


def managers() -> None:
    with procession.Manager() as manager:
        names = manager.set(["Ann", "Bob"])
        assert_type(names, SetProxy[str])
        names.add("Cid")
        assert_type(names | {1}, set[str | int])
        assert_type(names & {"Ann"}, set[str])
        names |= {"Dan"}
        assert_type(names, SetProxy[str])
        assert_type(sorted(names), list[str])
        ages = manager.dict({"Ann": 41})
        assert_type(list(reversed(ages)), list[str])
        assert_type(ages | {"Bob": 27}, dict[str, int])
        words = manager.list(["a"])
        assert_type(words.copy(), list[str])
        words.clear()


def contexts() -> None:
    assert_type(procession.get_start_method(allow_none=True), str | None)
    context = procession.get_context("fork", forkserver_main="warm")
    process = context.Process(target=double, args=(1,))
    assert_type(process, procession.context.ForkProcess)
    process.start()
    process.interrupt()
    process.join()
    for method in procession.get_all_start_methods():
        assert_type(procession.get_context(method), procession.context.BaseContext)
        assert procession.get_context(method).Process.name
    procession.set_forkserver_preload(["collections"], on_error="ignore")


def diagnosis() -> None:
    report = io.StringIO()
    procession.debug_dump(report)
    assert report.getvalue()
    assert_type(procession.memory_info(), dict[str, int | None])
    assert_type(procession.trim(), int)
    assert_type(procession.__version__, str)


def rust() -> None:
    process = Process("a-program", "square", args=(4,), env={"NAME": None}, cwd="/")
    assert_type(process.name, str)
    assert issubclass(Panic, RustError) and issubclass(RustError, procession.ProcessError)
    assert_type(Panic("text").location, str | None)


def main() -> None:
    for part in (queues, locks, pools, shared_values, managers, contexts, diagnosis, rust):
        part()
        print(part.__name__)


if __name__ == "__main__":
    main()
