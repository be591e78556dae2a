"""How the end of a pipe travels to another process: its handle, its descriptor, and a hold on it.

A child that is being started inherits the descriptor and is made a holder before it runs. In a message
the end waits with its sender, as a twin in the stdlib's resource sharer, until the receiver asks for it
and reports that it has it: the pipe lives on even when all other ends are closed meanwhile.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from procession import _engine

from .handing import hand_over
from .hints import Any
from .stdlib import context, load, reduction

resource_sharer = load("resource_sharer")

__all__ = ["send_off"]


def send_off(end: _engine.Channel) -> Any:
    """Return what is pickled in place of the end."""
    if context.get_spawning_popen() is not None:
        return _Inherited(end)
    return _InMessage(end)


class _Inherited:
    """An end for the child that is being started."""

    def __init__(self, end: _engine.Channel) -> None:
        self._handle = hand_over(end.handle, end)
        self._fd = reduction.DupFd(end.socket_fd())

    def arrive(self, end: _engine.Channel) -> None:
        end._adopt(self._handle, self._fd.detach())


class _InMessage:
    """An end that waits in the sender's process to be fetched, once."""

    def __init__(self, end: _engine.Channel) -> None:
        twin = _engine.Channel()
        twin._adopt(end.handle, os.dup(end.socket_fd()))

        def hand_out(receiver: Any, pid: int) -> None:
            with _blocking_socket(receiver) as carrier:
                reduction.sendfds(carrier, [twin.socket_fd()])
            try:
                receiver.recv_bytes()
            except EOFError:
                pass  # It died with the end in its hands; nothing is left to wait for.

        self._handle = end.handle
        self._ticket = resource_sharer._resource_sharer.register(hand_out, twin.close)

    def arrive(self, end: _engine.Channel) -> None:
        sender = resource_sharer._resource_sharer.get_connection(self._ticket)
        with sender:
            with _blocking_socket(sender) as carrier:
                (fd,) = reduction.recvfds(carrier, 1)
            end._adopt(self._handle, fd)
            sender.send_bytes(b"")


@contextmanager
def _blocking_socket(connection: Any) -> Iterator[socket.socket]:
    """The socket of a connection, which blocks whatever `socket.setdefaulttimeout` says, and stays open.

    A socket object made with a default timeout makes its descriptor non-blocking, also for the connection.
    """
    carrier = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=connection.fileno())
    try:
        carrier.setblocking(True)
        yield carrier
    finally:
        carrier.detach()
