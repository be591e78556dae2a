"""A `JoinableQueue` between processes."""

import os

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


def take_and_die(q):
    q.get()
    os._exit(1)


def test_join_says_that_a_message_died_with_its_reader(ctx):
    """No consumer will report it done; another process may, and then `join` returns."""
    q = ctx.JoinableQueue()
    for number in range(2):
        q.put(number)
    process = ctx.Process(target=take_and_die, args=(q,))
    process.start()
    process.join()
    assert q.get() == 1
    q.task_done()
    with pytest.raises(procession.WorkerDied, match="1 message of this queue will never be reported done"):
        q.join()
    q.task_done()
    q.join()


def test_a_process_reports_its_own_messages_first(ctx):
    """A message that a dead consumer holds stays unfinished, whatever the order of the messages."""
    q = ctx.JoinableQueue()
    q.put("lost")
    process = ctx.Process(target=take_and_die, args=(q,))
    process.start()
    process.join()
    q.put("own")
    q.get()
    q.task_done()
    with pytest.raises(procession.WorkerDied):
        q.join()


def take_one_and_wait(q, taken, end):
    q.get()
    taken.set()
    end.wait()
    q.task_done()


def test_a_task_that_takes_long_holds_up_no_other(ctx):
    """The queue goes on, and `join` waits for the one that is late."""
    q, taken, end = ctx.JoinableQueue(), ctx.Event(), ctx.Event()
    child = ctx.Process(target=take_one_and_wait, args=(q, taken, end))
    child.start()
    q.put("late")
    taken.wait()
    for item in range(2000):
        q.put(item)
        assert q.get() == item
        q.task_done()
    assert q._unfinished() == 1
    end.set()
    q.join()
    child.join()
    with pytest.raises(ValueError, match=r"task_done\(\) called too many times"):
        q.task_done()
