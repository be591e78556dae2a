"""A `JoinableQueue` between processes."""

import pytest

import procession


def work(q, done):
    for _ in iter(q.get, None):
        with done.get_lock():
            done.value += 1
        q.task_done()
    q.task_done()


def test_join_waits_until_all_is_dealt_with(ctx):
    """`join` returns when every message was reported as done."""
    q, done = ctx.JoinableQueue(), ctx.Value("i", 0)
    children = [ctx.Process(target=work, args=(q, done)) for _ in range(2)]
    for child in children:
        child.start()
    for item in range(40):
        q.put(item)
    q.join()
    assert done.value == 40
    for _ in children:
        q.put(None)
    for child in children:
        child.join()
    q.join()


def test_join_of_an_unused_queue_returns():
    """There is nothing to wait for."""
    procession.JoinableQueue().join()


def test_reporting_too_often_is_a_value_error():
    """`task_done` counts."""
    q = procession.JoinableQueue()
    q.put(1)
    q.get()
    q.task_done()
    with pytest.raises(ValueError, match=r"task_done\(\) called too many times"):
        q.task_done()


def test_only_joinable_queues_join():
    """A plain queue offers neither method."""
    plain = procession.Queue()
    assert not hasattr(plain, "join") and not hasattr(plain, "task_done")
