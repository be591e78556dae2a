"""Connections: pipes between processes, sockets with message frames, and waiting for several at once.

The ends of a pipe are engine objects: messages go through shared memory. A `Connection` around any other
descriptor (a socket of `Listener` and `Client`, a handle that another library kept) uses the stdlib's frames:
a big-endian length of four bytes, or -1 and a length of eight bytes, then the message.

The listening side and the handshake that proves the key are the stdlib's.
"""

from __future__ import annotations

import copyreg
import os
import struct
import sys
from collections.abc import Callable, Iterable
from types import GenericAlias

from . import _native
from ._core import TYPE_CHECKING
from ._core._typing import Any, Generic, TypeVar
from ._core.private_names import register_private_methods
from ._core.queues.readiness import wait_for_readable
from ._core.stdlib import context, forward_other_names, load, reduction
from ._core.system.temp_dir import keep_socket_paths_short
from ._core.transfer import pipe_transit
from ._core.transfer.handle_passing import duplicate, patch_reduction

_std = load("connection")
if TYPE_CHECKING:
    from multiprocessing.connection import Listener as _StdListener
    from multiprocessing.connection import answer_challenge as answer_challenge
    from multiprocessing.connection import deliver_challenge as deliver_challenge
    from typing import Self

    from typing_extensions import Buffer
else:
    Buffer = Self = object
    _StdListener = _std.Listener

__all__ = ["Client", "Listener", "Pipe", "wait"]

_SHORT = struct.Struct("!i")
_LONG = struct.Struct("!Q")
_LONG_MARK = _SHORT.pack(-1)
_LONGEST_SHORT = 0x7FFFFFFF
# Up to this size, header and message go out in one write: Nagle's algorithm would delay a second one.
_ONE_WRITE = 16384

# What a connection sends and receives.
_Sent = TypeVar("_Sent", contravariant=True, default=Any)
_Received = TypeVar("_Received", covariant=True, default=Any)
_Object = TypeVar("_Object")


def _part_of(buf: Any, offset: int, size: int | None) -> memoryview:
    """Return the bytes `offset` to `offset + size` of a buffer of any shape."""
    view = memoryview(buf)
    if view.itemsize > 1 or view.ndim != 1:
        view = view.cast("B")
    if offset < 0:
        raise ValueError("offset is negative")
    if view.nbytes < offset:
        raise ValueError("buffer length < offset")
    if size is None:
        return view[offset:]
    if size < 0:
        raise ValueError("size is negative")
    if offset + size > view.nbytes:
        raise ValueError("buffer length < offset + size")
    return view[offset : offset + size]


def _receive_into(buf: Any, offset: int, receive: Callable[[], bytes | bytearray]) -> int:
    """Receive a message into a buffer of any shape; return its length.

    Checks the offset before it takes a message, which would be lost otherwise.
    """
    with memoryview(buf) as whole, whole.cast("B") as view:
        if offset < 0:
            raise ValueError("negative offset")
        if offset > view.nbytes:
            raise ValueError("offset too large")
        message = receive()
        size = len(message)
        if view.nbytes < offset + size:
            raise context.BufferTooShort(bytes(message))
        view[offset : offset + size] = message
        return size


class _ConnectionBase(Generic[_Sent, _Received]):
    """A connection around a descriptor that carries framed messages."""

    _handle: int | None = None

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)

    def __init__(self, handle: Any, readable: bool = True, writable: bool = True) -> None:
        handle = handle.__index__()
        if handle < 0:
            raise ValueError("invalid handle")
        if not readable and not writable:
            raise ValueError("at least one of `readable` and `writable` must be True")
        self._handle = handle
        self._readable = readable
        self._writable = writable

    def __del__(self) -> None:
        if self._handle is not None:
            self._close()

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def _check_closed(self) -> None:
        if self._handle is None:
            raise OSError("handle is closed")

    def _check_readable(self) -> None:
        if not self._readable:
            raise OSError("connection is write-only")

    def _check_writable(self) -> None:
        if not self._writable:
            raise OSError("connection is read-only")

    @property
    def closed(self) -> bool:
        """True if the connection is closed."""
        return self._handle is None

    @property
    def readable(self) -> bool:
        """True if the connection is readable."""
        return self._readable

    @property
    def writable(self) -> bool:
        """True if the connection is writable."""
        return self._writable

    def fileno(self) -> int:
        """Return the descriptor: readable when there is a message or the other end is closed."""
        self._check_closed()
        assert self._handle is not None
        return self._handle

    def close(self) -> None:
        """Close the connection."""
        self._close()

    def send_bytes(self, buf: Buffer, offset: int = 0, size: int | None = None) -> None:
        """Send the bytes of a buffer, or a part of it, as one message."""
        self._check_closed()
        self._check_writable()
        self._send_frame(_part_of(buf, offset, size))

    def send(self, obj: _Sent) -> None:
        """Send an object."""
        self._check_closed()
        self._check_writable()
        self._send_frame(memoryview(reduction.ForkingPickler.dumps(obj)))

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Receive a message as bytes. Raises OSError if it is longer than `maxlength` bytes."""
        self._check_closed()
        self._check_readable()
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        return bytes(self._recv_frame(maxlength))

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """Receive a message into a writable buffer; return its length."""
        self._check_closed()
        self._check_readable()
        return _receive_into(buf, offset, self._recv_frame)

    def recv(self) -> _Received:
        """Receive an object. Raises EOFError if the other end is closed."""
        self._check_closed()
        self._check_readable()
        return reduction.ForkingPickler.loads(self._recv_frame())  # type: ignore[no-any-return]

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Return whether there is a message; wait up to `timeout` seconds for one, or for ever if None."""
        self._check_closed()
        self._check_readable()
        return bool(wait([self], timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _send_frame(self, message: memoryview) -> None:
        size = message.nbytes
        if size > _LONGEST_SHORT:
            self._write(_LONG_MARK + _LONG.pack(size))
            self._write(message)
        elif size > _ONE_WRITE:
            self._write(_SHORT.pack(size))
            self._write(message)
        else:
            self._write(_SHORT.pack(size) + message)

    def _recv_frame(self, maxlength: int | None = None) -> bytearray:
        (size,) = _SHORT.unpack(self._read(4))
        if size == -1:
            (size,) = _LONG.unpack(self._read(8))
        if size < 0 or (maxlength is not None and size > maxlength):
            self._bad_message_length()
        return self._read(size)

    def _bad_message_length(self) -> None:
        """Raise OSError: the position of the next message is unknown, so nothing can be received any more."""
        if self._writable:
            self._readable = False
        else:
            self.close()
        raise OSError("bad message length")

    def _write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest.nbytes:
            rest = rest[os.write(self.fileno(), rest) :]

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        got = 0
        with memoryview(data) as view:
            while got < size:
                count = os.readv(self.fileno(), [view[got:]])
                if count == 0:
                    if got == 0:
                        raise EOFError
                    raise OSError("got end of file during message")
                got += count
        return data


class Connection(_ConnectionBase[_Sent, _Received]):
    """A connection; made directly, it owns the given descriptor.

    `Connection[int, str]` sends integers and receives strings.
    """


class PipeEnd(_native.Channel, Connection[_Sent, _Received]):
    """One end of a `Pipe`: messages go through shared memory, and the descriptor shows that they wait."""

    _handle = None

    def send_bytes(self, buf: Buffer, offset: int = 0, size: int | None = None) -> None:
        """Send the bytes of a buffer, or a part of it, as one message."""
        if type(buf) is not bytes or type(offset) is not int or offset != 0 or size is not None:
            self._check_writable()
            buf = bytes(_part_of(buf, offset, size))
        self._send_bytes(buf)

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """Receive a message into a writable buffer; return its length."""
        self._check_readable()
        return _receive_into(buf, offset, self.recv_bytes)

    def __reduce__(self) -> Any:
        # For picklers other than `ForkingPickler`: libraries have their own.
        return _reduce_pipe_end(self)


def Pipe(duplex: bool = True) -> tuple[Connection[Any, Any], Connection[Any, Any]]:
    """Return the two ends of a pipe; without `duplex`, the first only receives and the second only sends.

    An end can be sent to another process, as an argument or in a message::

        here, there = Pipe()
        there.send([1, 2])
        assert here.recv() == [1, 2]
    """
    return _native.pipe(duplex, PipeEnd)


def wait(object_list: Iterable[_Object], timeout: float | None = None) -> list[_Object]:
    """Wait until some of the objects are readable; return those, in their order.

    The objects are connections, queue readers, sockets, sentinels of processes or descriptors. Returns an
    empty list if none is readable within `timeout` seconds; None waits for ever.
    """
    return wait_for_readable(list(object_list), timeout)


class Listener(_StdListener):
    """A listening socket that accepts connections from `Client`."""

    def accept(self) -> Connection[Any, Any]:  # type: ignore[override]
        """Accept a connection, prove the key on both sides, and return it.

        Raises `AuthenticationError` if the other side has another key.
        """
        return _wrapped(super().accept())


def Client(address: Any, family: str | None = None, authkey: bytes | None = None) -> Connection[Any, Any]:
    """Return a connection to a `Listener`. Raises `AuthenticationError` if the keys differ."""
    return _wrapped(_std.Client(address, family, authkey))


def _wrapped(theirs: Any) -> Connection[Any, Any]:
    with theirs:
        return Connection(os.dup(theirs.fileno()), theirs.readable, theirs.writable)


def reduce_connection(conn: Connection[Any, Any]) -> tuple[Any, ...]:
    """Pickle a connection around a descriptor: the receiver gets a duplicate."""
    return rebuild_connection, (duplicate(conn.fileno()), conn.readable, conn.writable)


def rebuild_connection(df: Any, readable: bool, writable: bool) -> Connection[Any, Any]:
    """Undo `reduce_connection`."""
    return Connection(df.detach(), readable, writable)


def _reduce_stdlib_connection(conn: Any) -> Any:
    """Pickle a connection of the stdlib, also while its module's name is an alias of this one."""
    its_name_is_its_own = sys.modules.get(_std.__name__) is _std
    if its_name_is_its_own and not _native.is_pickling_message():
        return _std.reduce_connection(conn)
    return _rebuild_stdlib_connection, (duplicate(conn.fileno()), conn.readable, conn.writable)


def _rebuild_stdlib_connection(df: Any, readable: bool, writable: bool) -> Any:
    return _std.Connection(df.detach(), readable, writable)


def _reduce_socket(sock: Any) -> Any:
    """Pickle a socket: in a message of this package, it arrives even if its sender has ended."""
    return reduction._rebuild_socket, (duplicate(sock.fileno()), sock.family, sock.type, sock.proto)


def _reduce_pipe_end(end: PipeEnd[Any, Any]) -> tuple[Any, ...]:
    return _rebuild_pipe_end, (pipe_transit.detached(end),)


def _rebuild_pipe_end(ticket: Any) -> PipeEnd[Any, Any]:
    end: PipeEnd[Any, Any] = PipeEnd.__new__(PipeEnd)
    ticket.attach_to(end)
    return end


register_private_methods()
reduction.ForkingPickler.register(Connection, reduce_connection)
reduction.ForkingPickler.register(_std.Connection, _reduce_stdlib_connection)
if sys.modules.get(_std.__name__) is not _std:
    # `multiprocessing.connection` is this module, so libraries register reducers for the class here only.
    copyreg.pickle(_std.Connection, _reduce_stdlib_connection)
reduction.ForkingPickler.register(PipeEnd, _reduce_pipe_end)
if reduction.ForkingPickler._extra_reducers.get(reduction.socket.socket) is reduction._reduce_socket:
    reduction.ForkingPickler.register(reduction.socket.socket, _reduce_socket)
patch_reduction()
keep_socket_paths_short()

forward_other_names(__name__, _std)
