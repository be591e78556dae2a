"""How the end of a pipe travels to another process: its handle, its descriptor, and a hold on the pipe.

A child that is being started inherits the descriptor and becomes a holder before it runs. A message of this
package is a holder, and the descriptor waits in the sender's process, or in its stand-in. What other picklers
make (loky's, cloudpickle) holds nothing: there, a duplicate of the end waits in the stdlib's resource sharer
until the receiver has it. In each case the pipe lives on even if all other ends are closed in between.
"""

from __future__ import annotations

import os

from procession import _native

from .._typing import Any
from ..stdlib import context, load, reduction
from .descriptors import pass_descriptor, take_descriptor
from .handing import hand_over
from .handle_passing import duplicate

__all__ = ["detached"]


def detached(end: _native.Channel) -> Any:
    """Return what is pickled in place of the end."""
    if context.get_spawning_popen() is not None:
        return _Inherited(end)
    # A message of this package holds the pipe. The bytes of another pickler do not.
    return _InMessage(end) if _native.attach_to_message(end.handle) else _InBytes(end)


class _Inherited:
    """An end for the child that is being started."""

    def __init__(self, end: _native.Channel) -> None:
        self._handle = hand_over(end.handle, end)
        self._fd = reduction.DupFd(end.socket_fd())

    def attach_to(self, end: _native.Channel) -> None:
        end._adopt(self._handle, self._fd.detach())


class _InMessage:
    """An end in a message, which holds the pipe."""

    def __init__(self, end: _native.Channel) -> None:
        self._handle = end.handle
        self._fd = duplicate(end.socket_fd())

    def attach_to(self, end: _native.Channel) -> None:
        end._adopt(self._handle, self._fd.detach())


class _InBytes:
    """An end in the bytes of another pickler: it waits in the sender's process and can be fetched once."""

    def __init__(self, end: _native.Channel) -> None:
        twin = _native.Channel()
        twin._adopt(end.handle, os.dup(end.socket_fd()))

        def hand_out(receiver: Any, pid: int) -> None:
            pass_descriptor(receiver, twin.socket_fd())
            try:
                receiver.recv_bytes()
            except EOFError:
                pass  # The receiver died with the end; nothing is left to wait for.

        self._handle = end.handle
        self._ticket = load("resource_sharer")._resource_sharer.register(hand_out, twin.close)

    def attach_to(self, end: _native.Channel) -> None:
        sender = load("resource_sharer")._resource_sharer.get_connection(self._ticket)
        with sender:
            end._adopt(self._handle, take_descriptor(sender))
            sender.send_bytes(b"")
