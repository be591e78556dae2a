"""`Queue`, `JoinableQueue` and `SimpleQueue` beside the standard library's: same calls, same outcomes.

The standard library's `Queue` is fed by a thread. Before each call that looks into its pipe, its side of a
program waits for the thread; what `qsize` and `full` say is exact at any time.
"""

import multiprocessing
import threading
from queue import Full

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import procession
from tests.support.side_by_side import assert_alike, assert_programs_alike, attempt, outcome
from tests.support.wire_values import patient, plain

thorough = settings(patient, max_examples=100)


class Broken:
    """Can be sent, but not received."""

    def __getstate__(self):
        return {"state": None}

    def __setstate__(self, state):
        raise KeyError("broken")


class Ours:
    """A queue of this package."""

    def __init__(self, queue):
        self.queue = queue

    def settle(self):
        """Nothing to wait for: `put` delivers before it returns."""

    def finish(self):
        self.queue.close()
        return self.queue.join_thread()


class Theirs(Ours):
    """A queue of the standard library."""

    def settle(self):
        """Wait until the feeder thread has put something into the pipe, if there is anything to put."""
        if not self.queue._closed and self.queue.qsize():
            assert self.queue._poll(10)

    def finish(self):
        feeder = self.queue._thread
        result = super().finish()
        if feeder is not None:
            feeder.join(10)
            assert not feeder.is_alive()
        return result


def get(side, *args):
    side.settle()
    return side.queue.get(*args)


def get_nowait(side):
    side.settle()
    return side.queue.get_nowait()


def get_or_leave(side, *args):
    """A `get` that may wait for ever where there is nothing to wait for."""
    return get(side, *args) if side.queue.qsize() or side.queue._closed else "nothing there"


def put_or_leave(side, *args):
    """A `put` that may wait for ever where there is no room."""
    return side.queue.put(*args) if not side.queue.full() or side.queue._closed else "no room"


def empty(side):
    side.settle()
    return side.queue.empty()


def look(side):
    return side.queue.qsize(), side.queue.full()


def join(side):
    """Only where there is nothing to wait for."""
    unfinished = 0
    while attempt(side.queue.task_done)[0][0] == "gives":
        unfinished += 1
    return unfinished, side.queue.join()


STEPS = {
    "put": lambda side, *args: side.queue.put(*args),
    "put or leave": put_or_leave,
    "put_nowait": lambda side, obj: side.queue.put_nowait(obj),
    "get": get,
    "get or leave": get_or_leave,
    "get_nowait": get_nowait,
    "empty": empty,
    "look": look,
    "finish": lambda side: side.finish(),
    "join_thread": lambda side: side.queue.join_thread() if not side.queue._closed else None,
    "cancel_join_thread": lambda side: side.queue.cancel_join_thread(),
    "task_done": lambda side: side.queue.task_done(),
    "join": join,
}

objects = st.integers() | plain | st.sampled_from([1j, int, "\ud800", Broken(), {"a": Broken()}])
short = st.sampled_from([0, 0.0, -1, -0.5, 0.001, False])
truths = st.sampled_from([True, 1])
lies = st.sampled_from([False, 0])
in_vain = st.tuples(truths, short) | st.tuples(lies) | st.tuples(lies, st.none() | short | st.just(5))
waiting = st.just(()) | st.tuples(truths) | st.tuples(truths, st.none() | st.just(5))


def called(name, *arguments):
    """A step with arguments, the last of them a tuple of more."""
    return st.tuples(*arguments).map(lambda drawn: (name, *drawn[:-1], *drawn[-1]))


steps = (
    called("put", objects, in_vain)
    | called("put or leave", objects, waiting)
    | st.tuples(st.just("put_nowait"), objects)
    | called("get", in_vain)
    | called("get or leave", waiting)
    | st.sampled_from([("get_nowait",), ("empty",), ("look",), ("join_thread",), ("cancel_join_thread",)])
)
finishing = st.just(("finish",))
counting = st.sampled_from([("task_done",), ("join",)])
sizes = st.sampled_from([0, -1, 1, 2, 3, True, False, 2**31 - 1, -(2**40)])


def both_sides(kind, maxsize):
    """A queue of each side."""
    return Ours(getattr(procession, kind)(maxsize)), Theirs(getattr(multiprocessing, kind)(maxsize))


def assert_same_life(kind, maxsize, program):
    """A queue of each side, alike through the whole program and its end."""
    ours, theirs = both_sides(kind, maxsize)
    try:
        assert_programs_alike(program, STEPS, ours, theirs)
    finally:
        ours.finish()
        theirs.finish()


@thorough
@given(sizes, st.lists(steps, max_size=12), st.just([]) | st.lists(steps | finishing, max_size=6))
@example(1, [("put", 1, False), ("put", 2, True, 0), ("put", 3, True, -1), ("put", 4, False, 5)], [])
@example(1, [("put_nowait", 1), ("put_nowait", 2), ("get",), ("put", 3), ("look",), ("empty",)], [])
@example(0, [("put", None), ("get", True, None), ("get", False), ("get", True, 0), ("get", True, -1)], [])
@example(2, [("put", 1), ("finish",)], [("put", 1), ("get",), ("look",), ("empty",), ("finish",)])
@example(2, [("get_nowait",), ("finish",)], [("put", 1), ("get",), ("look",), ("empty",), ("finish",)])
@example(1, [("put", Broken()), ("look",), ("get",), ("look",), ("put", 1), ("get",)], [])
def test_a_queue(maxsize, program, ending):
    """A `Queue` gives, refuses, fills up, runs empty and is closed as the stdlib's is."""
    assert_same_life("Queue", maxsize, [*program, *ending])


@thorough
@given(sizes, st.lists(steps | counting, max_size=12), st.just([]) | st.lists(steps | finishing, max_size=4))
@example(0, [("task_done",), ("put", 1), ("task_done",), ("task_done",), ("join",)], [("finish",), ("join",)])
@example(1, [("put", 1), ("put", 2, False), ("get",), ("task_done",), ("task_done",), ("put", 3)], [])
@example(0, [("put", 1), ("finish",)], [("task_done",), ("join",), ("task_done",)])
def test_a_joinable_queue(maxsize, program, ending):
    """A `JoinableQueue` counts what was put as the stdlib's does, before and after it is closed."""
    assert_same_life("JoinableQueue", maxsize, [*program, *ending])


SIMPLE_STEPS = {
    "put": lambda queue, obj: queue.put(obj),
    "get": lambda queue: queue.get() if queue._reader.closed or not queue.empty() else "nothing there",
    "empty": lambda queue: queue.empty(),
    "close": lambda queue: queue.close(),
    "close the writer": lambda queue: queue._writer.close(),
    "close the reader": lambda queue: queue._reader.close(),
}
simple_steps = st.tuples(st.just("put"), objects) | st.sampled_from([("get",), ("empty",)])
simple_closing = st.sampled_from([("close",), ("close the writer",), ("close the reader",)])


@thorough
@given(st.lists(simple_steps, max_size=10), st.lists(simple_steps | simple_closing, max_size=6))
@example([("put", 1)], [("close",), ("get",), ("put", 1), ("empty",), ("close",)])
@example([("put", 1)], [("close the writer",), ("get",), ("empty",), ("get",), ("put", 2)])
@example([("put", 1), ("put", lambda: None), ("get",)], [("close the reader",), ("put", 1), ("put", 2)])
def test_a_simple_queue(program, ending):
    """A `SimpleQueue` gives, refuses and is closed as the stdlib's is."""
    queues = procession.SimpleQueue(), multiprocessing.SimpleQueue()
    try:
        assert_programs_alike([*program, *ending], SIMPLE_STEPS, *queues)
    finally:
        for queue in queues:
            queue.close()


QUEUES = pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])


@QUEUES
@pytest.mark.parametrize("size", [None, "1", 2.5, [], 1j, 2**63, 2**70, -(2**70), 0.0, -1.5], ids=repr)
def test_sizes(kind, size):
    """An invalid size raises the same exception; the stdlib's values for 'no bound' mean the same here."""

    def make(package):
        queue = getattr(package, kind)(size)
        return queue.qsize(), queue.full(), queue.empty()

    assert_alike(make, procession, multiprocessing)


@QUEUES
@pytest.mark.parametrize(
    "call",
    [
        lambda queue: queue.put(),
        lambda queue: queue.put(1, True, None, None),
        lambda queue: queue.put(obj=1, block=False, timeout=None),
        lambda queue: queue.put_nowait(),
        lambda queue: queue.put_nowait(obj=1),
        lambda queue: queue.put_nowait(1, False),
        lambda queue: queue.get(True, 0, None),
        lambda queue: queue.get(block=True, timeout=0),
        lambda queue: queue.get_nowait(False),
        lambda queue: queue.qsize(1),
        lambda queue: queue.join_thread(),
        lambda queue: queue.close(1),
        lambda queue: len(queue),
        lambda queue: iter(queue),
        lambda queue: queue.__enter__(),
        lambda queue: bool(queue),
        lambda queue: queue == queue,
        lambda queue: hash(queue) == hash(queue),
        lambda queue: setattr(queue, "note", 1),
        lambda queue: queue.task_done(),
    ],
)
def test_calls(kind, call):
    """Arguments go by the same names, and what a queue does not offer raises the same exception."""

    def make_and_call(package):
        queue = getattr(package, kind)(1)
        try:
            return call(queue)
        finally:
            queue.close()

    assert_alike(make_and_call, procession, multiprocessing)


@QUEUES
@pytest.mark.parametrize("block", [True, False])
@pytest.mark.parametrize("timeout", ["1", [], b"", 1j], ids=repr)
def test_a_timeout_is_a_number(kind, block, timeout):
    """A timeout that is not a number is refused, also if the call would not wait."""

    def misuse(side):
        outcomes = [outcome(side.queue.get, block, timeout), outcome(side.queue.put, 1, block, timeout)]
        side.queue.put(2)
        side.settle()
        return outcomes, outcome(side.queue.get, block, timeout), side.queue.get(), side.finish()

    assert_alike(misuse, *both_sides(kind, 1))


@QUEUES
@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("step", ["put", "get"])
def test_closing_counts_before_arguments(kind, used, step):
    """A closed queue says so, whatever else is wrong with a call."""

    def misuse(side):
        if used:
            side.queue.put(1)
        side.finish()
        if step == "put":
            return side.queue.put(lambda: None), side.queue.put(1, True, -1)
        return side.queue.get(True, -1)

    assert_alike(misuse, *both_sides(kind, 1))


def test_join_waits_on_both_sides():
    """`join` is still waiting while something is unfinished, and returns once nothing is."""
    for package in (procession, multiprocessing):
        queue = package.JoinableQueue()
        queue.put(1)
        queue.put(2)
        joined = threading.Event()
        waiter = threading.Thread(target=lambda it=queue, told=joined: (it.join(), told.set()), daemon=True)
        waiter.start()
        queue.task_done()
        assert not joined.is_set()
        queue.task_done()
        waiter.join(20)
        assert joined.is_set()
        with pytest.raises(ValueError):
            queue.task_done()
        queue.close()
        queue.join_thread()


@QUEUES
def test_an_unpicklable_object_raises_where_it_is_put(kind):
    """The stdlib's `put` returns and a thread prints the error later; here the caller gets it."""
    queue = getattr(procession, kind)(1)
    assert outcome(queue.put, threading.Lock()) == ("raises", TypeError)
    assert outcome(queue.put_nowait, threading.Lock()) == ("raises", TypeError)
    assert (queue.qsize(), queue.full(), queue.empty()) == (0, False, True)
    queue.put(1)
    assert outcome(queue.put, threading.Lock(), False) == ("raises", Full)
    assert queue.get() == 1


@QUEUES
def test_an_object_is_put_as_it_is_now(kind):
    """The stdlib's thread may see changes made after `put`; here `put` has taken a copy."""
    queue = getattr(procession, kind)()
    numbers = [1, 2, 3]
    queue.put(numbers)
    numbers.clear()
    assert queue.get() == [1, 2, 3]


def test_a_timeout_that_is_not_a_number_is_refused_as_one():
    """NaN raises ValueError; the stdlib's error depends on the system."""
    queue = procession.Queue(1)
    queue.put(1)
    with pytest.raises(ValueError):
        queue.put(2, True, float("nan"))
    assert queue.get(True, float("inf")) == 1
