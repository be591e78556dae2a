"""`put_many` and `get_many`: several objects in one call, named as in faster-fifo."""

import os
import queue
import signal

import pytest

import procession


class Unloadable:
    """Can be sent, and not received."""

    def __reduce__(self):
        return (int, ("not a number",))


def put_many_and_die(q, items):
    q.put_many(items)
    os.kill(os.getpid(), signal.SIGKILL)


def add_up(q, results):
    total = 0
    while (batch := q.get_many())[-1] is not None:
        total += sum(batch)
    results.put(total + sum(batch[:-1]))


def test_all_of_an_iterable_arrives_in_order():
    """Any iterable will do, a generator too, and `get_many` takes what is there."""
    q = procession.Queue()
    q.put_many(n * n for n in range(1000))
    assert q.get_many() == [n * n for n in range(1000)]


def test_get_many_waits_for_the_first_object_only(start_method):
    """A consumer in another process gets every object once, in batches of any size."""
    context = procession.get_context(start_method)
    q, results = context.Queue(), context.Queue()
    process = context.Process(target=add_up, args=(q, results))
    process.start()
    for start in range(0, 3000, 100):
        q.put_many(range(start, start + 100))
    q.put(None)
    assert results.get() == sum(range(3000))
    process.join()


def test_get_many_takes_at_most_as_many_as_asked_for():
    """The rest stays in the queue."""
    q = procession.Queue()
    q.put_many("abcde")
    assert q.get_many(max_messages_to_get=2) == ["a", "b"]
    assert q.get_many_nowait(2) == ["c", "d"]
    assert q.get_many(True, None, 10) == ["e"]


@pytest.mark.parametrize("limit", [0, -1])
def test_get_many_of_nothing_is_an_error(limit):
    """Otherwise it would always return an empty list."""
    with pytest.raises((ValueError, OverflowError)):
        procession.Queue().get_many(max_messages_to_get=limit)


def test_get_many_of_an_empty_queue_raises_empty():
    """As `get` does: at once without blocking, else after the timeout."""
    q = procession.Queue()
    with pytest.raises(queue.Empty):
        q.get_many_nowait()
    with pytest.raises(queue.Empty):
        q.get_many(block=False)
    with pytest.raises(queue.Empty):
        q.get_many(timeout=0.01)


def test_full_says_how_many_were_put():
    """The caller can continue there: nothing is lost, nothing is put twice."""
    q, items = procession.Queue(maxsize=3), list(range(5))
    with pytest.raises(queue.Full) as caught:
        q.put_many(items, timeout=0.01)
    assert caught.value.put == 3
    assert q.get_many() == [0, 1, 2]
    q.put_many_nowait(items[caught.value.put :])
    assert q.get_many() == [3, 4]


def test_what_was_put_before_an_error_is_in_the_queue():
    """An object that cannot be pickled, or an iterator that fails, ends the call where it stands."""
    q = procession.Queue()
    with pytest.raises(Exception, match="local object"):
        q.put_many([1, 2, lambda: None, 3])
    assert q.get_many() == [1, 2]


def test_an_object_that_cannot_be_loaded_loses_none_before_it():
    """The error has them in `got`; what comes behind stays in the queue."""
    q = procession.Queue()
    q.put_many([1, 2, Unloadable(), 3])
    with pytest.raises(ValueError, match="not a number") as caught:
        q.get_many()
    assert caught.value.got == [1, 2]
    assert q.get_many() == [3]


def test_many_messages_outlive_a_producer_that_is_killed(start_method):
    """When `put_many` returns all of them are in shared memory."""
    context = procession.get_context(start_method)
    q = context.Queue()
    process = context.Process(target=put_many_and_die, args=(q, list(range(500))))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert q.get_many() == list(range(500))


def test_tasks_of_a_joinable_queue_are_counted_one_by_one():
    """`task_done` is called once for each object of a batch."""
    q = procession.JoinableQueue()
    q.put_many(range(3))
    for _ in q.get_many():
        q.task_done()
    q.join()
    with pytest.raises(ValueError, match="too many times"):
        q.task_done()


def test_a_closed_queue_takes_and_gives_no_more():
    """`ValueError`, as from `put` and `get`."""
    q = procession.Queue()
    q.close()
    with pytest.raises(ValueError, match="closed"):
        q.put_many([1])
    with pytest.raises(ValueError, match="closed"):
        q.get_many()
