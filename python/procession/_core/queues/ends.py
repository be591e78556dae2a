"""The two ends of a queue, for programs that use the stdlib's `_reader` and `_writer`.

The queue itself uses neither. An end refers to the queue's memory, and not to the queue object.
"""

from __future__ import annotations

import io

from procession import _native

from .._typing import Any

__all__ = ["QueueReader", "QueueWriter"]


class _End:
    readable = False
    writable = False

    def __init__(self, handle: bytes) -> None:
        self._messages: _native.Queue[Any] = _native.Queue.__new__(_native.Queue)
        self._messages._adopt(handle)
        self.closed = False

    def _open(self) -> _native.Queue[Any]:
        if self.closed:
            raise OSError("handle is closed")
        return self._messages

    def close(self) -> None:
        """Refuse further use of this end."""
        self.closed = True


class QueueReader(_End):
    """The end that messages come out of."""

    readable = True

    def fileno(self) -> int:
        """Return a descriptor that is readable exactly while a message waits."""
        return self._open()._fileno()

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Return whether a message comes within `timeout` seconds."""
        return self._open()._poll(timeout)

    def recv(self) -> Any:
        """Take an object out."""
        return self._open().get()

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Take a message out as bytes. Raises OSError if it is longer than `maxlength`."""
        message = self._open().get_bytes()
        if maxlength is not None and len(message) > maxlength:
            raise OSError("bad message length")
        return message


class QueueWriter(_End):
    """The end that messages go into."""

    writable = True

    def fileno(self) -> int:
        """Raise UnsupportedOperation: messages go through memory alone, so there is no descriptor."""
        raise io.UnsupportedOperation("the writing end of a Queue has no descriptor")

    def send(self, obj: Any) -> None:
        """Put an object in."""
        self._open().put(obj)

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Put bytes in."""
        view = memoryview(buf).cast("B")[offset:]
        self._open().put_bytes(bytes(view if size is None else view[:size]))
