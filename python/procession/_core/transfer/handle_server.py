"""Descriptors that wait in the process that sent them until the receivers fetch them.

The stdlib's resource sharer does so too. But with the stdlib's own pipes `send_handle` sends a message like
any other: it needs no thread that stays, and it arrives when the sender has ended meanwhile. So the thread
here ends with the last descriptor, and a process that ends before leaves a small one behind, which ends when
the last was fetched or nobody is left who could.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import threading

from .._typing import Any
from ..stdlib import context, load, process, util
from .descriptors import pass_descriptor, take_descriptor

__all__ = ["fetch", "offer", "stand_in"]

# Receivers that knock at once; the others wait for the kernel.
_BACKLOG = 128
# What a process asks of its own thread when it is about to end.
_STOP = 0

Ticket = tuple[Any, int]

# What waits: the descriptor, another one that tells when nobody can ask for it any more, and by what event.
_Entry = tuple[int, int | None, int]


class _PendingDescriptors:
    """Descriptors that wait, by their numbers."""

    def __init__(self, handles: dict[int, _Entry]) -> None:
        self.handles = handles
        self._lock = threading.Lock()

    def add(self, number: int, handle: int, pipe: int | None) -> None:
        entry = os.dup(handle), None if pipe is None else os.dup(pipe), select.POLLRDHUP
        with self._lock:
            self.handles[number] = entry

    def end_with(self, sentinel: int) -> None:
        """Have all that nobody's end was to tell of wait for as long as that process lives."""
        with self._lock:
            for number, (handle, watched, _) in list(self.handles.items()):
                if watched is None:
                    self.handles[number] = handle, os.dup(sentinel), select.POLLIN

    def serve_one(self, listener: socket.socket, key: bytes) -> int | None:
        """Wait for one who is_asked, and serve him; the number that was asked for.

        That nobody can ask for a descriptor any more is an event too.
        """
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        for _, watched, events in list(self.handles.values()):
            if watched is not None:
                poller.register(watched, events)
        is_asked = any(fd == listener.fileno() for fd, _ in poller.poll())
        number = self._send_one(listener, key) if is_asked else None
        self.drop_unreachable()
        return number

    def _send_one(self, listener: socket.socket, key: bytes) -> int | None:
        number = None
        try:
            accepted, _ = listener.accept()
            accepted.setblocking(True)
            connection = load("connection")
            with connection.Connection(accepted.detach()) as receiver:
                connection.deliver_challenge(receiver, key)
                connection.answer_challenge(receiver, key)
                number, _ = receiver.recv()
                if number in self.handles:
                    pass_descriptor(receiver, self.handles[number][0])
                    self.drop(number)
        except (OSError, EOFError, RuntimeError, context.AuthenticationError):
            pass  # A receiver that ended meanwhile, or a stranger.
        return number

    def drop(self, *numbers: int) -> None:
        for number in numbers:
            with self._lock:
                handle, watched, _ = self.handles.pop(number, (None, None, 0))
            util.close_fds(*(fd for fd in (handle, watched) if fd is not None))

    def drop_unreachable(self) -> None:
        """Those that nobody can ask for any more."""
        for number, (_, watched, events) in list(self.handles.items()):
            if watched is not None:
                poller = select.poll()
                poller.register(watched, events)
                if poller.poll(0):
                    self.drop(number)


class _HandleServer:
    """The descriptors that wait in this process, and the thread that hands them out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = _PendingDescriptors({})
        self._last_number = _STOP
        self._listener: socket.socket | None = None
        self._thread: Any = None
        self._at_exit: Any = None
        util.register_after_fork(self, _HandleServer._after_fork)

    def offer(self, handle: int, pipe: int | None) -> Ticket:
        """Keep a copy of a descriptor; return where and as which number it is fetched."""
        with self._lock:
            self._last_number += 1
            self._waiting.add(self._last_number, handle, pipe)
            listener = self._listener or self._start()
            return listener.getsockname(), self._last_number

    def _start(self) -> socket.socket:
        self._listener = socket.socket(socket.AF_UNIX)
        # Of no directory, which a stand-in could lose.
        self._listener.bind(f"\0procession-{os.urandom(16).hex()}")
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(True)
        self._thread = threading.Thread(target=self._serve, args=(self._listener,), daemon=True)
        self._thread.start()
        self._at_exit = util.Finalize(self, self._hand_to_stand_in, exitpriority=-1)
        return self._listener

    def _serve(self, listener: socket.socket) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while self._waiting.serve_one(listener, process.current_process().authkey) != _STOP:
            with self._lock:
                if not self._waiting.handles:
                    self._forget()
                    return

    def _forget(self) -> None:
        assert self._listener is not None
        self._listener.close()
        self._at_exit.cancel()
        self._listener = self._thread = self._at_exit = None

    def _hand_to_stand_in(self) -> None:
        """At the end of this process: leave to another what waits."""
        with self._lock:
            listener, thread = self._listener, self._thread
        if listener is None:
            return
        with contextlib.suppress(OSError, EOFError):
            fetch((listener.getsockname(), _STOP))
        thread.join()
        waiting = self._waiting
        parent = process.parent_process()
        if parent is not None:
            waiting.end_with(parent.sentinel)
        waiting.drop_unreachable()
        # The program's first process has joined its children: only others can ask.
        handles = {number: entry for number, entry in waiting.handles.items() if entry[1] is not None}
        if handles:
            _start_stand_in(listener.fileno(), handles)

    def _after_fork(self) -> None:
        """What waits, waits in the parent."""
        self._lock = threading.Lock()
        self._waiting.drop(*self._waiting.handles)
        if self._listener is not None:
            self._listener.close()
            self._listener = self._thread = self._at_exit = None


def _start_stand_in(listener: int, handles: dict[int, _Entry]) -> None:
    import subprocess

    from ..start.command_line import package_import

    key = os.memfd_create("procession-handles")
    with os.fdopen(key, "w+b") as config:
        pickle.dump((bytes(process.current_process().authkey), listener, handles), config)
        config.seek(0)
        call = f"from procession._core.transfer.handle_server import stand_in; stand_in({key})"
        command = [
            load("spawn").get_executable(),
            *util._args_from_interpreter_flags(),
            "-c",
            package_import(call),
        ]
        entries = list(handles.values())
        copies = [fd for handle, watched, _ in entries for fd in (handle, watched) if fd is not None]
        # In a session of its own, and with nothing of this program that somebody may wait for the end of.
        left = subprocess.Popen(
            command,
            pass_fds=[key, listener, *copies],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    # Nobody waits for it: it is to outlive this process.
    left.returncode = 0


def stand_in(config: int) -> None:
    """The whole life of a process that hands out what another, which has ended, was asked to send."""
    with os.fdopen(config, "rb") as file:
        key, number, handles = pickle.load(file)
    waiting = _PendingDescriptors(handles)
    with socket.socket(fileno=number) as listener:
        listener.setblocking(True)
        while waiting.handles:
            waiting.serve_one(listener, key)


_server: _HandleServer | None = None
_making = threading.Lock()


def offer(handle: int, pipe: int | None) -> Ticket:
    """Keep a copy of a descriptor for somebody to fetch, at the other end of a pipe; return its ticket.

    Without a pipe, for anybody in this tree of processes, for as long as this process lives, or its parent.
    """
    global _server
    with _making:
        if _server is None:
            _server = _HandleServer()
    return _server.offer(handle, pipe)


def fetch(ticket: Ticket) -> int:
    """The descriptor of a ticket, which is good for one fetching."""
    address, number = ticket
    connection = load("connection")
    with connection.Client(address, authkey=process.current_process().authkey) as sender:
        sender.send((number, os.getpid()))
        return take_descriptor(sender)
