"""Descriptors that wait in the process that sent them until the receivers fetch them.

The stdlib's resource sharer serves them too, on a thread that stays once it has begun. A program that sends
descriptors with the stdlib's `send_handle` has no such thread, so this one ends with the last descriptor.
"""

from __future__ import annotations

import os
import signal
import threading

from .hints import Any
from .stdlib import context, load, process, reduction, util

__all__ = ["fetch", "offer"]

# Receivers that knock at once; the others wait for the kernel.
_BACKLOG = 128


class _HandleServer:
    """The descriptors that wait in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, int] = {}
        self._last_number = 0
        self._listener: Any = None
        util.register_after_fork(self, _HandleServer._after_fork)

    def offer(self, handle: int) -> tuple[Any, int]:
        """Keep a copy of a descriptor; return where and as which number it is fetched."""
        with self._lock:
            if self._listener is None:
                key = process.current_process().authkey
                self._listener = load("connection").Listener(authkey=key, backlog=_BACKLOG)
                threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()
            self._last_number += 1
            self._waiting[self._last_number] = os.dup(handle)
            return self._listener.address, self._last_number

    def _serve(self, listener: Any) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while self._is_needed():
            try:
                with listener.accept() as receiver:
                    self._hand_out(receiver)
            except (OSError, EOFError, RuntimeError, LookupError, context.AuthenticationError):
                pass  # A receiver that ended meanwhile, or comes twice, or a stranger.

    def _is_needed(self) -> bool:
        with self._lock:
            if not self._waiting:
                self._listener.close()
                self._listener = None
            return bool(self._waiting)

    def _hand_out(self, receiver: Any) -> None:
        number, pid = receiver.recv()
        with self._lock:
            handle = self._waiting.pop(number)
        try:
            reduction.send_handle(receiver, handle, pid)
        finally:
            os.close(handle)

    def _after_fork(self) -> None:
        """What waits, waits in the parent."""
        self._lock = threading.Lock()
        for handle in self._waiting.values():
            os.close(handle)
        self._waiting = {}
        if self._listener is not None:
            self._listener.close()
            self._listener = None


_server: _HandleServer | None = None
_making = threading.Lock()


def offer(handle: int) -> tuple[Any, int]:
    """Keep a copy of a descriptor for somebody else to fetch; return its ticket."""
    global _server
    with _making:
        if _server is None:
            _server = _HandleServer()
    return _server.offer(handle)


def fetch(ticket: tuple[Any, int]) -> int:
    """The descriptor of a ticket, which is good for one fetching."""
    address, number = ticket
    with load("connection").Client(address, authkey=process.current_process().authkey) as sender:
        sender.send((number, os.getpid()))
        return int(reduction.recv_handle(sender))
