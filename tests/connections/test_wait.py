"""`connection.wait` over ends of pipes and other things with a descriptor."""

import os
import signal
import socket

import pytest

import procession
from procession.connection import wait


def send_and_die(conn):
    conn.send("last words")
    os.kill(os.getpid(), signal.SIGKILL)


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
    """As with poll(2): the read then raises the error."""
    read_fd, write_fd = os.pipe()
    os.close(read_fd), os.close(write_fd)
    assert wait([read_fd], 30) == [read_fd]


def test_wait_wakes_when_a_message_comes(ctx):
    """A sleeping `wait` wakes up for a message of another process, and for its end."""
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
