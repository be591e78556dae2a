"""A descriptor for a queue, for `select`, `asyncio` and others that wait on `queue._reader`.

Messages go through memory alone, and nobody rings for a bystander. So whoever asks for the descriptor gets a
thread that looks at the queue, up to a hundred times a second while nothing happens, and shows in an event
descriptor what it sees. What this process takes out shows there at once, lest `get` be called in vain.
"""

from __future__ import annotations

import os
import threading
import weakref

from procession import _engine

from .hints import Any
from .known_fd import KnownFd

__all__ = ["QueueWatch"]

# How long the thread goes without looking whether it is still wanted, in seconds.
LOOK = 0.5
# How often it looks whether the messages that were there are gone, which this process learns by itself.
STALE = 0.01


class QueueWatch:
    """A descriptor of this process's own, readable while the queue has messages."""

    def __init__(self, messages: _engine.Queue) -> None:
        self._owner = _engine.me()
        self._messages = messages
        self._readable = False
        self._settling = threading.Lock()
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._known = KnownFd(self.fd)
        weakref.finalize(self, self._known.close)
        self.settle()
        watcher = threading.Thread(
            target=_watch, args=(weakref.ref(self), messages), name="QueueWatcher", daemon=True
        )
        watcher.start()

    def is_here(self) -> bool:
        """Whether it belongs to this process, and not to one that this was forked from."""
        return self._owner == _engine.me()

    def settle(self) -> bool:
        """Make the descriptor say what is so."""
        with self._settling:
            readable = not self._messages.empty()
            if readable != self._readable and self._known.is_open():
                self._readable = readable
                if readable:
                    os.eventfd_write(self.fd, 1)
                else:
                    os.eventfd_read(self.fd)
            return readable

    def follow(self, queue: Any) -> None:
        """Settle after each `get` of a queue object of this process."""
        for name in ("get", "get_nowait"):
            setattr(queue, name, self._settling_after(getattr(queue, name)))

    def _settling_after(self, get: Any) -> Any:
        def get_and_settle(*args: Any, **kwds: Any) -> Any:
            try:
                return get(*args, **kwds)
            finally:
                # A forked child has the descriptor, and the lock as it was, but they are its parent's.
                if self.is_here():
                    self.settle()

        return get_and_settle


def _watch(watch: weakref.ref[QueueWatch], messages: _engine.Queue) -> None:
    pause = threading.Event()
    while (wanted := watch()) is not None:
        readable = wanted.settle()
        del wanted
        if readable:
            pause.wait(STALE)
        else:
            messages._poll(LOOK)
