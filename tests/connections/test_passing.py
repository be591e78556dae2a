"""Connections and descriptors that are passed to other processes, in messages and with `send_handle`."""

import os
import pickle
import socket
import threading

import pytest

import procession
from procession import reduction
from procession.connection import Connection


def hand_back(conn):
    end = conn.recv()
    end.send("via the child")
    end.close()


def test_stdlib_connections_travel_too(pickling_ctx):
    """A connection of the stdlib's may be given to a process of ours."""
    from multiprocessing import connection as stdlib_connection

    ours, theirs = stdlib_connection.Pipe()
    with ours, theirs:
        child = pickling_ctx.Process(target=theirs.send, args=("hello",))
        child.start()
        assert ours.recv() == "hello"
        child.join()


def test_ends_travel_in_messages(ctx):
    """An end sent through a pipe works in the receiver after the sender closed its own."""
    conn, child_conn = ctx.Pipe()
    child = ctx.Process(target=hand_back, args=(child_conn,))
    child.start()
    child_conn.close()
    reader, writer = ctx.Pipe(duplex=False)
    conn.send(writer)
    writer.close()
    assert reader.recv() == "via the child"
    with pytest.raises(EOFError):
        reader.recv()
    child.join()


def test_an_end_survives_in_a_message_when_all_others_are_closed():
    """The message keeps the pipe and what is in it alive."""
    mail, box = procession.Pipe()
    reader, writer = procession.Pipe(duplex=False)
    writer.send("kept")
    mail.send(reader)
    reader.close()
    writer.close()
    found = box.recv()
    assert found.recv() == "kept"
    with pytest.raises(EOFError):
        found.recv()


def test_ends_are_pickled_by_any_pickler(ctx):
    """Libraries have their own picklers: a pickled end can be unpickled by one process, once."""
    mail, box = ctx.Pipe()
    reader, writer = ctx.Pipe(duplex=False)
    child = ctx.Process(target=unpickle_and_send, args=(box,))
    child.start()
    mail.send_bytes(pickle.dumps(writer))
    assert reader.recv() == "by another pickler"
    child.join()


def unpickle_and_send(box):
    pickle.loads(box.recv_bytes()).send("by another pickler")


def make_end(ctx_name, send):
    reader, writer = procession.get_context(ctx_name).Pipe(duplex=False)
    writer.send("kept")
    send([reader, reader])


def make_connection(_, send):
    one, two = socket.socketpair()
    Connection(two.detach()).send("kept")
    send([Connection(one.detach())])


def make_socket(_, send):
    one, two = socket.socketpair()
    Connection(two.detach()).send("kept")
    send([one])


def send_given(mail, end):
    mail.send(end)


@pytest.mark.parametrize("kind", ["pipe", "queue", "simple queue"])
@pytest.mark.parametrize("make", [make_end, make_connection, make_socket])
def test_what_carries_a_descriptor_arrives_although_its_sender_has_ended(ctx, start_method, kind, make):
    """Ends of pipes, connections and sockets, through pipes and queues."""
    if kind == "pipe":
        box, mail = ctx.Pipe()
        take = box.recv
    else:
        mail = ctx.Queue() if kind == "queue" else ctx.SimpleQueue()
        take = mail.get
    child = ctx.Process(target=make, args=(start_method, getattr(mail, "send", None) or mail.put))
    child.start()
    child.join()
    assert child.exitcode == 0
    found = take()[0]
    if isinstance(found, socket.socket):
        found = Connection(found.detach())
    assert found.recv() == "kept"
    with pytest.raises(EOFError):
        found.recv()


def test_an_end_that_was_given_to_its_sender_works_when_the_sender_has_ended(ctx):
    """A request that carries its reply pipe outlives its sender."""
    box, mail = ctx.Pipe()
    ours, theirs = ctx.Pipe()
    child = ctx.Process(target=send_given, args=(mail, theirs))
    child.start()
    theirs.close()
    child.join()
    end = box.recv()
    end.send("hello")
    assert ours.recv() == "hello"


def send_with_a_default_timeout(mail, end):
    socket.setdefaulttimeout(1e-6)
    mail.send(end)
    mail.recv()


def test_ends_travel_whatever_the_default_timeout_of_sockets(ctx):
    """The default timeout of the sender, and that of the receiver."""
    box, mail = ctx.Pipe()
    ours, theirs = ctx.Pipe()
    child = ctx.Process(target=send_with_a_default_timeout, args=(mail, theirs))
    child.start()
    theirs.close()
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(1e-6)
    try:
        end = box.recv()
    finally:
        socket.setdefaulttimeout(before)
    end.send("hello")
    assert ours.recv() == "hello"
    box.send("done")
    child.join()
    assert child.exitcode == 0


def test_descriptors_travel_with_send_handle(ctx):
    """The stdlib's `send_handle` and `recv_handle` pass a descriptor through a pipe, in order."""
    conn, child_conn = ctx.Pipe()
    child = ctx.Process(target=write_to_descriptor, args=(child_conn,))
    child.start()
    read_fd, write_fd = os.pipe()
    conn.send(b"greeting")
    reduction.send_handle(conn, write_fd, child.pid)
    os.close(write_fd)
    assert os.read(read_fd, 100) == b"greeting"
    os.close(read_fd)
    conn.send("no descriptor")
    child.join()
    assert child.exitcode == 0


def write_to_descriptor(conn):
    greeting = conn.recv()
    fd = reduction.recv_handle(conn)
    os.write(fd, greeting)
    os.close(fd)
    with pytest.raises(RuntimeError, match="descriptor was expected"):
        reduction.recv_handle(conn)


def test_descriptors_that_were_fetched_leave_no_thread_behind(ctx):
    """A thread serves descriptors while some wait, ends with the last, and starts again when needed."""
    for _ in range(3):
        before = set(threading.enumerate())
        conn, child_conn = ctx.Pipe()
        child = ctx.Process(target=write_twice, args=(child_conn,))
        child.start()
        read_fd, write_fd = os.pipe()
        for _ in range(2):
            reduction.send_handle(conn, write_fd, child.pid)
        os.close(write_fd)
        with os.fdopen(read_fd, "rb") as reader:
            assert reader.read() == b"oneone"
        child.join()
        for thread in set(threading.enumerate()) - before:
            thread.join(60)
            assert not thread.is_alive()


def write_twice(conn):
    for _ in range(2):
        fd = reduction.recv_handle(conn)
        os.write(fd, b"one")
        os.close(fd)


def test_a_descriptor_arrives_although_its_sender_has_ended(ctx):
    """As with the stdlib's pipes, the receiver may join the sender first."""
    conn, child_conn = ctx.Pipe()
    child = ctx.Process(target=send_file_and_end, args=(child_conn,))
    child.start()
    child.join()
    for expected in (b"first", b"second"):
        with os.fdopen(reduction.recv_handle(conn), "rb") as file:
            assert file.read() == expected
    child_conn.close()
    with pytest.raises(EOFError):
        conn.recv()


def send_file_and_end(conn):
    for content in (b"first", b"second"):
        read_fd, write_fd = os.pipe()
        os.write(write_fd, content)
        os.close(write_fd)
        reduction.send_handle(conn, read_fd, os.getppid())
        os.close(read_fd)


def test_what_waits_for_a_receiver_ends_with_it(ctx):
    """A descriptor that no process can fetch any more is closed, also when its sender has ended."""
    conn, child_conn = ctx.Pipe()
    sender = ctx.Process(target=send_and_say, args=(child_conn,))
    sender.start()
    with os.fdopen(reduction.recv_handle(conn), "rb") as reader:
        assert reader.read(4) == b"sent"
        sender.join()
        conn.close()
        child_conn.close()
        # The descriptor that was not fetched is the only writing end left.
        assert reader.read() == b""


def send_and_say(conn):
    read_fd, write_fd = os.pipe()
    reduction.send_handle(conn, read_fd, os.getppid())
    reduction.send_handle(conn, write_fd, os.getppid())
    os.write(write_fd, b"sent")
    os.close(write_fd)


def test_a_descriptor_that_nobody_is_left_to_send(ctx):
    """If the sender ended without sending it, the receiver gets a RuntimeError and does not wait for ever."""
    conn, child_conn = ctx.Pipe()
    child = ctx.Process(target=describe, args=(child_conn,))
    child.start()
    with pytest.raises(RuntimeError, match="is gone and sent none"):
        reduction.recv_handle(conn)
    child.join()


def describe(conn):
    repr(conn)
