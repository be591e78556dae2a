"""Descriptors sent through a pipe with the stdlib's `reduction.send_handle` and `recv_handle`.

Those two use the socket behind a connection. A pipe's socket carries none of its messages, so for a pipe's
end they send the descriptor as a message: in order with the others, and fetched from the sender.
"""

from __future__ import annotations

import functools

from procession import _engine

from .._typing import Any
from ..stdlib import context, reduction

__all__ = ["duplicate", "patch_reduction"]


# How often a receiver looks whether anybody is left who could send, in seconds.
CHECK_INTERVAL = 0.2


class _Passed:
    """A descriptor in a message."""

    def __init__(self, handle: int, end: _engine.Channel) -> None:
        from .handle_server import offer

        self.ticket = offer(handle, end.socket_fd())


def duplicate(fd: int) -> Any:
    """What is pickled in place of a descriptor; its `detach` gives the receiver's own.

    As the stdlib's `DupFd`, but what goes in a message of this package arrives though its sender has ended.
    """
    if context.get_spawning_popen() is None and _engine.is_enclosing():
        return _InMessage(fd)
    return reduction.DupFd(fd)


class _InMessage:
    """A descriptor that any process may be the receiver of."""

    def __init__(self, fd: int) -> None:
        from .handle_server import offer

        self._ticket = offer(fd, None)

    def detach(self) -> int:
        from .handle_server import fetch

        return fetch(self._ticket)


def patch_reduction() -> None:
    """Make the stdlib's two functions take ends of pipes."""
    reduction.send_handle = _sender(reduction.send_handle)
    reduction.recv_handle = _receiver(reduction.recv_handle)


def _sender(for_sockets: Any) -> Any:
    @functools.wraps(for_sockets)
    def send_handle(conn: Any, handle: int, destination_pid: int | None) -> None:
        if isinstance(conn, _engine.Channel):
            conn.send(_Passed(handle, conn))
        else:
            for_sockets(conn, handle, destination_pid)

    return send_handle


def _receiver(for_sockets: Any) -> Any:
    @functools.wraps(for_sockets)
    def recv_handle(conn: Any) -> int:
        if not isinstance(conn, _engine.Channel):
            return for_sockets(conn)
        # Who was to send it may write to the socket that it takes the descriptor of the end for, and end.
        while not conn.poll(CHECK_INTERVAL):
            if conn.others_are_gone() and not conn.poll():
                raise RuntimeError("the process that was to send a descriptor is gone and sent none")
        passed = conn.recv()
        if not isinstance(passed, _Passed):
            raise RuntimeError(f"a descriptor was expected, and {type(passed).__name__} was received")
        from .handle_server import fetch

        return fetch(passed.ticket)

    return recv_handle
