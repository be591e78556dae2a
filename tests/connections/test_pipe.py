"""A `Pipe` between processes."""

import array
import os
import select
import signal
import threading

import pytest

import procession
from procession import connection
from procession.connection import Connection


def echo(conn):
    for message in iter(conn.recv, "stop"):
        conn.send(message)
    conn.close()


def send_and_die(conn):
    conn.send("last words")
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_ever(conn):
    conn.send("ready")
    signal.pause()


def test_both_ends_of_a_duplex_pipe_send_and_receive(ctx):
    """A child echoes what it receives."""
    conn, child_conn = ctx.Pipe()
    child = ctx.Process(target=echo, args=(child_conn,))
    child.start()
    child_conn.close()
    for message in [None, 1, "two", [3.0, {"four": b"five"}], b"x" * 5_000_000]:
        conn.send(message)
        assert conn.recv() == message
    conn.send("stop")
    with pytest.raises(EOFError):
        conn.recv()
    child.join()
    assert child.exitcode == 0


def test_a_one_way_pipe_has_a_reader_and_a_writer():
    """Using an end the wrong way is an OSError."""
    reader, writer = procession.Pipe(duplex=False)
    writer.send(1)
    assert reader.recv() == 1
    assert (reader.readable, reader.writable) == (True, False)
    assert (writer.readable, writer.writable) == (False, True)
    with pytest.raises(OSError, match="^connection is read-only$"):
        reader.send(2)
    for use in (writer.recv, writer.recv_bytes, writer.poll):
        with pytest.raises(OSError, match="^connection is write-only$"):
            use()


def test_bytes_and_their_parts():
    """`send_bytes` takes any buffer, an offset and a size, and checks them."""
    a, b = procession.Pipe()
    text = b"abcdefghijklmnopqrstuvwxyz"
    for args, part in [
        ((), text),
        ((5,), text[5:]),
        ((7, 8), text[7:15]),
        ((26,), b""),
        ((26, 0), b""),
    ]:
        a.send_bytes(text, *args)
        assert b.recv_bytes() == part
    for args in [(27,), (22, 5), (26, 1), (-1,), (4, -1)]:
        with pytest.raises(ValueError):
            a.send_bytes(text, *args)
    numbers = array.array("i", range(4))
    for buffer in (bytearray(text), memoryview(text), numbers):
        a.send_bytes(buffer)
        assert b.recv_bytes() == bytes(memoryview(buffer).cast("B"))


def test_receiving_into_a_buffer():
    """`recv_bytes_into` fills a buffer of any type and says how much it was."""
    a, b = procession.Pipe()
    sent = array.array("i", range(4))
    into = array.array("i", [0] * 10)
    a.send_bytes(sent)
    assert b.recv_bytes_into(into) == 16
    assert list(into) == [0, 1, 2, 3] + [0] * 6
    a.send_bytes(sent)
    assert b.recv_bytes_into(into, 3 * into.itemsize) == 16
    assert list(into) == [0, 1, 2, 0, 1, 2, 3, 0, 0, 0]
    a.send_bytes(b"much too long")
    with pytest.raises(procession.BufferTooShort) as caught:
        b.recv_bytes_into(bytearray(4))
    assert caught.value.args == (b"much too long",)


def test_a_message_that_is_too_long_ends_the_reading():
    """`maxlength` protects the receiver, and the connection is unreadable after."""
    a, b = procession.Pipe()
    a.send_bytes(b"12345")
    a.send_bytes(b"123456")
    assert b.recv_bytes(5) == b"12345"
    with pytest.raises(OSError, match="^bad message length$"):
        b.recv_bytes(5)
    assert (b.readable, b.writable) == (False, True)
    with pytest.raises(ValueError, match="negative maxlength"):
        a.recv_bytes(-1)


def test_poll_tells_whether_something_is_there():
    """`poll` sees messages, empty ones included, and the end of the stream."""
    a, b = procession.Pipe()
    assert a.poll() is False
    assert a.poll(-1) is False
    assert a.poll(0.01) is False
    b.send_bytes(b"")
    assert a.poll() is True
    assert a.poll(None) is True
    assert a.recv_bytes() == b""
    b.close()
    assert a.poll(None) is True
    with pytest.raises(EOFError):
        a.recv()


def test_waiting_goes_on_for_as_long_as_it_was_told():
    """A wait of many seconds does not end with the first of its slices."""
    a, b = procession.Pipe()
    q = procession.Queue()
    late = threading.Timer(1.2, lambda: (b.send(1), q.put(2)))
    late.start()
    assert a.poll(30) is True
    assert a.recv() == 1
    assert q.get(timeout=30) == 2
    late.join()


def test_messages_outlive_the_sender(ctx):
    """What a killed child sent is received, and then the stream ends."""
    reader, writer = ctx.Pipe(duplex=False)
    child = ctx.Process(target=send_and_die, args=(writer,))
    child.start()
    writer.close()
    assert reader.recv() == "last words"
    with pytest.raises(EOFError):
        reader.recv()
    child.join()


def test_the_end_comes_when_a_receiver_blocked_and_the_sender_is_killed(ctx):
    """A blocked `recv` sees the death of the last sender."""
    reader, writer = ctx.Pipe(duplex=False)
    child = ctx.Process(target=wait_for_ever, args=(writer,))
    child.start()
    writer.close()
    assert reader.recv() == "ready"
    killer = threading.Thread(target=child.kill)
    killer.start()
    with pytest.raises(EOFError):
        reader.recv()
    killer.join()
    child.join()


def test_sending_to_nobody_is_a_broken_pipe():
    """Without a receiver `send` raises BrokenPipeError."""
    reader, writer = procession.Pipe(duplex=False)
    reader.close()
    with pytest.raises(BrokenPipeError):
        writer.send(1)


def test_a_closed_connection_refuses_use():
    """Closing twice is fine, and a context manager closes."""
    a, b = procession.Pipe()
    with a, b:
        a.send(1729)
        assert b.recv() == 1729
        assert not a.closed
    assert a.closed and b.closed
    a.close()
    for use in (a.recv, a.poll, a.fileno, lambda: a.send(1), lambda: a.send_bytes(b"")):
        with pytest.raises(OSError, match="^handle is closed$"):
            use()


def test_the_descriptor_is_readable_exactly_while_something_is_there():
    """`fileno` is level-triggered."""
    a, b = procession.Pipe()
    poller = select.poll()
    poller.register(a, select.POLLIN)
    assert poller.poll(0) == []
    for round_ in range(3):
        b.send(round_)
        b.send(round_)
        assert poller.poll(0) and poller.poll(0)
        assert a.recv() == round_
        assert poller.poll(0)
        assert a.recv() == round_
        assert poller.poll(0) == []
    b.close()
    assert poller.poll(0)


def test_several_processes_send_through_one_end(ctx):
    """Messages of several senders do not mix."""
    reader, writer = ctx.Pipe(duplex=False)
    children = [ctx.Process(target=send_many, args=(writer, name)) for name in ("a", "b")]
    for child in children:
        child.start()
    writer.close()
    received = {"a": [], "b": []}
    for _ in range(400):
        name, index, padding = reader.recv()
        assert padding == name * index
        received[name].append(index)
    assert received == {"a": list(range(200)), "b": list(range(200))}
    for child in children:
        child.join()


def send_many(conn, name):
    for index in range(200):
        conn.send((name, index, name * index))


def test_pipe_ends_are_connections():
    """`isinstance` holds for both kinds."""
    a, b = procession.Pipe()
    assert isinstance(a, Connection) and isinstance(b, connection._ConnectionBase)


def test_no_descriptor_is_left_behind():
    """Pipes that are garbage have closed their descriptors."""
    procession.Pipe()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        a, b = procession.Pipe()
        a.send(1)
        a.fileno(), b.fileno()
        a.close()
    del a, b
    assert len(os.listdir("/proc/self/fd")) == before
