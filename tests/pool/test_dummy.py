"""`procession.dummy`: the same interface on threads."""

from __future__ import annotations

import threading

from procession import dummy


def test_a_dummy_process_is_a_thread() -> None:
    """Process, Queue and current_process of the dummy module are about threads."""
    queue = dummy.Queue()
    process = dummy.Process(target=lambda: queue.put(dummy.current_process()))
    process.start()
    process.join()
    assert queue.get() is process and isinstance(process, threading.Thread)
    assert process.exitcode == 0


def test_a_dummy_pool_maps_in_threads() -> None:
    """Its pool is this package's ThreadPool."""
    with dummy.Pool(3) as pool:
        assert type(pool).__module__ == "procession.pool"
        assert pool.map(lambda number: number * number, range(5)) == [0, 1, 4, 9, 16]


def test_a_dummy_pipe_connects_threads() -> None:
    """Pipe has the two ends of a connection."""
    ours, theirs = dummy.Pipe()
    theirs.send("hello")
    assert ours.poll() and ours.recv() == "hello"


def test_the_dummy_manager_has_plain_objects() -> None:
    """Manager is the module itself, with dict, list, Namespace and Value."""
    manager = dummy.Manager()
    assert manager is dummy
    assert manager.dict(a=1) == {"a": 1} and manager.list("ab") == ["a", "b"]
    assert manager.Namespace(x=1).x == 1 and manager.Value("i", 7).value == 7
