"""Passing descriptors through the socket behind a connection, unaffected by `socket.setdefaulttimeout`.

The stdlib's `send_handle` and `recv_handle` make a socket object of the connection's descriptor. A default
timeout makes that descriptor non-blocking, for the connection too, and raises where the call should wait.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from .._typing import Any
from ..stdlib import reduction

__all__ = ["pass_descriptor", "take_descriptor"]


def pass_descriptor(connection: Any, fd: int) -> None:
    """Send a descriptor through a connection."""
    with _socket_of(connection) as carrier:
        reduction.sendfds(carrier, [fd])


def take_descriptor(connection: Any) -> int:
    """Receive a descriptor from a connection; the caller closes it."""
    with _socket_of(connection) as carrier:
        (fd,) = reduction.recvfds(carrier, 1)
    return int(fd)


@contextmanager
def _socket_of(connection: Any) -> Iterator[socket.socket]:
    carrier = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=connection.fileno())
    try:
        carrier.setblocking(True)
        yield carrier
    finally:
        # The descriptor still belongs to the connection.
        carrier.detach()
