"""A `SimpleQueue` between processes."""

import pickle

import pytest

import procession
from procession.connection import wait


def double(requests, replies):
    for item in iter(requests.get, None):
        replies.put(item * 2)


def test_processes_share_both_ends(ctx):
    """Several processes get from one queue and put into another."""
    requests, replies = ctx.SimpleQueue(), ctx.SimpleQueue()
    children = [ctx.Process(target=double, args=(requests, replies)) for _ in range(2)]
    for child in children:
        child.start()
    for item in range(100):
        requests.put(item)
    for _ in children:
        requests.put(None)
    assert sorted(replies.get() for _ in range(100)) == list(range(0, 200, 2))
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert replies.empty()


def test_empty_tells():
    """`empty` changes with what is in the queue."""
    q = procession.SimpleQueue()
    assert q.empty() is True
    q.put(None)
    assert q.empty() is False
    assert q.get() is None
    assert q.empty() is True


def test_the_reader_can_be_waited_for():
    """`connection.wait` takes the queue's reader."""
    q = procession.SimpleQueue()
    assert wait([q._reader], 0) == []
    q.put(1)
    assert wait([q._reader]) == [q._reader]


def test_a_closed_queue_refuses_use():
    """Closing twice is fine, using it after is an OSError."""
    q = procession.SimpleQueue()
    q.close()
    q.close()
    assert q._reader.closed and q._writer.closed
    with pytest.raises(OSError, match="is closed"):
        q.empty()


def test_pickling_outside_a_start_is_refused():
    """A queue is shared through inheritance only."""
    with pytest.raises(RuntimeError, match="through inheritance"):
        pickle.dumps(procession.SimpleQueue())


def test_a_program_may_fill_it_before_it_starts_its_workers(ctx):
    """As many small items fit as the 64 KiB of the standard library's pipe hold."""
    requests, replies = ctx.SimpleQueue(), ctx.SimpleQueue()
    for item in range(7000):
        requests.put(item % 100)
    requests.put(None)
    child = ctx.Process(target=double, args=(requests, replies))
    child.start()
    assert [replies.get() for _ in range(7000)] == [item % 100 * 2 for item in range(7000)]
    child.join()
