"""The descriptor of a pipe's end is readable exactly while a message is there, whichever process receives."""

import asyncio
import os
import select
import signal
import threading

import pytest

import procession


def is_readable(conn):
    poller = select.poll()
    poller.register(conn.fileno(), select.POLLIN)
    return bool(poller.poll(0))


def receive_on_demand(reader, orders, done):
    while (count := orders.recv()) is not None:
        for _ in range(count):
            reader.recv()
        done.send(is_readable(reader))


def look_and_receive_on_demand(reader, orders, done):
    reader.fileno()
    receive_on_demand(reader, orders, done)


@pytest.mark.parametrize("other", [receive_on_demand, look_and_receive_on_demand])
def test_a_descriptor_is_quiet_when_another_process_took_the_last_message(ctx, other):
    """Whichever process receives, and whether messages came before or after the first `fileno`."""
    reader, writer = ctx.Pipe(duplex=False)
    orders, done = ctx.Pipe()
    child = ctx.Process(target=other, args=(reader, done, done))
    child.start()
    writer.send("a")
    writer.send("b")
    assert is_readable(reader)
    for _ in range(3):
        assert reader.recv() is not None
        assert is_readable(reader)
        orders.send(1)
        assert orders.recv() is False
        assert not is_readable(reader)
        writer.send("c")
        writer.send("d")
        assert is_readable(reader)
    orders.send(2)
    assert orders.recv() is False
    assert not is_readable(reader)
    orders.send(None)
    child.join()
    writer.close()
    assert is_readable(reader)


def take_turns(reader, lock, results):
    taken = []
    while True:
        with lock:
            if not is_readable(reader):
                continue
            message = reader.recv()
        if message is None:
            break
        taken.append(message)
    results.send(taken)


def test_processes_that_look_under_a_lock_and_then_receive_never_wait_with_it(ctx):
    """The loop of worker processes that share one pipe: none is told of a message that is not there."""
    reader, writer = ctx.Pipe(duplex=False)
    lock = ctx.Lock()
    results, theirs = ctx.Pipe(duplex=False)
    workers = [ctx.Process(target=take_turns, args=(reader, lock, theirs)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for number in range(300):
        writer.send(number)
    for _ in workers:
        writer.send(None)
    taken = sorted(number for _ in workers for number in results.recv())
    assert taken == list(range(300))
    for worker in workers:
        worker.join()


def test_a_forked_child_and_its_parent_see_the_same():
    """The descriptor that a child inherited follows what its parent does, and the other way round."""
    ctx = procession.get_context("fork")
    reader, writer = ctx.Pipe(duplex=False)
    number = reader.fileno()
    orders, theirs = ctx.Pipe()
    child = ctx.Process(target=receive_on_demand, args=(reader, theirs, theirs))
    child.start()
    writer.send(1)
    orders.send(1)
    assert orders.recv() is False
    assert reader.fileno() == number
    assert not is_readable(reader)
    orders.send(None)
    child.join()


def test_an_end_that_came_in_a_message_tells_the_same(ctx):
    """As in a process that got the end at its start."""
    reader, writer = ctx.Pipe(duplex=False)
    orders, theirs = ctx.Pipe()
    child = ctx.Process(target=receive_what_was_sent, args=(theirs,))
    child.start()
    writer.send(1)
    writer.send(2)
    assert is_readable(reader)
    orders.send(reader)
    assert orders.recv() is False
    assert not is_readable(reader)
    child.join()


def receive_what_was_sent(orders):
    reader = orders.recv()
    assert is_readable(reader)
    reader.recv(), reader.recv()
    orders.send(is_readable(reader))


def test_threads_that_receive_show_in_the_descriptor():
    """The ends may belong to one process or to several."""
    reader, writer = procession.Pipe(duplex=False)
    reader.fileno()
    for number in range(50):
        writer.send(number)
    threads = [threading.Thread(target=lambda: [reader.recv() for _ in range(10)]) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not is_readable(reader)
    writer.send(1)
    assert is_readable(reader)


def test_the_descriptor_of_an_end_that_sends_is_writable():
    """As `select` and event loops expect of a pipe with free space."""
    one, two = procession.Pipe()
    reader, writer = procession.Pipe(duplex=False)
    _, writable, _ = select.select([], [one, two, writer], [], 0)
    assert writable == [one, two, writer]


@pytest.mark.parametrize("make", [select.epoll, select.poll])
def test_pollers_are_told_each_time(make):
    """Level-triggered pollers that live for many messages."""
    reader, writer = procession.Pipe(duplex=False)
    poller = make()
    poller.register(reader, select.POLLIN)
    for number in range(5):
        assert not poller.poll(0)
        writer.send(number)
        assert poller.poll(0) and poller.poll(0)
        assert reader.recv() == number
    writer.close()
    assert poller.poll(0)


def test_an_event_loop_reads_what_several_processes_send(ctx):
    """`asyncio` is called once for each message or more often, never for none."""

    async def collect(reader, count):
        loop, found, all_there = asyncio.get_running_loop(), [], asyncio.Event()

        def take():
            assert reader.poll()
            found.append(reader.recv())
            if len(found) == count:
                all_there.set()

        loop.add_reader(reader.fileno(), take)
        await all_there.wait()
        loop.remove_reader(reader.fileno())
        return found

    reader, writer = ctx.Pipe(duplex=False)
    children = [ctx.Process(target=send_some, args=(writer,)) for _ in range(2)]
    for child in children:
        child.start()
    assert sorted(asyncio.run(collect(reader, 100))) == sorted([*range(50)] * 2)
    for child in children:
        child.join()


def send_some(writer):
    for number in range(50):
        writer.send(number)


def test_a_reader_that_was_killed_does_not_leave_the_descriptor_readable(ctx):
    """The next check by any process brings the descriptor in line with the messages."""
    reader, writer = ctx.Pipe(duplex=False)
    orders, theirs = ctx.Pipe()
    child = ctx.Process(target=receive_on_demand, args=(reader, theirs, theirs))
    child.start()
    reader.fileno()
    writer.send(1)
    orders.send(1)
    orders.recv()
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert not reader.poll()
    assert not is_readable(reader)
    writer.send(2)
    assert is_readable(reader)
    assert reader.recv() == 2


def send_numbers(sends, count):
    for number in range(count):
        sends(number)
        for _ in range(number % 97):
            pass


@pytest.mark.parametrize("kind", ["pipe", "queue"])
def test_who_waits_for_edges_takes_all_before_the_next(ctx, kind):
    """For event loops with edge-triggered epoll: after an edge the message stays until it is received."""
    if kind == "pipe":
        end, writer = ctx.Pipe(duplex=False)
        sends, has, take = writer.send, end.poll, end.recv
    else:
        queue = ctx.Queue()
        end, sends, take = queue._reader, queue.put, queue.get

        def has():
            return not queue.empty()

    count = 3000
    with select.epoll() as edges:
        edges.register(end.fileno(), select.EPOLLIN | select.EPOLLET)
        child = ctx.Process(target=send_numbers, args=(sends, count))
        child.start()
        taken = []
        while len(taken) < count:
            assert edges.poll(30), f"no edge after {len(taken)} messages"
            while has():
                taken.append(take())
        child.join()
    assert taken == list(range(count))
