"""Managers: objects in a server process, used through proxies."""

from __future__ import annotations

import queue
from typing import Any

import pytest

import procession
from procession import managers


class Counter:
    """A class of somebody's own, registered with a manager."""

    def __init__(self, start: int) -> None:
        self.number = start

    def add(self, amount: int) -> int:
        self.number += amount
        return self.number


class CounterManager(managers.BaseManager):
    """A manager of counters."""


CounterManager.register("Counter", Counter)


def work(numbers: Any, table: Any, namespace: Any, lock: Any) -> None:
    with lock:
        numbers.append(4)
        table["child"] = True
        namespace.x = 2


def test_a_manager_shares_plain_objects(ctx: Any) -> None:
    """list, dict, Namespace and Lock of a manager are changed by a child and read by the parent."""
    with ctx.Manager() as manager:
        numbers, table = manager.list([1, 2]), manager.dict(parent=True)
        namespace, lock = manager.Namespace(), manager.Lock()
        process = ctx.Process(target=work, args=(numbers, table, namespace, lock))
        process.start()
        process.join()
        assert process.exitcode == 0
        assert numbers[:] == [1, 2, 4] and dict(table) == {"parent": True, "child": True}
        assert namespace.x == 2


def test_a_managers_queue_and_value(ctx: Any) -> None:
    """Queue, Value, Array, Event and Semaphore work through their proxies."""
    with ctx.Manager() as manager:
        tasks = manager.Queue(2)
        tasks.put("task")
        assert tasks.get(timeout=30) == "task"
        with pytest.raises(queue.Empty):
            tasks.get_nowait()
        value, array = manager.Value("i", 3), manager.Array("i", [1, 2])
        value.value += 1
        assert value.value == 4 and list(array) == [1, 2]
        event = manager.Event()
        event.set()
        assert event.wait(30) and manager.Semaphore(1).acquire(False)


def test_a_managers_pool_is_this_packages(ctx: Any) -> None:
    """The server starts its pool's workers itself."""
    with ctx.Manager() as manager, manager.Pool(2) as pool:
        assert pool.map(abs, [-1, 2, -3]) == [1, 2, 3]


def test_a_manager_of_ones_own_classes(ctx: Any) -> None:
    """Registered classes live in the server; every process with the proxy sees the same object."""
    with CounterManager(ctx=ctx) as manager:
        counter = manager.Counter(40)  # type: ignore[attr-defined]
        assert counter.add(2) == 42
        assert isinstance(manager._process, procession.process.BaseProcess)
        assert type(manager._process) is ctx.Process


def test_the_default_context_of_a_manager_is_this_packages() -> None:
    """Without `ctx` the server is one of our processes."""
    manager = managers.SyncManager()
    manager.start()
    try:
        assert type(manager._process).__module__ == "procession.context"
    finally:
        manager.shutdown()
    assert manager._process.exitcode == 0


def test_named_shared_memory_goes_with_its_manager() -> None:
    """SharedMemoryManager unlinks what it gave out."""
    with managers.SharedMemoryManager() as manager:
        memory = manager.SharedMemory(64)
        memory.buf[:5] = b"hello"
        name = memory.name
        memory.close()
    with pytest.raises(FileNotFoundError):
        procession.shared_memory.SharedMemory(name)
