"""Listeners, clients, and connections over descriptors that a program opened itself."""

import socket
import threading

import pytest

import procession
from procession import connection
from procession.connection import Client, Connection, Listener


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
