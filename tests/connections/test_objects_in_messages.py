"""Queues, locks, values and pipes in messages: through queues, pipes and pools, not only by inheritance."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import procession
from procession import _native, queues, reduction, sharedctypes, synchronize

# Only a failure takes so long, in seconds.
TIMEOUT = 30


class Point(ctypes.Structure):
    """A structure of two fields."""

    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


@pytest.fixture(autouse=True)
def no_object_is_left() -> Iterator[None]:
    """Fail the test if it leaves an object of the engine behind."""
    _native.ensure_registered()
    gc.collect()
    _native.reap_all()
    before = _native.memory_stats()["objects"]
    yield
    gc.collect()
    _native.reap_all()
    # Threads and processes of earlier tests may have freed objects meanwhile.
    assert _native.memory_stats()["objects"] <= before


def use(thing: Any) -> Any:
    """Change a shared object in a way that shows in the object itself."""
    match thing:
        case _native.Queue():
            thing.put("used")
        case _native.Event():
            thing.set()
        case synchronize.Barrier():
            thing.abort()
        case synchronize.Condition():
            with thing:
                thing.notify_all()
        case sharedctypes.SynchronizedArray():
            thing[1] = 5
        case sharedctypes.Synchronized():
            thing.value = 5
        case sharedctypes.SynchronizedBase():
            thing.x = 5
        case ctypes.Array():
            thing[1] = 5
        case queues.SimpleQueue():
            thing.put("used")
        case _native.Channel():
            thing.send("used")
        case _:
            thing.acquire()
    return thing


KINDS = {
    "Lock": (lambda ctx: ctx.Lock(), lambda it: not it.acquire(False)),
    "RLock": (lambda ctx: ctx.RLock(), lambda it: not it.acquire(False)),
    "Semaphore": (lambda ctx: ctx.Semaphore(2), lambda it: it.get_value() == 1),
    "BoundedSemaphore": (lambda ctx: ctx.BoundedSemaphore(2), lambda it: it.get_value() == 1),
    "Event": (lambda ctx: ctx.Event(), lambda it: it.is_set()),
    "Condition": (lambda ctx: ctx.Condition(), lambda it: it.acquire()),
    "Barrier": (lambda ctx: ctx.Barrier(2), lambda it: it.broken),
    "Value": (lambda ctx: ctx.Value("i", 1), lambda it: it.value == 5),
    "Structure": (lambda ctx: ctx.Value(Point, 1, 2), lambda it: (it.x, it.y) == (5, 2)),
    "Array": (lambda ctx: ctx.Array("d", [1, 2, 3]), lambda it: it[:] == [1, 5, 3]),
    "RawArray": (lambda ctx: ctx.RawArray("h", 3), lambda it: it[:] == [0, 5, 0]),
    "Queue": (lambda ctx: ctx.Queue(3), lambda it: it.get() == "used"),
    "JoinableQueue": (lambda ctx: ctx.JoinableQueue(), lambda it: it.get() == "used"),
    "SimpleQueue": (lambda ctx: ctx.SimpleQueue(), lambda it: it.get() == "used"),
}


def answer(requests: Any, answers: Any) -> None:
    """Use each object that arrives, until None arrives."""
    while (thing := requests.get()) is not None:
        use(thing)
        answers.put("done")


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_goes_through_a_queue_to_a_process_that_runs(ctx: Any, kind: str) -> None:
    """What the other process does with the object shows here."""
    make, is_used = KINDS[kind]
    requests, answers = ctx.Queue(), ctx.Queue()
    child = ctx.Process(target=answer, args=(requests, answers))
    child.start()
    thing = make(ctx)
    requests.put(thing)
    assert answers.get(timeout=TIMEOUT) == "done"
    assert is_used(thing)
    requests.put(None)
    child.join()


def use_all(connection: Any) -> None:
    for thing in connection.recv():
        use(thing)
    connection.send("done")


def test_many_objects_go_through_a_pipe_in_one_message(ctx: Any) -> None:
    """Each object arrives once; one that occurs twice in the message stays one object."""
    ours, theirs = ctx.Pipe()
    child = ctx.Process(target=use_all, args=(theirs,))
    child.start()
    things = [make(ctx) for make, _ in KINDS.values()]
    twice = ctx.Semaphore(3)
    ours.send([*things, twice, twice])
    assert ours.poll(TIMEOUT) and ours.recv() == "done"
    assert all(is_used(thing) for thing, (_, is_used) in zip(things, KINDS.values(), strict=True))
    assert twice.get_value() == 1
    child.join()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "RLock" not in kind])
def test_a_pool_takes_objects_and_gives_them_back(ctx: Any, kind: str) -> None:
    """Shared objects travel as an argument, inside a function, as an item of a map, and as a result."""
    make, is_used = KINDS[kind]
    with ctx.Pool(2) as pool:
        for call in (
            lambda thing: pool.apply(use, (thing,)),
            lambda thing: pool.apply(functools.partial(use, thing)),
            lambda thing: pool.map(use, [thing])[0],
            lambda thing: next(pool.imap(use, iter([thing]))),
            lambda thing: pool.map(functools.partial(call_with, thing), [use])[0],
        ):
            thing = make(ctx)
            result = call(thing)
            assert type(result) is type(thing)
            assert is_used(result)
        assert is_used(use(pool.apply(make_in_worker, (kind,))))
        pool.close()
        pool.join()


def call_with(thing: Any, function: Any) -> Any:
    return function(thing)


def make_in_worker(kind: str) -> Any:
    return KINDS[kind][0](procession)


def send_and_die(requests: Any, ready: Any) -> None:
    value = procession.Value("i", 41)
    inner = procession.Queue()
    inner.put(value)
    inner.put("and more")
    requests.put({"inner": inner, "value": value})
    ready.set()
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_object_in_a_message_outlives_the_process_that_sent_it(ctx: Any) -> None:
    """After its sender was killed only the message holds the object; its content survives, too."""
    requests, ready = ctx.Queue(), ctx.Event()
    child = ctx.Process(target=send_and_die, args=(requests, ready))
    child.start()
    child.join()
    assert ready.is_set()
    _native.reap_all()
    message = requests.get()
    inner = message["inner"]
    value = inner.get()
    assert value.value == message["value"].value == 41
    assert inner.get() == "and more"
    value.value += 1
    assert message["value"].value == 42


def test_messages_nobody_receives_go_with_their_queue() -> None:
    """Dropped messages free what they hold, to any depth; the fixture counts what is left."""
    queue: Any = procession.Queue()
    queue.put(procession.Lock())
    for _ in range(2000):
        outer = procession.Queue()
        outer.put(queue)
        queue = outer
    del outer
    pipe = procession.Pipe()
    pipe[0].send([procession.Value("i"), queue])


def test_a_message_that_was_not_put_holds_nothing() -> None:
    """A failed `put` frees them, whatever the reason."""
    full = procession.Queue(1)
    full.put(1)
    with pytest.raises(queues.Full):
        full.put(procession.Lock(), block=False)
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        full.put([procession.Lock(), lambda: None])
    reader, writer = procession.Pipe(False)
    reader.close()
    with pytest.raises(BrokenPipeError):
        writer.send(procession.Lock())


def test_one_object_goes_round_many_times() -> None:
    """The object stays the same while messages come and go."""
    queue = procession.Queue()
    thing = procession.Value("i", 0)
    for _ in range(200):
        queue.put(thing)
        with thing.get_lock():
            thing.value += 1
        thing = queue.get()
    assert thing.value == 200


def swap(mine: Any, theirs: Any, turns: int) -> None:
    for _ in range(turns):
        thing = mine.get(timeout=TIMEOUT)
        thing.value += 1
        theirs.put(thing)


def test_an_object_is_passed_to_and_fro_while_each_side_lets_go(ctx: Any) -> None:
    """Most of the time only the message holds the object."""
    there, back = ctx.Queue(), ctx.Queue()
    child = ctx.Process(target=swap, args=(there, back, 300))
    child.start()
    there.put(ctx.Value("i", 0, lock=ctx.Lock()))
    swap(back, there, 299)
    child.join()
    assert back.get(timeout=TIMEOUT).value == 599


def test_threads_pickle_messages_beside_each_other() -> None:
    """What one thread attaches does not appear in another thread's message."""
    queue = procession.Queue()

    def send() -> None:
        for _ in range(100):
            queue.put(procession.Value("i", threading.get_ident() % 1000))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = {thread.ident % 1000 for thread in threads if thread.ident}
    assert {queue.get().value for _ in range(400)} <= names


class Sends:
    """Sends a message while it is pickled into another one."""

    def __init__(self, queue: Any) -> None:
        self.queue = queue

    def __reduce__(self) -> Any:
        self.queue.put(procession.Lock())
        return list, ((1, 2),)


def test_a_message_sent_while_another_is_pickled() -> None:
    """Each message holds its own objects."""
    inner, outer = procession.Queue(), procession.Queue()
    outer.put([procession.Event(), Sends(inner), procession.Event()])
    first, numbers, last = outer.get()
    first.set()
    assert numbers == [1, 2] and not last.is_set()
    assert inner.get().acquire(False)


@pytest.mark.parametrize("kind", list(KINDS))
def test_pickled_by_itself_an_object_is_refused(kind: str) -> None:
    """A pickle cannot keep it alive: RuntimeError, as with the stdlib."""
    thing = KINDS[kind][0](procession)
    with pytest.raises(RuntimeError, match="should only be shared between processes through inheritance"):
        reduction.ForkingPickler.dumps(thing)
    if kind != "RawArray":  # plain pickle copies what is in it
        with pytest.raises(RuntimeError):
            pickle.dumps(thing)
