"""A `Pipe` and other connections between processes."""

import array
import os
import pickle
import select
import signal
import socket
import threading

import pytest

import procession
from procession import connection, reduction
from procession.connection import Client, Connection, Listener, wait


def echo(conn):
    for message in iter(conn.recv, "stop"):
        conn.send(message)
    conn.close()


def hand_back(conn):
    end = conn.recv()
    end.send("via the child")
    end.close()


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
    """A wait of many seconds is not over when the first of its slices is."""
    a, b = procession.Pipe()
    q = procession.Queue()
    late = threading.Timer(1.2, lambda: (b.send(1), q.put(2)))
    late.start()
    assert a.poll(30) is True
    assert a.recv() == 1
    assert q.get(timeout=30) == 2
    late.join()


def test_stdlib_connections_travel_too(pickling_ctx):
    """A connection of the stdlib's may be given to a process of ours."""
    from multiprocessing import connection as stdlib_connection

    ours, theirs = stdlib_connection.Pipe()
    with ours, theirs:
        child = pickling_ctx.Process(target=theirs.send, args=("hello",))
        child.start()
        assert ours.recv() == "hello"
        child.join()


def test_messages_outlive_the_sender(ctx):
    """What a killed child sent is received, and then comes the end."""
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
    """Libraries have picklers of their own: what one makes of an end is good for one process, once."""
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
    """Ends of pipes, connections and sockets, by whatever way the message takes."""
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
    """Requests that carry the way to answer outlive who made them."""
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
    """Of the sender, and of the receiver."""
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
    """A thread serves them while they wait, and ends with the last, as often as there are some."""
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
    """As with the stdlib's pipes: joining the sender first is nothing special."""
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
    """A descriptor that nobody can fetch any more is closed, also when its sender has ended."""
    conn, child_conn = ctx.Pipe()
    sender = ctx.Process(target=send_and_say, args=(child_conn,))
    sender.start()
    with os.fdopen(reduction.recv_handle(conn), "rb") as reader:
        assert reader.read(4) == b"sent"
        sender.join()
        conn.close()
        child_conn.close()
        # The writing end is with the descriptor that was not fetched.
        assert reader.read() == b""


def send_and_say(conn):
    read_fd, write_fd = os.pipe()
    reduction.send_handle(conn, read_fd, os.getppid())
    reduction.send_handle(conn, write_fd, os.getppid())
    os.write(write_fd, b"sent")
    os.close(write_fd)


def test_wait_over_a_mixed_list(ctx):
    """Pipes, the stdlib's connections, sockets, descriptors and sentinels are waited for together."""
    from multiprocessing import connection as stdlib_connection

    ours, our_peer = ctx.Pipe()
    theirs, their_peer = stdlib_connection.Pipe()
    plain, plain_peer = socket.socketpair()
    read_fd, write_fd = os.pipe()
    child = ctx.Process(target=int)
    child.start()
    objects = [ours, theirs, plain, read_fd]
    assert wait(objects, 0) == []
    assert wait(objects, -1) == []
    assert wait([*objects, child.sentinel], 30) == [child.sentinel]
    our_peer.send(1)
    assert wait(objects) == [ours]
    their_peer.send(1)
    plain_peer.send(b"x")
    os.write(write_fd, b"x")
    assert wait(objects) == objects
    ours.recv()
    assert wait(objects) == objects[1:]
    child.join()
    plain.close(), plain_peer.close(), theirs.close(), their_peer.close()
    os.close(read_fd), os.close(write_fd)


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        (["text"], ValueError, "Invalid file object: 'text'"),
        ([None], ValueError, "Invalid file object: None"),
        ([-1], ValueError, "Invalid file descriptor: -1"),
        ([0, 0], KeyError, "already registered"),
    ],
    ids=["text", "none", "negative", "twice"],
)
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a pipe"])
def test_wait_refuses_what_the_stdlib_refuses(what, error, words, beside):
    """Things without a descriptor, and the same descriptor twice."""
    from multiprocessing import connection as stdlib_connection

    reader, _writer = procession.Pipe(duplex=False)
    for wait_for in (wait, stdlib_connection.wait):
        with pytest.raises(error, match=words):
            wait_for([reader, *what] if beside and wait_for is wait else what, 0)


def test_wait_says_that_a_closed_descriptor_is_ready():
    """As poll(2) does: who reads from it gets the error."""
    read_fd, write_fd = os.pipe()
    os.close(read_fd), os.close(write_fd)
    assert wait([read_fd], 30) == [read_fd]


def test_wait_wakes_when_a_message_comes(ctx):
    """A `wait` that sleeps sees a message of another process, and its end."""
    readers = []
    children = []
    for _ in range(3):
        reader, writer = ctx.Pipe(duplex=False)
        child = ctx.Process(target=send_and_die, args=(writer,))
        child.start()
        writer.close()
        readers.append(reader)
        children.append(child)
    received = []
    while readers:
        for reader in wait(readers, 30):
            try:
                received.append(reader.recv())
            except EOFError:
                readers.remove(reader)
    assert received == ["last words"] * 3
    for child in children:
        child.join()


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


def test_a_descriptor_of_ones_own_speaks_the_stdlibs_frames():
    """A `Connection` around a socket and the stdlib's understand each other."""
    from multiprocessing.connection import Connection as StdlibConnection

    a, b = socket.socketpair()
    with Connection(a.detach()) as ours, StdlibConnection(b.detach()) as theirs:
        for message in [b"", b"short", b"x" * 100_000]:
            sender = threading.Thread(target=ours.send_bytes, args=(message,))
            sender.start()
            assert theirs.recv_bytes() == message
            sender.join()
            sender = threading.Thread(target=theirs.send_bytes, args=(message,))
            sender.start()
            assert ours.recv_bytes() == message
            sender.join()
        ours.send({"a": [1]})
        assert theirs.recv() == {"a": [1]}
        theirs.send({"a": [1]})
        assert ours.poll(30) and ours.recv() == {"a": [1]}
        theirs.close()
        with pytest.raises(EOFError):
            ours.recv()


def test_a_frame_that_breaks_off_is_an_error():
    """The end of the stream inside a message is told from the end between messages."""
    a, b = socket.socketpair()
    with Connection(a.detach()) as conn:
        b.sendall(b"\x00\x00\x00\x08half")
        b.close()
        with pytest.raises(OSError, match="end of file during message"):
            conn.recv_bytes()


def test_a_frame_with_an_impossible_length_is_an_error():
    """A length below -1 is refused."""
    a, b = socket.socketpair()
    with Connection(a.detach()) as conn, b:
        b.sendall(b"\xff\xff\xff\xf0")
        with pytest.raises(OSError, match="bad message length"):
            conn.recv_bytes()
        assert not conn.readable


@pytest.mark.parametrize(
    ("args", "message"), [((-1,), "invalid handle"), ((0, False, False), "at least one")]
)
def test_a_connection_needs_a_descriptor_and_a_direction(args, message):
    """Impossible arguments are refused."""
    with pytest.raises(ValueError, match=message):
        Connection(*args)


def call(address, key):
    with Client(address, authkey=key) as conn:
        conn.send("hello")


@pytest.mark.parametrize("family", connection.families)
def test_listener_and_client(ctx, family):
    """A child connects to a listener and proves the key."""
    key = b"secret"
    with Listener(family=family, authkey=key) as listener:
        child = ctx.Process(target=call, args=(listener.address, key))
        child.start()
        with listener.accept() as conn:
            assert type(conn) is Connection
            assert conn.recv() == "hello"
        child.join()
        assert child.exitcode == 0


def test_a_wrong_key_is_refused():
    """Both sides raise AuthenticationError."""
    failed = []

    def connect(address):
        with pytest.raises(procession.AuthenticationError):
            Client(address, authkey=b"wrong")
        failed.append(True)

    with Listener(authkey=b"right") as listener:
        thread = threading.Thread(target=connect, args=(listener.address,))
        thread.start()
        with pytest.raises(procession.AuthenticationError):
            listener.accept()
        thread.join()
    assert failed


def test_pipe_ends_are_connections():
    """`isinstance` holds for both kinds."""
    a, b = procession.Pipe()
    assert isinstance(a, Connection) and isinstance(b, connection._ConnectionBase)


def test_no_descriptor_is_left_behind():
    """Pipes that are gone have closed their descriptors."""
    procession.Pipe()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        a, b = procession.Pipe()
        a.send(1)
        a.fileno(), b.fileno()
        a.close()
    del a, b
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_descriptor_that_nobody_is_left_to_send(ctx):
    """A process that ended without sending it is a RuntimeError, and nobody waits for ever."""
    conn, child_conn = ctx.Pipe()
    child = ctx.Process(target=describe, args=(child_conn,))
    child.start()
    with pytest.raises(RuntimeError, match="is gone and sent none"):
        reduction.recv_handle(conn)
    child.join()


def describe(conn):
    repr(conn)
