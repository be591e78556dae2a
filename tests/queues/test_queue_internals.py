"""Internals of a queue that programs and libraries use, and queues built like the standard library's."""

import gc
import os
import pickle
import queue
import threading
import weakref
from multiprocessing import queues as std_queues

import pytest

import procession
from procession import queues, util


def test_what_programs_read_of_a_queue_is_there():
    """Each attribute of the stdlib's, with its meaning: nothing is ever buffered, and no thread feeds."""
    q = procession.Queue(5)
    q.put(1)
    assert len(q._buffer) == 0 and q._thread is None and q._jointhread is None and q._close is None
    assert q._opid == os.getpid() and q._maxsize == 5 and q._closed is False and q._joincancelled is False
    assert q._sem.get_value() == q._sem._semlock._get_value() == 4 and not q._sem._semlock._is_zero()
    assert q._maxsize - q._sem._semlock._get_value() == q.qsize()
    with q._rlock, q._wlock, q._notempty:
        assert q._reader.poll(1)
    assert q._poll() and q.get() == 1
    q.cancel_join_thread()
    assert q._joincancelled


def test_a_queue_without_a_limit_has_the_stdlibs_size():
    """Its `_maxsize` is the largest a semaphore can count to."""
    q = procession.Queue()
    assert q._maxsize == std_queues.Queue(ctx=procession.get_context("fork"))._maxsize
    assert q._sem.get_value() == q._maxsize


def test_the_semaphore_of_free_places_waits_for_room():
    """As `put` does, which then takes the free slot."""
    q = procession.Queue(1)
    assert q._sem.acquire(False)
    q.put(1)
    assert not q._sem.acquire(False) and not q._sem.acquire(timeout=0.01) and q._sem._semlock._is_zero()
    reader = threading.Thread(target=q.get)
    reader.start()
    assert q._sem.acquire()
    reader.join()
    q._sem.release()
    assert q._sem.get_value() == 1


def test_bytes_go_through_the_insides():
    """A wrapper that pickles for itself sends and receives by `_send_bytes` and `_recv_bytes`."""
    q = procession.Queue()
    q._send_bytes(pickle.dumps("own"))
    assert pickle.loads(q._recv_bytes()) == "own"


def use_locks(q, held, go_on):
    with q._wlock:
        held.set()
        go_on.wait()


def test_the_locks_of_a_queue_are_the_same_in_a_child(ctx):
    """A program that guards two messages with `_wlock` guards them against other processes."""
    for make in (ctx.Queue, ctx.SimpleQueue):
        q, held, go_on = make(), ctx.Event(), ctx.Event()
        assert q._wlock.acquire(False)
        q._wlock.release()
        child = ctx.Process(target=use_locks, args=(q, held, go_on))
        child.start()
        held.wait()
        assert not q._wlock.acquire(False)
        go_on.set()
        child.join()
        assert q._wlock.acquire(False)


def test_the_process_that_made_a_queue_is_known_in_a_child(ctx):
    """`_opid` travels."""
    q = ctx.Queue()
    child = ctx.Process(target=put_maker, args=(q,))
    child.start()
    assert q.get() == os.getpid()
    child.join()


def put_maker(q):
    q.put(q._opid)


def test_what_is_left_to_do_is_read_as_from_the_stdlibs_semaphore():
    """`_unfinished_tasks` and `_cond` of a JoinableQueue, by which programs join with a timeout."""
    q = procession.JoinableQueue()
    q.put(1)
    assert q._unfinished_tasks._semlock._get_value() == 1
    with q._cond:
        assert not q._cond.wait(0.01)
    q.get()
    q.task_done()
    assert q._unfinished_tasks._semlock._is_zero()
    with q._cond:
        assert q._cond.wait(0)


def test_looking_at_the_insides_does_not_keep_a_queue():
    """An unreferenced queue is freed without the garbage collector."""
    q = procession.JoinableQueue(3)
    _ = q._sem, q._buffer, q._notempty, q._rlock, q._wlock, q._unfinished_tasks, q._cond
    gone = weakref.ref(q)
    gc.disable()
    try:
        del q
        assert gone() is None
    finally:
        gc.enable()


def test_an_object_that_cannot_be_pickled_is_not_kept():
    """The error that `put` raised is freed after its handler, without the garbage collector."""
    q = procession.Queue()
    refuses = Refuses()
    gone = weakref.ref(refuses)
    gc.disable()
    try:
        with pytest.raises(ValueError, match="never"):
            q.put(refuses)
        del refuses
        assert gone() is None
    finally:
        gc.enable()


class Refuses:
    def __reduce__(self):
        raise ValueError("never")


def test_the_sentinel_is_the_stdlibs():
    """What the stdlib's `_finalize_close` puts is what a subclass's own feeder ends with."""
    assert queues._sentinel is std_queues._sentinel
    assert queues._ForkingPickler is std_queues._ForkingPickler
    assert not hasattr(queues, "no_such_name")


class Fed(queues.Queue):
    """A queue with a feeder of its own, as loky's."""

    def _start_thread(self):
        self._buffer.clear()
        parts = (self._buffer, self._notempty)
        self._thread = threading.Thread(target=self._feed_it, args=parts, daemon=True)
        self._thread.start()
        self._jointhread = util.Finalize(
            self._thread, Fed._finalize_join, [weakref.ref(self._thread)], exitpriority=-5
        )
        self._close = util.Finalize(self, Fed._finalize_close, parts, exitpriority=10)

    def _feed_it(self, buffer, notempty):
        while True:
            with notempty:
                while not buffer:
                    notempty.wait()
            obj = buffer.popleft()
            if obj is queues._sentinel:
                return
            with self._wlock:
                self._send_bytes(pickle.dumps(obj))


def put_greeting(q):
    q.put("hello")


def test_a_process_with_a_feeder_of_its_own_ends(ctx):
    """Nothing arrives that was not put."""
    q = Fed(ctx=ctx)
    child = ctx.Process(target=put_greeting, args=(q,))
    child.start()
    assert q.get() == "hello"
    child.join()
    assert child.exitcode == 0
    with pytest.raises(queue.Empty):
        q.get(timeout=0.05)


def get_and_tell(q, said):
    said.send(q.get())


def test_a_reader_that_is_killed_while_it_waits_leaves_the_queue_to_the_others(ctx):
    """It holds the lock of the reading end then, and has taken nothing."""
    q = Fed(ctx=ctx)
    heard, said = ctx.Pipe(duplex=False)
    first = ctx.Process(target=get_and_tell, args=(q, said))
    first.start()
    while not q._rlock.locked():
        assert first.is_alive()
    second = ctx.Process(target=get_and_tell, args=(q, said))
    second.start()
    first.kill()
    first.join()
    q.put("for the second")
    assert heard.poll(30)
    assert heard.recv() == "for the second"
    second.join()
    assert second.exitcode == 0


class Framed(queues.Queue):
    """A queue whose `get` uses internals as the stdlib's does."""

    def get(self, block=True, timeout=None):
        with self._rlock:
            message = self._recv_bytes()
        self._sem.release()
        return "framed", pickle.loads(message)


class Timed(queues.JoinableQueue):
    """The same of a joinable queue."""

    def get(self, block=True, timeout=None):
        with self._rlock:
            message = self._recv_bytes()
        self._sem.release()
        return pickle.loads(message)

    def join(self, timeout=None):
        with self._cond:
            return self._unfinished_tasks._semlock._is_zero() or self._cond.wait(timeout)


def test_a_subclass_that_works_on_the_insides_has_them(ctx):
    """It runs the classic way, and its messages are pickles."""
    q = Framed(ctx=ctx)
    child = ctx.Process(target=put_greeting, args=(q,))
    child.start()
    assert q.get() == ("framed", "hello")
    child.join()


def test_a_joinable_subclass_that_works_on_the_insides_counts():
    """Its unfinished tasks are counted by the stdlib's semaphore."""
    q = Timed(ctx=procession.get_context("fork"))
    q.put(1)
    assert q.get() == 1
    assert not q.join(0.01)
    q.task_done()
    assert q.join()
