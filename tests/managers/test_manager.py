"""Managers: objects in a server process, used through proxies."""

from __future__ import annotations

import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import procession
from procession import managers
from procession.connection import wait


class Counter:
    """A user's class, registered with a manager."""

    def __init__(self, start: int) -> None:
        self.number = start

    def add(self, amount: int) -> int:
        self.number += amount
        return self.number


class CounterManager(managers.BaseManager):
    """A manager of counters."""


CounterManager.register("Counter", Counter)


class Shelf:
    """A class whose methods give out further shared objects, and are called by unusual names."""

    def __init__(self) -> None:
        self._counters: list[Counter] = []

    def counter(self, start: int) -> Counter:
        """Make a counter that lives beside this object."""
        self._counters.append(Counter(start))
        return self._counters[-1]

    def total(self) -> int:
        """What all the counters have counted."""
        return sum(counter.number for counter in self._counters)

    def __contains__(self, number: int) -> bool:
        return any(counter.number == number for counter in self._counters)

    def hidden(self) -> None:
        """Not exposed."""


class ShelfProxy(managers.BaseProxy):
    """A user-defined proxy."""

    _exposed_ = ("counter", "total", "__contains__")
    _method_to_typeid_ = {"counter": "ShelvedCounter"}

    def counter(self, start: int) -> Any:
        """Return the proxy of a new counter."""
        return self._callmethod("counter", (start,))

    def total(self) -> int:
        """What all the counters have counted."""
        return self._callmethod("total")

    def hidden(self) -> None:
        """Refused by the server."""
        self._callmethod("hidden")

    def __contains__(self, number: int) -> bool:
        return self._callmethod("__contains__", (number,))


CounterManager.register("Shelf", Shelf, ShelfProxy)
CounterManager.register("ShelvedCounter", create_method=False)

_Arithmetic: Any = managers.MakeProxyType("_Arithmetic", ("conjugate", "__add__", "__abs__"))  # type: ignore[attr-defined]


class OfTwoNumbers(_Arithmetic):
    """A proxy made from names, in a class that other processes find."""


CounterManager.register("complex", complex, OfTwoNumbers)


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


def test_methods_of_a_shared_object_give_out_shared_objects(ctx: Any) -> None:
    """A proxy class of one's own says which methods there are and which results stay in the server."""
    with CounterManager(ctx=ctx) as manager:
        shelf = manager.Shelf()  # type: ignore[attr-defined]
        counter = shelf.counter(5)
        process = ctx.Process(target=add_to, args=(counter, 2))
        process.start()
        process.join(60)
        assert process.exitcode == 0 and shelf.total() == 7 and 7 in shelf and 5 not in shelf
        with pytest.raises((AttributeError, managers.RemoteError), match="exposed"):  # type: ignore[attr-defined]
            shelf.hidden()


def test_a_proxy_type_is_made_from_the_names_of_methods() -> None:
    """MakeProxyType knows special methods too."""
    with CounterManager() as manager:
        number = manager.complex(3, 4)  # type: ignore[attr-defined]
        assert abs(number) == 5 and number + 1 == 4 + 4j and number.conjugate() == 3 - 4j


def add_to(counter: Any, amount: int) -> None:
    counter.add(amount)


# Every type of a SyncManager, in the hands of this process and of another.


def fill(numbers: Any, table: Any, names: Any, namespace: Any, value: Any, array: Any) -> None:
    numbers.extend([2, 3])
    table.update(two=2)
    names.add("child")
    namespace.word = "child"
    value.value += 1
    array[1] = 9


def look_at_containers(make: Any, run: Callable[..., None]) -> None:
    things = (
        make.list([1]),
        make.dict(one=1),
        make.set(["parent"]),
        make.Namespace(word="parent", gone=1),
        make.Value("i", 41),
        make.Array("i", [7, 8]),
    )
    numbers, table, names, namespace, value, array = things
    del namespace.gone
    run(fill, *things)
    assert numbers[:] == [1, 2, 3] and 2 in numbers and list(reversed(numbers)) == [3, 2, 1]
    numbers += [4]
    numbers *= 2
    assert len(numbers) == 8 and numbers + [0] == [1, 2, 3, 4, 1, 2, 3, 4, 0]
    assert table.copy() == {"one": 1, "two": 2} and list(table) == ["one", "two"]
    assert names.copy() == {"parent", "child"}
    assert namespace.word == "child" and not hasattr(namespace, "gone")
    assert value.value == value.get() == 42 and array[:].tolist() == [7, 9]


def take_turns(lock: Any, rlock: Any, semaphore: Any, bounded: Any, table: Any) -> None:
    for each in (lock, rlock, semaphore, bounded):
        with each:
            table["n"] += 1
    bounded.acquire()
    bounded.release()
    try:
        bounded.release()
    except ValueError:
        table["refused"] = True


def look_at_locks(make: Any, run: Callable[..., None]) -> None:
    table = make.dict(n=0)
    locks = (make.Lock(), make.RLock(), make.Semaphore(1), make.BoundedSemaphore(1))
    run(take_turns, *locks, table)
    assert table.copy() == {"n": 4, "refused": True}
    for each in locks:
        assert each.acquire() is True and each.acquire(True, 0) is (each is locks[1])
        each.release()


def answer(condition: Any, event: Any, barrier: Any, table: Any, tasks: Any, joinable: Any) -> None:
    with condition:
        condition.wait_for(lambda: "asked" in table, 60)
        table["answered"] = table["asked"]
        condition.notify_all()
    assert event.wait(60)
    barrier.wait(60)
    for _ in range(2):
        tasks.put(joinable.get(timeout=60) * 10)
        joinable.task_done()


def look_at_meetings(make: Any, start: Callable[..., Callable[[], None]]) -> None:
    condition, event, barrier, table = make.Condition(), make.Event(), make.Barrier(2), make.dict()
    tasks, joinable = make.Queue(), make.JoinableQueue()
    finish = start(answer, condition, event, barrier, table, tasks, joinable)
    with condition:
        table["asked"] = "why"
        condition.notify()
        assert condition.wait_for(lambda: "answered" in table, 60) and table["answered"] == "why"
    assert not event.is_set() and barrier.parties == 2 and not barrier.broken
    event.set()
    barrier.wait(60)
    for number in (1, 2):
        joinable.put(number)
    joinable.join()
    assert [tasks.get(timeout=60), tasks.get(timeout=60)] == [10, 20] and tasks.empty()
    finish()


def starter(ctx: Any) -> Callable[..., Callable[[], None]]:
    def start(target: Any, *args: Any) -> Callable[[], None]:
        process = ctx.Process(target=target, args=args)
        process.start()

        def finish() -> None:
            process.join(60)
            assert process.exitcode == 0

        return finish

    return start


@pytest.fixture
def start(ctx: Any) -> Callable[..., Callable[[], None]]:
    """Start a child; the returned function joins it and checks that it succeeded."""
    return starter(ctx)


@pytest.fixture
def run(start: Callable[..., Callable[[], None]]) -> Callable[..., None]:
    """Run a child to its end."""
    return lambda target, *args: start(target, *args)()


def test_containers_of_a_manager_are_shared_with_a_child(ctx: Any, run: Any) -> None:
    """list, dict, set, Namespace, Value and Array."""
    with ctx.Manager() as manager:
        look_at_containers(manager, run)


def test_locks_of_a_manager_are_shared_with_a_child(ctx: Any, run: Any) -> None:
    """Lock, RLock, Semaphore and BoundedSemaphore."""
    with ctx.Manager() as manager:
        look_at_locks(manager, run)


def test_a_child_is_met_at_a_managers_objects(ctx: Any, start: Any) -> None:
    """Condition, Event, Barrier, Queue and JoinableQueue."""
    with ctx.Manager() as manager:
        look_at_meetings(manager, start)


def test_a_managers_pool_answers_in_every_way(ctx: Any) -> None:
    """Asynchronous results and iterators are proxies too."""
    with ctx.Manager() as manager, manager.Pool(2) as pool:
        assert pool.apply(abs, (-3,)) == 3
        assert pool.apply_async(abs, (-4,)).get(60) == 4
        assert pool.map_async(abs, [-1, -2]).get(60) == [1, 2]
        assert list(pool.imap(abs, [-5, 6], buffersize=1)) == [5, 6]
        assert pool.starmap(divmod, [(7, 2)]) == [(3, 1)]


def nest(outer: Any) -> None:
    outer["list"].append(outer["names"])
    outer["list"][0].add("child")
    del outer["names"]


def test_shared_objects_hold_shared_objects(ctx: Any, run: Any) -> None:
    """A proxy inside a shared object refers to the same object, which lives while something holds it."""
    with ctx.Manager() as manager:
        outer = manager.dict(list=manager.list(), names=manager.set())
        run(nest, outer)
        assert list(outer) == ["list"] and outer["list"][0].copy() == {"child"}
        outer["self"] = outer
        assert outer["self"]["self"]["list"][0].copy() == {"child"}


def test_a_managers_server_starts_with_an_initializer_and_ends_in_time(ctx: Any) -> None:
    """start() runs the initializer in the server; the time it has to shut down can be set."""
    manager = managers.SyncManager(ctx=ctx, shutdown_timeout=60)
    told, teller = ctx.Pipe(duplex=False)
    manager.start(tell, (teller,))
    assert told.poll(60) and told.recv() == manager._process.pid
    manager.shutdown()
    assert manager._process.exitcode == 0


def tell(teller: Any) -> None:
    teller.send(procession.current_process().pid)


# A manager of another program.

SERVER = """
import queue, sys, threading
from PACKAGE.managers import SyncManager

class Remote(SyncManager):
    pass

tasks = queue.Queue()
Remote.register("tasks", callable=lambda: tasks)

if __name__ == "__main__":
    server = Remote(("127.0.0.1", 0), b"the key").get_server()
    print(server.address[1], flush=True)

    def end_with_our_starter():
        sys.stdin.read()
        server.stop_event.set()

    threading.Thread(target=end_with_our_starter, daemon=True).start()
    server.serve_forever()
"""


class Remote(managers.SyncManager):
    """The client's side of the manager in `SERVER`."""


Remote.register("tasks")


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Start a program that serves a manager made by a package, and connect to it."""
    servers = []

    def connect(package: str) -> Any:
        script = tmp_path / "server.py"
        script.write_text(SERVER.replace("PACKAGE", package))
        server = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        servers.append(server)
        assert server.stdout is not None and wait([server.stdout.fileno()], 60)
        remote = Remote(("127.0.0.1", int(server.stdout.readline())), b"the key")
        remote.connect()
        return remote

    # Proxies that come out of shared objects know only the process's key.
    monkeypatch.setattr(procession.current_process(), "authkey", b"the key")
    yield connect
    for server in servers:
        try:
            server.communicate(timeout=60)
        finally:
            server.kill()
        assert server.returncode == 0


def test_a_manager_of_another_program_is_used_by_children(serve: Any, start: Any) -> None:
    """After connect(), shared objects work for this process and for its children."""
    remote = serve("procession")
    look_at_containers(remote, lambda *task: start(*task)())
    look_at_meetings(remote, start)
    outer = remote.dict(list=remote.list(), names=remote.set())
    start(nest, outer)()
    assert outer["list"][0].copy() == {"child"}
    assert not remote.Lock().locked()


def test_the_server_may_be_the_standard_librarys(serve: Any, start: Any) -> None:
    """The server does not know this package; its objects are reached by their registered name."""
    remote = serve("multiprocessing")
    tasks, numbers = remote.tasks(), remote.list([1])
    start(put_in_queue, tasks, numbers)()
    assert tasks.get(timeout=60) == [1, 2] and remote.tasks().empty()


def put_in_queue(tasks: Any, numbers: Any) -> None:
    numbers.append(2)
    tasks.put(numbers[:])


def test_the_client_may_be_the_standard_librarys(serve: Any) -> None:
    """A program without this package connects to our server."""
    remote = serve("procession")
    client = f"""
from multiprocessing.managers import SyncManager
manager = SyncManager({remote.address!r}, b"the key")
manager.connect()
numbers, lock = manager.list([1]), manager.Lock()
with lock:
    numbers.append(2)
print(numbers[:], sum(manager.dict(a=1, b=2).values()))
"""
    done = subprocess.run([sys.executable, "-c", client], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1, 2] 3\n", "")


def test_a_wrong_key_is_refused(serve: Any) -> None:
    """Both sides refuse the connection."""
    remote = serve("procession")
    with pytest.raises(procession.AuthenticationError):
        managers.SyncManager(remote.address, b"another key").connect()


def test_named_shared_memory_goes_with_its_manager() -> None:
    """SharedMemoryManager unlinks the memory that it created."""
    with managers.SharedMemoryManager() as manager:
        memory = manager.SharedMemory(64)
        memory.buf[:5] = b"hello"
        name = memory.name
        memory.close()
    with pytest.raises(FileNotFoundError):
        procession.shared_memory.SharedMemory(name)
