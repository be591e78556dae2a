"""Large values: one copy in, none out; arrays are used where they arrived."""

import array
import gc
import os
import pickle
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import procession
from procession import _native
from procession.reduction import ForkingPickler

LARGE = 300_000


class Tagged(np.ndarray):
    """A subclass of an array, which pickles as one."""


ARRAYS = {
    "C order": np.arange(LARGE, dtype="f8").reshape(500, -1),
    "Fortran order": np.asfortranarray(np.arange(LARGE, dtype="i4").reshape(500, -1)),
    "every other": np.arange(LARGE * 2)[::2],
    "transposed": np.arange(LARGE).reshape(300, -1).T,
    "structured": np.zeros(LARGE, dtype=[("id", "u4"), ("weight", "f4")]),
    "strings": np.full(LARGE, "text"),
    "of no dimension": np.array(3.5),
    "empty": np.empty((0, 5)),
    "subclass": np.arange(LARGE).view(Tagged),
    "objects": np.array([{"a": 1}, None, 3] * 10, dtype=object),
    "small": np.arange(10),
}


def memory():
    """How many blocks are in use, after a garbage collection."""
    gc.collect()
    _native.reap_all()
    return _native.memory_stats()["blocks_in_use"]


@pytest.fixture
def q():
    """A queue that has been used, so that it has all the memory it needs."""
    _native.ensure_registered()
    made = procession.Queue()
    for _ in range(20):
        made.put(0)
        made.get()
    return made


def send(item, q):
    """The item as it arrives."""
    q.put(item)
    return q.get()


def send_and_die(q, item):
    q.put(item)
    os.kill(os.getpid(), signal.SIGKILL)


def double(values):
    return values * 2


def total(values):
    values += 1
    return float(values.sum())


def zeros(n):
    return np.zeros(n)


def look_and_write(values, results):
    seen = values.copy()
    values[:] = -1
    results.put(bool((seen == np.arange(LARGE)).all()))


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_arrives_as_it_was(kind, q):
    """Type, shape, order and content are kept, and the array that arrives is writable."""
    sent = ARRAYS[kind]
    got = send(sent, q)
    assert type(got) is type(sent)
    assert got.dtype == sent.dtype and got.shape == sent.shape
    assert got.flags.c_contiguous == sent.copy(order="K").flags.c_contiguous
    assert np.array_equal(got, sent)
    assert got.flags.writeable


def test_an_array_lies_in_shared_memory_aligned(q):
    """The array that arrives is a view of the message, aligned to 64 bytes."""
    got = send(np.ones(LARGE), q)
    owner = got.base
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert isinstance(owner.obj if isinstance(owner, memoryview) else owner, _native.BorrowedBuffer)
    assert got.ctypes.data % 64 == 0


def read_only(array):
    array.flags.writeable = False
    return array


READ_ONLY = {
    "large": read_only(np.ones(LARGE)),
    "small": read_only(np.ones(10)),
    "of bytes": np.frombuffer(bytes(LARGE), "i4"),
    "Fortran order": read_only(np.asfortranarray(np.arange(LARGE).reshape(500, -1))),
    "repeated": np.broadcast_to(1.5, LARGE),
    "empty": read_only(np.empty((0, 5))),
    "strings": read_only(np.full(LARGE, "text")),
    "in a container": {"a": [read_only(np.arange(LARGE)), read_only(np.arange(5))]},
}


def arrays_in(value):
    match value:
        case dict():
            return [array for part in value.values() for array in arrays_in(part)]
        case list():
            return [array for part in value for array in arrays_in(part)]
    return [value]


def give_back(value):
    return value, [array.flags.writeable for array in arrays_in(value)]


def put_back(q, value):
    q.put(give_back(value))


@pytest.mark.parametrize("sent", READ_ONLY.values(), ids=READ_ONLY)
def test_an_array_arrives_as_writable_as_with_the_standard_library(sent, q):
    """Through a queue, a pipe, a pool in both directions, and to a process."""
    copies = arrays_in(pickle.loads(ForkingPickler.dumps(sent)))
    expected = [array.flags.writeable for array in copies]
    here, there = procession.Pipe()
    context = procession.get_context("spawn")
    there.send(sent)
    ways = {"queue": send(sent, q), "pipe": here.recv()}
    with context.Pool(1) as pool:
        ways["result"], in_worker = pool.apply(give_back, (sent,))
        assert in_worker == expected
        assert pool.map(give_back, [sent, sent])[1][1] == expected
    results = context.Queue()
    process = context.Process(target=put_back, args=(results, sent))
    process.start()
    _, in_process = results.get(timeout=30)
    process.join()
    assert in_process == expected
    for way, got in ways.items():
        assert [array.flags.writeable for array in arrays_in(got)] == expected, way
        for arrived, original in zip(arrays_in(got), arrays_in(sent), strict=True):
            np.testing.assert_array_equal(arrived, original)
            if arrived.flags.writeable:
                arrived[...] = arrived[::-1].copy()


def test_arrays_in_containers_keep_what_they_share(q):
    """The same array twice is one array; another one of equal content is another."""
    one = np.ones(LARGE)
    got = send({"a": one, "b": [one, one.copy()], "c": "text"}, q)
    assert got["a"] is got["b"][0]
    got["a"][0] = 5
    assert got["b"][1][0] == 1


@pytest.mark.parametrize("make", [bytes, bytearray, lambda content: array.array("B", content)])
def test_bytes_of_any_type_arrive(make, q):
    """Content and type are kept, inside any containers."""
    sent = make(os.urandom(1 << 20))
    got = send(sent, q)
    assert type(got) is type(sent) and got == sent
    assert send([sent, "more"], q) == [sent, "more"]


def test_what_was_received_can_be_sent_on(q):
    """By value: writing to the copy changes nothing here."""
    first = send(np.zeros(LARGE), q)
    second = send(first, q)
    second[:] = 1
    assert (first == 0).all()


def test_a_pickle_buffer_arrives(q):
    """In any object with the buffer protocol."""
    sent = os.urandom(LARGE)
    assert bytes(send(pickle.PickleBuffer(sent), q)) == sent


def test_memory_is_given_back_when_the_last_view_dies(q):
    """The memory stays until then: a slice of an array keeps the whole message alive."""
    before = memory()
    got = send([np.arange(LARGE), np.arange(LARGE)], q)
    part = got[1][5:10]
    del got
    assert memory() > before
    assert part.tolist() == [5, 6, 7, 8, 9]
    del part
    assert memory() == before


def test_a_message_that_cannot_be_loaded_gives_its_memory_back(q):
    """Also if its arrays were created already."""
    before = memory()
    q.put([np.ones(LARGE), Unloadable()])
    with pytest.raises(ZeroDivisionError):
        q.get()
    assert memory() == before


class Unloadable:
    """Can be sent, and not received."""

    def __reduce__(self):
        return (divmod, (1, 0))


def test_the_same_memory_is_used_again(q):
    """A stream of arrays takes only the memory of the arrays in transit."""
    for _ in range(3):
        send(np.ones(LARGE), q)
    before = _native.memory_stats()["bytes_committed"]
    for _ in range(50):
        send(np.ones(LARGE), q)
    assert _native.memory_stats()["bytes_committed"] == before


def test_a_queue_of_large_messages_grows_by_what_is_in_it_only(q):
    """Many are put, then each is taken as another is put."""
    for _ in range(20):
        q.put(np.ones(LARGE))
    full = _native.memory_stats()["bytes_committed"]
    for _ in range(60):
        assert len(q.get()) == LARGE
        q.put(np.ones(LARGE))
    # One may be received while another is put.
    assert _native.memory_stats()["bytes_committed"] <= full + 2 * LARGE * 8 * 5 // 4


def test_an_array_outlives_its_sender(start_method):
    """The sender is killed when `put` has returned; the array is there, and its memory is given back."""
    context = procession.get_context(start_method)
    q = context.Queue()
    process = context.Process(target=send_and_die, args=(q, np.arange(LARGE)))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    got = q.get()
    assert (got == np.arange(LARGE)).all()
    got[:] = 1


def test_what_a_killed_receiver_had_is_given_back(q):
    """The arrays that it received are freed with it."""
    before = memory()
    here, there = procession.Pipe()
    pid = os.fork()
    if pid == 0:
        got = q.get()
        there.send(len(got))
        signal.pause()
    q.put(np.ones(LARGE))
    assert here.recv() == LARGE
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    here.close()
    there.close()
    assert memory() <= before


def test_after_a_fork_nobody_sees_what_the_other_writes(q):
    """An array that was received is private memory, as any other."""
    got = send(np.arange(LARGE), q)
    results = procession.Queue()
    process = procession.get_context("fork").Process(target=look_and_write, args=(got, results))
    process.start()
    got[:100] = 7
    process.join()
    assert results.get() is True or (got[:100] == 7).all()
    assert (got[100:] == np.arange(LARGE)[100:]).all()
    assert (got[:100] == 7).all()


def test_a_forked_child_keeps_what_its_parent_gives_back(q):
    """The memory is reused only after both processes are done with it."""
    before = memory()
    got = send(np.arange(LARGE), q)
    here, there = procession.Pipe()
    pid = os.fork()
    if pid == 0:
        there.recv()
        intact = bool((got == np.arange(LARGE)).all())
        got[:] = 3
        # A grandchild sees what its parent wrote.
        if os.fork() == 0:
            intact = intact and bool((got == 3).all())
            there.send(intact)
            os._exit(0)
        os.wait()
        os._exit(0)
    del got
    gc.collect()
    # If the memory were free, these messages would reuse it.
    others = [send(np.full(LARGE, -1), q) for _ in range(5)]
    here.send("go on")
    assert here.recv() is True
    os.waitpid(pid, 0)
    assert all((other == -1).all() for other in others)
    del others
    here.close()
    there.close()
    assert memory() <= before


def test_what_a_process_received_it_can_use_in_a_child_of_its_child(q):
    """Arrays received before and after a fork, in all generations."""
    first = send(np.arange(LARGE), q)
    if (pid := os.fork()) == 0:
        second = send(np.arange(LARGE) * 2, q)
        if (child := os.fork()) == 0:
            good = (first == np.arange(LARGE)).all() and (second == np.arange(LARGE) * 2).all()
            os._exit(0 if good else 1)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_threads_send_and_receive_large_arrays(q):
    """Many at a time, each its own."""
    with ThreadPoolExecutor(4) as threads:
        for n in threads.map(lambda n: (q.put(np.full(LARGE, n)), n)[1], range(40)):
            assert n < 40
        got = list(threads.map(lambda _: q.get(), range(40)))
    assert sorted(int(values[0]) for values in got) == list(range(40))
    assert all((values == values[0]).all() for values in got)


def test_a_pipe_carries_large_arrays_both_ways():
    """More than the pipe holds at a time."""
    here, there = procession.Pipe()
    here.send(np.arange(LARGE))
    got = there.recv()
    there.send(got)
    assert (here.recv() == np.arange(LARGE)).all()
    data = os.urandom(1 << 21)
    here.send_bytes(data)
    assert there.recv_bytes() == data
    here.send_bytes(data)
    target = bytearray(1 << 21)
    assert there.recv_bytes_into(target) == len(data)
    assert target == data


def test_a_map_over_large_arrays(ctx):
    """Arguments and results; a worker may write to its arguments, and the caller's stay as they were."""
    arrays = [np.full(LARGE, n, dtype="f8") for n in range(8)]
    with ctx.Pool(2) as pool:
        for n, result in enumerate(pool.imap(double, arrays)):
            assert (result == 2 * n).all()
            result[0] = 5
        assert pool.map(total, arrays) == [float((n + 1) * LARGE) for n in range(8)]
        assert [int(values[0]) for values in arrays] == list(range(8))
        assert pool.apply(total, (arrays[0],)) == LARGE
        assert len(pool.apply_async(zeros, (LARGE,)).get()) == LARGE


def test_a_pool_gives_the_memory_of_large_tasks_back():
    """Of arguments as of results, once nobody uses them: a thousand maps take no more than a few."""
    with procession.get_context("fork").Pool(1) as pool:
        for _ in range(3):
            pool.map(double, [np.ones(LARGE)] * 4)
        before = _native.memory_stats()["bytes_committed"]
        for _ in range(20):
            pool.map(double, [np.ones(LARGE)] * 4)
        assert _native.memory_stats()["bytes_committed"] < before + 4 * LARGE * 8


@pytest.mark.skipif("PROCESSION_HUGE" not in os.environ, reason="takes 9 GB: PROCESSION_HUGE=1")
def test_an_object_of_more_than_4_gib_arrives(q):
    """Arrays and bytes alike."""
    size = (4 << 30) + 4096
    got = send(np.zeros(size, dtype="u1"), q)
    assert len(got) == size and got[-1] == 0
    del got
    assert len(send(bytes(size), q)) == size
