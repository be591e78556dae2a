"""Descriptors sent through a pipe by the stdlib's `reduction.send_handle` and `recv_handle`.

Those two functions use the socket behind a connection. The socket of this package's pipe carries no messages,
so for a pipe they send the descriptor as a message: in order with the other messages, and the receiver
fetches it from the sender (`handle_server.py`).
"""

from __future__ import annotations

import functools

from procession import _native

from .._typing import Any
from ..stdlib import context, reduction

__all__ = ["duplicate", "patch_reduction"]


# How often a receiver checks whether any process is left that could send, in seconds.
CHECK_INTERVAL = 0.2


class _Passed:
    """A descriptor in a message."""

    def __init__(self, handle: int, end: _native.Channel) -> None:
        from .handle_server import offer

        self.ticket = offer(handle, end.socket_fd())


def duplicate(fd: int) -> Any:
    """Return what is pickled in place of a descriptor; its `detach` returns the receiver's own.

    Like the stdlib's `DupFd`, except that in a message of this package it arrives even if its sender has
    ended.
    """
    if context.get_spawning_popen() is None and _native.is_pickling_message():
        return _InMessage(fd)
    return reduction.DupFd(fd)


class _InMessage:
    """A descriptor in a message that any process may receive."""

    def __init__(self, fd: int) -> None:
        from .handle_server import offer

        self._ticket = offer(fd, None)

    def detach(self) -> int:
        from .handle_server import fetch

        return fetch(self._ticket)


def patch_reduction() -> None:
    """Make the stdlib's two functions accept ends of this package's pipes."""
    reduction.send_handle = _sender(reduction.send_handle)
    reduction.recv_handle = _receiver(reduction.recv_handle)


def _sender(for_sockets: Any) -> Any:
    @functools.wraps(for_sockets)
    def send_handle(conn: Any, handle: int, destination_pid: int | None) -> None:
        if isinstance(conn, _native.Channel):
            conn.send(_Passed(handle, conn))
        else:
            for_sockets(conn, handle, destination_pid)

    return send_handle


def _receiver(for_sockets: Any) -> Any:
    @functools.wraps(for_sockets)
    def recv_handle(conn: Any) -> int:
        if not isinstance(conn, _native.Channel):
            received: int = for_sockets(conn)
            return received
        # The sender may not know this pipe: it writes to the descriptor of its end, and exits.
        while not conn.poll(CHECK_INTERVAL):
            if conn.others_are_gone() and not conn.poll():
                raise RuntimeError("the process that should send a descriptor is gone and sent none")
        passed = conn.recv()
        if not isinstance(passed, _Passed):
            raise RuntimeError(f"a descriptor was expected, but {type(passed).__name__} was received")
        from .handle_server import fetch

        return fetch(passed.ticket)

    return recv_handle
