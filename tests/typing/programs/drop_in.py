"""A typed program that uses all of the stdlib's interface; it means the same under the stdlib's name.

`make lint` runs mypy and pyright over it. The tests run it, and check it under the stdlib's name too.
"""

# pyright: strict

from __future__ import annotations

import ctypes
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any, assert_type

import procession as multiprocessing
import procession.connection
import procession.context
import procession.shared_memory
import procession.sharedctypes
import procession.synchronize
from procession.connection import Client, Connection, Listener
from procession.managers import (
    BaseManager,
    DictProxy,
    ListProxy,
    SharedMemoryManager,
    SyncManager,
    ValueProxy,
)
from procession.pool import AsyncResult, MapResult, Pool, ThreadPool
from procession.queues import JoinableQueue, Queue, SimpleQueue
from procession.sharedctypes import Synchronized, SynchronizedArray, SynchronizedString


def length(text: str) -> int:
    return len(text)


def repeat(text: str, count: int) -> list[str]:
    return [text] * count


def produce(numbers: multiprocessing.Queue[int], texts: Connection[str, bytes]) -> None:
    for number in range(3):
        numbers.put(number)
    texts.send("done")
    texts.close()


def queues() -> None:
    numbers: Queue[int] = multiprocessing.Queue()
    numbers.put(1)
    numbers.put(2, timeout=1.0)
    numbers.put_nowait(3)
    assert_type(numbers.get(), int)
    assert_type(numbers.get(True, 1.0), int)
    assert_type(numbers.get(block=True), int)
    assert_type(numbers.qsize(), int)
    assert_type(numbers.empty(), bool)
    assert_type(numbers.full(), bool)
    numbers.close()
    numbers.join_thread()
    numbers.cancel_join_thread()

    pairs: multiprocessing.JoinableQueue[tuple[str, float]] = multiprocessing.JoinableQueue(5)
    pairs.put(("half", 0.5))
    assert_type(pairs.get(), tuple[str, float])
    pairs.task_done()
    pairs.join()

    simple: SimpleQueue[bytes] = multiprocessing.SimpleQueue()
    simple.put(b"data")
    assert_type(simple.get(), bytes)
    assert_type(simple.empty(), bool)
    simple.close()

    context = multiprocessing.get_context("fork")
    assert_type(context.Queue(), Queue[Any])
    assert_type(context.JoinableQueue(), JoinableQueue[Any])
    assert_type(context.SimpleQueue(), SimpleQueue[Any])


def processes() -> None:
    numbers: Queue[int] = multiprocessing.Queue()
    ours: Connection[bytes, str]
    theirs: Connection[str, bytes]
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=produce, args=(numbers, theirs), name="producer", daemon=True)
    assert_type(process.is_alive(), bool)
    assert_type(process.exitcode, int | None)
    assert_type(process.pid, int | None)
    process.start()
    assert_type(process.sentinel, int)
    assert [numbers.get() for _ in range(3)] == [0, 1, 2]
    assert_type(ours.recv(), str)
    process.join(60)
    process.close()
    assert_type(multiprocessing.current_process().name, str)
    for child in multiprocessing.active_children():
        assert_type(child.name, str)
    parent = multiprocessing.parent_process()
    assert parent is None


def contexts() -> None:
    assert_type(multiprocessing.get_start_method(), str)
    assert_type(multiprocessing.get_all_start_methods(), list[str])
    assert_type(multiprocessing.get_context("spawn"), procession.context.SpawnContext)
    assert_type(multiprocessing.get_context("fork"), procession.context.ForkContext)
    assert_type(multiprocessing.get_context("forkserver"), procession.context.ForkServerContext)
    assert_type(multiprocessing.cpu_count(), int)
    multiprocessing.get_logger().debug("contexts")
    multiprocessing.freeze_support()
    multiprocessing.allow_connection_pickling()
    multiprocessing.set_executable(sys.executable)
    multiprocessing.set_forkserver_preload(["collections"])
    multiprocessing.set_start_method(multiprocessing.get_start_method(), force=True)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as executor:
        assert_type(executor.submit(length, "four").result(), int)
    spawned = multiprocessing.get_context("fork").Process(target=length, args=("four",))
    assert_type(spawned, procession.context.ForkProcess)
    spawned.start()
    spawned.join()


def locks() -> None:
    lock = multiprocessing.Lock()
    assert_type(lock, procession.synchronize.Lock)
    with lock as entered:
        assert_type(entered, bool)
    assert_type(lock.acquire(timeout=1.0), bool)
    lock.release()
    with multiprocessing.RLock(), multiprocessing.Semaphore(2), multiprocessing.BoundedSemaphore(2):
        assert_type(multiprocessing.Semaphore(2).get_value(), int)
    condition = multiprocessing.Condition(multiprocessing.Lock())
    with condition:
        condition.notify()
        condition.notify_all()
        assert_type(condition.wait(0.0), bool)
        assert_type(condition.wait_for(lambda: True, 1.0), bool)
    event = multiprocessing.Event()
    event.set()
    assert_type(event.wait(1.0), bool)
    assert_type(event.is_set(), bool)
    event.clear()
    barrier = multiprocessing.Barrier(1, action=event.set, timeout=1.0)
    assert_type(barrier.wait(), int)
    assert_type(barrier.parties, int)
    assert_type(barrier.broken, bool)
    as_a_thread_barrier: threading.Barrier = barrier
    as_a_thread_barrier.reset()


def pools() -> None:
    with multiprocessing.Pool(2, initializer=length, initargs=("start",), maxtasksperchild=10) as pool:
        assert_type(pool, Pool)
        assert_type(pool.apply(length, ("four",)), int)
        assert_type(pool.apply(repeat, ("a",), {"count": 2}), list[str])
        assert_type(pool.map(length, ["a", "bb"]), list[int])
        assert_type(pool.map(length, ("a", "bb"), chunksize=1), list[int])
        assert_type(pool.starmap(repeat, [("a", 1), ("b", 2)]), list[list[str]])
        result: AsyncResult[int] = pool.apply_async(length, ("four",), callback=print, error_callback=print)
        assert_type(result.get(60), int)
        assert_type(result.ready(), bool)
        assert_type(result.successful(), bool)
        result.wait(1.0)
        results: MapResult[int] = pool.map_async(length, ["a", "bb"], 1, print, print)
        assert_type(results.get(), list[int])
        assert_type(pool.starmap_async(repeat, [("a", 1)]).get(), list[list[str]])
        iterator = pool.imap(length, iter(["a"]))
        assert_type(next(iterator), int)
        assert_type([*pool.imap(length, ["a", "bb"], 2)], list[int])
        for found in pool.imap_unordered(length, {"a"}):
            assert_type(found, int)
        assert_type(pool.imap(length, ["a"]).next(timeout=60), int)
    pool.join()
    with ThreadPool(1) as threads:
        assert_type(threads, ThreadPool)
        assert_type(threads.map(length, ["a"]), list[int])
    threads.join()
    last = multiprocessing.get_context("fork").Pool(1)
    last.close()
    last.join()


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double)]


def shared_values() -> None:
    number = multiprocessing.Value(ctypes.c_int, 1)
    assert_type(number, Synchronized[int])
    with number.get_lock():
        number.value += 1
    assert_type(number.value, int)
    with number as entered:
        assert_type(entered, bool)
    assert_type(multiprocessing.Value("d", 0.5), Synchronized[Any])
    array = multiprocessing.Array(ctypes.c_double, [0.5, 1.5])
    assert_type(array, SynchronizedArray[float])
    assert_type(array[0], float)
    assert_type(array[:], list[float])
    array[0] = 2.5
    array[:] = [0.0, 1.0]
    assert_type(len(array), int)
    assert_type(multiprocessing.Array("i", 3), SynchronizedArray[Any])
    text = multiprocessing.Array(ctypes.c_char, b"text")
    assert_type(text, SynchronizedString)
    assert_type(text.value, bytes)
    assert_type(text[0], bytes)
    assert_type(multiprocessing.RawValue(ctypes.c_long, 3), ctypes.c_long)
    assert_type(multiprocessing.RawArray(ctypes.c_long, 3), ctypes.Array[ctypes.c_long])
    assert_type(procession.sharedctypes.RawValue(Point, 1.0, 2.0), Point)
    assert_type(procession.sharedctypes.copy(Point(1.0, 2.0)), Point)
    assert_type(procession.sharedctypes.Value(Point, 1.0, 2.0).get_obj(), Point)
    assert_type(procession.sharedctypes.Value(Point, 1.0, 2.0, lock=False), Point)
    assert_type(procession.sharedctypes.synchronized(ctypes.c_int(1)), Synchronized[int])


class Counter:
    def __init__(self, start: int = 0) -> None:
        self.count = start


class MyManager(BaseManager):
    pass


MyManager.register("Counter", Counter)


def managers() -> None:
    with multiprocessing.Manager() as manager:
        assert_type(manager, SyncManager)
        ages = manager.dict({"Ann": 41})
        assert_type(ages, DictProxy[str, int])
        assert_type(ages["Ann"], int)
        assert_type(ages.get("Ann"), int | None)
        assert_type(ages.keys(), list[str])
        assert_type(ages.items(), list[tuple[str, int]])
        assert_type(ages.copy(), dict[str, int])
        ages.update(Bob=27)
        assert_type(ages.pop("Bob"), int)
        assert_type(manager.dict(a=0.5), DictProxy[str, float])
        pairs: list[tuple[int, bytes]] = [(1, b"a")]
        assert_type(manager.dict(pairs), DictProxy[int, bytes])
        empty: DictProxy[int, str] = manager.dict()
        empty[1] = "one"
        words = manager.list(["a", "b"])
        assert_type(words, ListProxy[str])
        words.append("c")
        words += ["d"]
        assert_type(words[0], str)
        assert_type(words[1:], list[str])
        assert_type(words.pop(), str)
        words.sort(reverse=True)
        value = manager.Value("i", 3)
        assert_type(value, ValueProxy[int])
        assert_type(value.get(), int)
        value.value = 4
        manager.Namespace().name = "namespace"
        assert_type(manager.Event().is_set(), bool)
        manager.Queue(1).put(1)
        with manager.Lock(), manager.RLock(), manager.Semaphore(1):
            pass
    with MyManager() as mine:
        assert mine.address
    with SharedMemoryManager() as memories:
        memory = memories.SharedMemory(100)
        assert memory.buf is not None
        assert_type(memory.buf[0], int)
        assert_type(memories.ShareableList([1, 2])[0], int)


def connections() -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    theirs.send_bytes(b"bytes")
    assert_type(ours.recv_bytes(), bytes)
    theirs.send([1, 2])
    assert_type(ours.poll(1.0), bool)
    assert procession.connection.wait([ours], 1.0) == [ours]
    assert ours.recv() == [1, 2]
    theirs.send_bytes(b"more")
    assert_type(ours.recv_bytes_into(bytearray(10)), int)
    assert_type(ours.fileno(), int)
    with ours, theirs:
        assert (ours.readable, ours.writable, ours.closed) == (True, False, False)
    with Listener(authkey=b"key") as listener:
        client = threading.Thread(target=lambda: Client(listener.address, authkey=b"key").send("hello"))
        client.start()
        with listener.accept() as accepted:
            assert accepted.recv() == "hello"
        client.join()


def named_memory() -> None:
    memory = procession.shared_memory.SharedMemory(create=True, size=10)
    assert_type(memory.name, str)
    assert_type(memory.size, int)
    numbers = procession.shared_memory.ShareableList([1, 2, 3])
    assert_type(numbers[0], int)
    numbers.shm.close()
    numbers.shm.unlink()
    memory.close()
    memory.unlink()


def errors() -> None:
    try:
        with multiprocessing.Pool(1) as pool:
            pool.apply_async(time.sleep, (60,)).get(0.01)
    except multiprocessing.TimeoutError as error:
        caught: multiprocessing.ProcessError = error
        print(type(caught).__name__)
    for kind in (multiprocessing.AuthenticationError, multiprocessing.BufferTooShort):
        assert issubclass(kind, multiprocessing.ProcessError)


def main() -> None:
    parts = (queues, processes, contexts, locks, pools, shared_values, managers, connections, named_memory)
    for part in (*parts, errors):
        part()
        print(part.__name__)


if __name__ == "__main__":
    main()
