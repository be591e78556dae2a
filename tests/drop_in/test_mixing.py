"""This package's objects and the stdlib's, used together in one program."""

from __future__ import annotations

import concurrent.futures
import gc
import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.pool
import multiprocessing.queues
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import procession
from procession import _native, connection, pool, reduction

TIMEOUT = 30


def use_all(lock: Any, value: Any, array: Any, event: Any, queue: Any, connection: Any) -> None:
    """Change each object in a way that the parent sees."""
    with lock:
        value.value += 1
        array[1] = 7
    event.set()
    queue.put(("queue", multiprocessing.current_process().name))
    connection.send("pipe")


def check_all(make: Any, starter: Any) -> None:
    """Start a process of one side with objects of the other."""
    ours, theirs = make.Pipe()
    things = make.Lock(), make.Value("i", 41), make.Array("d", 3), make.Event(), make.Queue()
    process = starter.Process(target=use_all, args=(*things, theirs), name="mixed")
    process.start()
    _, value, array, event, queue = things
    assert queue.get(timeout=TIMEOUT) == ("queue", "mixed")
    assert ours.poll(TIMEOUT) and ours.recv() == "pipe"
    process.join()
    assert process.exitcode == 0
    assert event.is_set() and value.value == 42 and array[:] == [0, 7, 0]


def test_our_processes_use_the_stdlibs_objects(ctx: Any, start_method: str) -> None:
    """Locks, values, arrays, events, queues and pipes."""
    check_all(multiprocessing.get_context(start_method), ctx)


def test_the_stdlibs_processes_use_our_objects(ctx: Any, start_method: str) -> None:
    """Also a fresh interpreter, which maps the shared memory itself."""
    before = _native.memory_stats()["processes"]
    check_all(ctx, multiprocessing.get_context(start_method))
    _native.reap_all()
    assert _native.memory_stats()["processes"] == before


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_process_of_the_stdlibs_that_cannot_be_started_takes_no_seat(method: str) -> None:
    """It frees the objects that were meant for the child as well."""
    _native.ensure_registered()
    before = _native.memory_stats()
    process = multiprocessing.get_context(method).Process(
        target=print, args=(procession.Event(), lambda: None)
    )
    with pytest.raises((AttributeError, pickle.PicklingError)):
        process.start()
    del process
    gc.collect()
    after = _native.memory_stats()
    # Objects of earlier tests may have been freed meanwhile.
    assert after["processes"] <= before["processes"] and after["objects"] <= before["objects"]


def double(n: int) -> int:
    return 2 * n


_given: Any = None


def take(lock: Any, value: Any) -> None:
    global _given
    _given = lock, value


def add(n: int) -> int:
    lock, value = _given
    with lock:
        value.value += n
    return n


def test_an_executor_on_our_context(ctx: Any) -> None:
    """`concurrent.futures`, unmodified and not aliased, with our objects in its initializer."""
    lock, value = ctx.Lock(), ctx.Value("i", 0, lock=False)
    with concurrent.futures.ProcessPoolExecutor(2, ctx, take, (lock, value)) as executor:
        assert sorted(executor.map(add, range(20))) == list(range(20))
    assert value.value == 190


def test_the_stdlibs_pool_with_our_objects(start_method: str, ctx: Any) -> None:
    """The initializer accepts them; tasks refuse them, as they refuse the stdlib's own."""
    lock, value = ctx.Lock(), ctx.Value("i", 0, lock=False)
    with multiprocessing.get_context(start_method).Pool(2, take, (lock, value)) as pool:
        assert pool.map(add, range(10)) == list(range(10))
        with pytest.raises(RuntimeError, match="through inheritance"):
            pool.apply(double, (lock,))
    assert value.value == 45


def report_name(queue: Any) -> None:
    record = logging.LogRecord("name", logging.INFO, "path", 1, "message", None, None)
    queue.put((record.processName, procession.current_process().name, procession.parent_process().name))


def test_the_current_process_is_one_for_both(ctx: Any) -> None:
    """Logging, which uses the stdlib, and `current_process` of either package agree."""
    queue = ctx.Queue()
    child = ctx.Process(target=report_name, args=(queue,), name="a name")
    child.start()
    assert queue.get(timeout=TIMEOUT) == ("a name", "a name", "MainProcess")
    assert multiprocessing.active_children() == procession.active_children()
    child.join()
    assert multiprocessing.active_children() == []


class Celsius:
    """Cannot be pickled without a registered reducer."""

    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def __reduce__(self) -> Any:
        raise TypeError("only by a registered reducer")


@pytest.fixture
def registered() -> Iterator[None]:
    """A reducer that another library registered with the stdlib."""
    multiprocessing.reduction.ForkingPickler.register(Celsius, lambda it: (Celsius, (it.degrees,)))
    yield
    del reduction.ForkingPickler._extra_reducers[Celsius]


def degrees_of(thing: Celsius) -> float:
    return thing.degrees


@pytest.mark.usefixtures("registered")
def test_registered_reducers_count_on_every_path(ctx: Any) -> None:
    """A queue, a pipe, a simple queue, arguments of a process, of a task and of a function."""
    for put, get in (
        (lambda q: (q.put, q.get))(ctx.Queue()),
        (lambda q: (q.put, q.get))(ctx.SimpleQueue()),
        (lambda ends: (ends[1].send, ends[0].recv))(ctx.Pipe()),
    ):
        put([Celsius(21.5)])
        assert get()[0].degrees == 21.5
    child = ctx.Process(target=degrees_of, args=(Celsius(1),))
    child.start()
    child.join()
    assert child.exitcode == 0
    with ctx.Pool(1) as workers:
        assert workers.apply(degrees_of, (Celsius(2),)) == 2
        assert workers.map(degrees_of, [Celsius(3)]) == [3]


def test_our_classes_are_kinds_of_the_stdlibs() -> None:
    """In every attribute that libraries use."""
    context = procession.get_context("spawn")
    assert isinstance(context, multiprocessing.context.BaseContext)
    assert isinstance(context.Process(), multiprocessing.process.BaseProcess)
    assert issubclass(pool.Pool, multiprocessing.pool.Pool)
    assert issubclass(pool.ThreadPool, (multiprocessing.pool.ThreadPool, multiprocessing.pool.Pool))
    assert procession.TimeoutError is multiprocessing.TimeoutError


def test_waiting_over_both_kinds_of_pipes() -> None:
    """`wait` of either package takes ends of either package."""
    ours, theirs = procession.Pipe(), multiprocessing.Pipe()
    for wait in (connection.wait, multiprocessing.connection.wait):
        assert wait([ours[0], theirs[0]], 0) == []
        ours[1].send(1)
        theirs[1].send(2)
        assert set(wait([ours[0], theirs[0]], TIMEOUT)) == {ours[0], theirs[0]}
        assert (ours[0].recv(), theirs[0].recv()) == (1, 2)
