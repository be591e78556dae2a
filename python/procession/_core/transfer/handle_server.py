"""Descriptors that wait in the process that sent them until the receivers fetch them.

The stdlib's resource sharer does the same. But on the stdlib's own pipes, `send_handle` sends a message like
any other: it needs no lasting thread, and it arrives even if the sender has exited. So the thread here ends
with the last descriptor. A process that exits earlier leaves a small stand-in process behind, which ends when
the last descriptor was fetched, or when no process is left that could fetch one.
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

# How many receivers may connect at once; the kernel makes the others wait.
_BACKLOG = 128
# The number that a process asks its own thread for to stop it.
_STOP = 0

Ticket = tuple[Any, int]

# The descriptor; another one that shows when no process can ask for it any more, and by which poll event.
_Entry = tuple[int, int | None, int]


class _PendingDescriptors:
    """Descriptors that wait to be fetched, by number."""

    def __init__(self, handles: dict[int, _Entry]) -> None:
        self.handles = handles
        self._lock = threading.Lock()

    def add(self, number: int, handle: int, pipe: int | None) -> None:
        entry = os.dup(handle), None if pipe is None else os.dup(pipe), select.POLLRDHUP
        with self._lock:
            self.handles[number] = entry

    def end_with(self, sentinel: int) -> None:
        """Keep the descriptors without a pipe for as long as the process behind `sentinel` lives."""
        with self._lock:
            for number, (handle, watched, _) in list(self.handles.items()):
                if watched is None:
                    self.handles[number] = handle, os.dup(sentinel), select.POLLIN

    def serve_one(self, listener: socket.socket, key: bytes) -> int | None:
        """Wait for a receiver and serve it; return the number it asked for.

        Returns None if no receiver came, but a descriptor became unreachable.
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
            pass  # The receiver has exited, or does not know the key.
        return number

    def drop(self, *numbers: int) -> None:
        for number in numbers:
            with self._lock:
                handle, watched, _ = self.handles.pop(number, (None, None, 0))
            util.close_fds(*(fd for fd in (handle, watched) if fd is not None))

    def drop_unreachable(self) -> None:
        """Close the descriptors that no process can ask for any more."""
        for number, (_, watched, events) in list(self.handles.items()):
            if watched is not None:
                poller = select.poll()
                poller.register(watched, events)
                if poller.poll(0):
                    self.drop(number)


class _HandleServer:
    """The descriptors that wait in this process, and the thread that sends them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = _PendingDescriptors({})
        self._last_number = _STOP
        self._listener: socket.socket | None = None
        self._thread: Any = None
        self._at_exit: Any = None
        util.register_after_fork(self, _HandleServer._after_fork)

    def offer(self, handle: int, pipe: int | None) -> Ticket:
        """Keep a copy of a descriptor; return the address and the number to fetch it by."""
        with self._lock:
            self._last_number += 1
            self._waiting.add(self._last_number, handle, pipe)
            listener = self._listener or self._start()
            return listener.getsockname(), self._last_number

    def _start(self) -> socket.socket:
        self._listener = socket.socket(socket.AF_UNIX)
        # An abstract name: a folder could be removed before the stand-in ends.
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
        """At the end of this process: leave the waiting descriptors to a stand-in."""
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
        # The program's first process has joined its children: only other processes can ask.
        handles = {number: entry for number, entry in waiting.handles.items() if entry[1] is not None}
        if handles:
            _start_stand_in(listener.fileno(), handles)

    def _after_fork(self) -> None:
        """In a forked child: forget the descriptors, which wait in the parent."""
        self._lock = threading.Lock()
        self._waiting.drop(*self._waiting.handles)
        if self._listener is not None:
            self._listener.close()
            self._listener = self._thread = self._at_exit = None


def _start_stand_in(listener: int, handles: dict[int, _Entry]) -> None:
    import subprocess

    from ..start.interpreter import package_import

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
        # In a session of its own, without any pipe of this program that a reader may wait to see closed.
        left = subprocess.Popen(
            command,
            pass_fds=[key, listener, *copies],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    # This process does not wait for it: it lives on.
    left.returncode = 0


def stand_in(config: int) -> None:
    """The main function of a stand-in: send the descriptors that an exited process had to send."""
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
    """Keep a copy of a descriptor until it is fetched; return its ticket.

    With a pipe, it is kept while the other end of the pipe is open; without, as long as this process or its
    parent lives.
    """
    global _server
    with _making:
        if _server is None:
            _server = _HandleServer()
    return _server.offer(handle, pipe)


def fetch(ticket: Ticket) -> int:
    """Fetch the descriptor of a ticket, which works once."""
    address, number = ticket
    connection = load("connection")
    with connection.Client(address, authkey=process.current_process().authkey) as sender:
        sender.send((number, os.getpid()))
        return take_descriptor(sender)
