"""A `Queue` between processes."""

import gc
import os
import pickle
import queue
import signal
import threading

import pytest

import procession
from procession import queues


def produce(q, items):
    for item in items:
        q.put(item)


def put_and_die(q, item):
    q.put(item)
    os.kill(os.getpid(), signal.SIGKILL)


def consume(q, results):
    for item in iter(q.get, None):
        results.put(item * 2)


def use_subclass(q):
    assert type(q) is Stamped
    q.put("from the child")


class Stamped(queues.Queue):
    """A queue with state of its own, pickled in the stdlib's way."""

    def __init__(self, stamp, maxsize=0, *, ctx):
        self.stamp = stamp
        super().__init__(maxsize, ctx=ctx)

    def __getstate__(self):
        return (*super().__getstate__(), self.stamp)

    def __setstate__(self, state):
        super().__setstate__(state[:-1])
        self.stamp = state[-1]


class Unpicklable:
    """Cannot be sent."""

    def __reduce__(self):
        raise AttributeError("not this one")


def test_what_goes_in_comes_out_in_order():
    """Objects of all kinds come out as they went in."""
    q = procession.Queue()
    items = [1, "two", b"three", 4.5, None, [6, (7,)], {"eight": {9}}, 10**40, OSError("eleven")]
    for item in items:
        q.put(item)
    assert q.qsize() == len(items)
    out = [q.get() for _ in items]
    assert out[:-1] == items[:-1]
    assert (type(out[-1]), out[-1].args) == (OSError, ("eleven",))
    assert q.empty()


def test_a_child_produces(ctx):
    """A child's messages arrive in its order."""
    q = ctx.Queue()
    child = ctx.Process(target=produce, args=(q, list(range(500))))
    child.start()
    assert [q.get(timeout=30) for _ in range(500)] == list(range(500))
    child.join()
    assert child.exitcode == 0


def test_children_consume(ctx):
    """Several consumers get every message once."""
    q, results = ctx.Queue(), ctx.Queue()
    children = [ctx.Process(target=consume, args=(q, results)) for _ in range(2)]
    for child in children:
        child.start()
    for item in range(200):
        q.put(item)
    for _ in children:
        q.put(None)
    assert sorted(results.get(timeout=30) for _ in range(200)) == list(range(0, 400, 2))
    for child in children:
        child.join()


def test_a_child_can_be_joined_before_its_messages_are_taken():
    """There is no feeder thread that a join could wait for."""
    q = procession.Queue()
    child = procession.Process(target=produce, args=(q, ["x" * 1_000_000] * 3))
    child.start()
    child.join()
    assert [len(q.get()) for _ in range(3)] == [1_000_000] * 3


def test_a_message_outlives_a_producer_that_is_killed(ctx):
    """An object arrives once `put` has returned, whatever happens to the producer."""
    q = ctx.Queue()
    child = ctx.Process(target=put_and_die, args=(q, {"last": "words"}))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert q.get(timeout=30) == {"last": "words"}


def test_a_bounded_queue_fills_up():
    """`put` into a full queue raises the stdlib's exception."""
    q = procession.Queue(maxsize=2)
    q.put(1)
    q.put(2, True, None)
    assert q.full() and q.qsize() == 2
    for refused in (
        lambda: q.put(3, False),
        lambda: q.put_nowait(3),
        lambda: q.put(3, True, 0),
        lambda: q.put(3, timeout=0.01),
        lambda: q.put(3, False, 100),
    ):
        with pytest.raises(queue.Full):
            refused()
    assert q.get() == 1
    assert not q.full()
    q.put_nowait(3)
    assert [q.get_nowait(), q.get_nowait()] == [2, 3]


def test_an_empty_queue_has_nothing_to_give():
    """`get` raises the stdlib's exception."""
    q = procession.Queue()
    for refused in (
        lambda: q.get(False),
        lambda: q.get_nowait(),
        lambda: q.get(True, 0),
        lambda: q.get(timeout=-1),
        lambda: q.get(timeout=0.01),
        lambda: q.get(False, 100),
    ):
        with pytest.raises(queue.Empty):
            refused()


def test_a_blocked_put_goes_on_when_there_is_room(ctx):
    """A producer waits for a consumer in another process."""
    q, results = ctx.Queue(1), ctx.Queue()
    child = ctx.Process(target=consume, args=(q, results))
    child.start()
    for item in [*range(50), None]:
        q.put(item, timeout=30)
    assert [results.get(timeout=30) for _ in range(50)] == list(range(0, 100, 2))
    child.join()


@pytest.mark.parametrize("maxsize", [0, -1])
def test_no_bound(maxsize):
    """Zero and less mean unbounded."""
    q = procession.Queue(maxsize)
    for item in range(1000):
        q.put_nowait(item)
    assert not q.full() and q.qsize() == 1000


def test_an_unpicklable_object_raises_where_it_is_put():
    """The object leaves nothing behind, and the queue works on."""
    q = procession.Queue(1)
    with pytest.raises(AttributeError, match="not this one"):
        q.put(Unpicklable())
    with pytest.raises((AttributeError, pickle.PicklingError)):
        q.put(lambda: None)
    assert q.qsize() == 0
    q.put(1)
    assert q.get() == 1


@pytest.mark.parametrize("put", ["put_nowait", "put_many_nowait"])
def test_what_has_no_room_is_not_pickled(put):
    """`Full` comes before the object's own error, as in the standard library, and costs no pickling."""
    q = procession.Queue(1)
    q.put(1)
    with pytest.raises(queue.Full):
        getattr(q, put)(Unpicklable() if put == "put_nowait" else [Unpicklable()])
    with pytest.raises(queue.Full):
        q.put(Unpicklable(), timeout=0)
    assert q.get() == 1
    with pytest.raises(AttributeError, match="not this one"):
        q.put_nowait(Unpicklable())


def test_a_subclass_may_deal_with_unpicklable_objects():
    """An overridden `_on_queue_feeder_error` gets the error and the object, and `put` returns."""
    dealt_with = []

    class Safe(queues.Queue):
        def _on_queue_feeder_error(self, error, obj):
            dealt_with.append((type(error), type(obj)))

    q = Safe(ctx=procession.get_context())
    q.put(Unpicklable())
    q.put_nowait(Unpicklable())
    q.put(True)
    assert q.get() is True
    q.close()
    q.join_thread()
    assert dealt_with == [(AttributeError, Unpicklable)] * 2


def test_the_error_hook_may_want_what_the_caller_of_put_holds():
    """It runs in a thread of its own, as with the stdlib; the thread ends with the queue."""
    lock, told = threading.Lock(), threading.Event()

    class Safe(queues.Queue):
        def _on_queue_feeder_error(self, error, obj):
            with lock:
                told.set()

    q = Safe(ctx=procession.get_context())
    with lock:
        q.put(Unpicklable())
    assert told.wait(30)
    thread = q._error_thread._thread
    del q
    thread.join(30)
    assert not thread.is_alive()


def test_the_error_hook_may_want_what_the_caller_of_join_thread_holds():
    """`join_thread` gives up after a while: concurrent.futures calls it with a lock that its hook needs."""
    lock, begun, told = threading.Lock(), threading.Event(), threading.Event()

    class Safe(queues.Queue):
        def _on_queue_feeder_error(self, error, obj):
            begun.set()
            with lock:
                told.set()

    q = Safe(ctx=procession.get_context())
    with lock:
        q.put(Unpicklable())
        assert begun.wait(30)
        q.close()
        q.join_thread()
        assert not told.is_set()
    assert told.wait(30)


def test_a_subclass_travels_with_its_state(ctx):
    """Subclasses in the stdlib's shape keep what they pickle."""
    q = Stamped("blue", 5, ctx=ctx)
    child = ctx.Process(target=use_subclass, args=(q,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert q.get(timeout=30) == "from the child"


def test_a_closed_queue_refuses_use():
    """`put` and `get` raise ValueError; the others keep theirs open."""
    q = procession.Queue()
    q.put("foo")
    q.close()
    q.join_thread()
    with pytest.raises(ValueError, match="Queue .* is closed"):
        q.put("foo")
    with pytest.raises(ValueError, match="Queue .* is closed"):
        q.get()
    with pytest.raises(OSError, match="is closed"):
        q.empty()


def test_an_unused_closed_queue_is_empty():
    """Closing takes effect on `empty` once the queue was used, as in the stdlib."""
    q = procession.Queue()
    q.close()
    q.join_thread()
    assert q.empty()


def test_closing_is_local(ctx):
    """A child goes on after its parent closed the queue for itself, and the other way round."""
    q, results = ctx.Queue(), ctx.Queue()
    q.put(1)
    q.put(None)
    child = ctx.Process(target=consume, args=(q, results))
    child.start()
    q.close()
    assert results.get(timeout=30) == 2
    child.join()


def test_join_thread_needs_a_closed_queue():
    """Joining before closing is an AssertionError."""
    q = procession.Queue()
    with pytest.raises(AssertionError, match="not closed"):
        q.join_thread()
    q.cancel_join_thread()


def test_threads_share_a_queue_with_a_signal_handler():
    """A blocked `get` runs signal handlers, which may use the same queue."""
    q = procession.Queue()
    previous = signal.signal(signal.SIGALRM, lambda *_: q.put("from the handler"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert q.get(timeout=30) == "from the handler"
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_a_thread_feeds_a_blocked_get():
    """`get` lets other threads run while it waits."""
    q = procession.Queue()
    thread = threading.Thread(target=q.put, args=(1,))
    thread.start()
    assert q.get(timeout=30) == 1
    thread.join()


def test_a_put_from_inside_pickling():
    """Pickling an object may use the very queue it is put into."""
    q = procession.Queue()

    class Chatty:
        def __reduce__(self):
            q.put("first")
            return str, ("second",)

    q.put(Chatty())
    assert [q.get(), q.get()] == ["first", "second"]


def test_a_large_message_comes_out_whole():
    """Messages may be larger than any buffer."""
    q = procession.Queue()
    data = bytes(range(256)) * 200_000
    q.put(data)
    assert q.get() == data


def test_pickling_outside_a_start_is_refused():
    """A queue is shared through inheritance only."""
    with pytest.raises(RuntimeError, match="through inheritance"):
        pickle.dumps(procession.Queue())


def test_memory_comes_back():
    """A freed queue leaves nothing behind, full or not."""
    from procession import _native

    gc.collect()
    before = _native.memory_stats()["objects"]
    q = procession.Queue()
    for item in range(100):
        q.put([item] * 100)
    del q
    gc.collect()
    assert _native.memory_stats()["objects"] == before


def test_importing_queues_makes_util_reachable(run_script):
    """`concurrent.futures` imports the queues and then uses `multiprocessing.util`."""
    ran = run_script("import procession.queues; print(procession.util.Finalize.__name__)")
    assert (ran.stdout, ran.stderr) == ("Finalize\n", "")


def test_generic_alias():
    """`Queue[int]` is a type, as in the stdlib."""
    assert queues.Queue[int].__args__ == (int,)


def test_an_inherited_put_is_not_passed_by():
    """A subclass that adds an error hook keeps the `put` of the class it comes from."""

    class Counting(queues.Queue):
        puts = 0

        def put(self, *args):
            self.puts += 1
            super().put(*args)

    class Safe(Counting):
        def _on_queue_feeder_error(self, error, obj):
            pass

    q = Safe(ctx=procession.get_context())
    q.put(1)
    q.put(Unpicklable())
    assert q.puts == 2
