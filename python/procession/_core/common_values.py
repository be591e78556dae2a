"""What Python and Rust have in common: plain data, and a few objects.

Plain data goes in the engine's wire format, which both write and read. An object goes as its handle: to Rust,
which knows by the types of its functions where one is to come, as `bytes`; from Rust as a `bytearray` of the
handle and the kind, since nothing else in Rust becomes one.
"""

from __future__ import annotations

import os

from procession import _native, queues, synchronize

from .hints import Any

__all__ = ["PLAIN_DATA", "lent", "opened", "plain", "what_is_not_plain"]

PLAIN_DATA = "None, bool, int, float, str, bytes, and lists, tuples, sets and dicts of these"

_SHARED: dict[str, Any] = {
    "Queue": queues.Queue,
    "Event": synchronize.Event,
    "Lock": synchronize.Lock,
    "RLock": synchronize.RLock,
}

_HANDLE = 32
# As the wire format has it.
_MAX_DEPTH = 100


def plain(value: Any) -> bytes | None:
    """The bytes of plain data, None if it is not."""
    return _native.dumps_plain(value)


def lent(value: Any, seat: int, depth: int = 0) -> Any:
    """The same data with handles for the objects in it, which the occupant of the seat holds from now on."""
    if isinstance(value, tuple(_SHARED.values())) and not getattr(value, "_is_classic", False):
        handle: bytes = value.handle  # type: ignore[attr-defined]
        _native.hold_for(seat, handle)
        return handle
    if depth == _MAX_DEPTH:
        return value
    if type(value) is list or type(value) is tuple:
        return type(value)(lent(item, seat, depth + 1) for item in value)
    if type(value) is dict:
        return {key: lent(item, seat, depth + 1) for key, item in value.items()}
    return value


def opened(value: Any) -> Any:
    """The data that came from Rust, with the objects that its handles stand for."""
    if type(value) is bytearray:
        return _open(bytes(value[:_HANDLE]), value[_HANDLE:].decode())
    if type(value) is list or type(value) is tuple:
        return type(value)(opened(item) for item in value)
    if type(value) is dict:
        return {key: opened(item) for key, item in value.items()}
    return value


def _open(handle: bytes, kind: str) -> Any:
    # As unpickling makes them.
    made = _SHARED[kind].__new__(_SHARED[kind])
    made.__setstate__((False, handle, os.getpid(), None) if kind == "Queue" else (handle,))
    return made


def what_is_not_plain(value: Any, depth: int = 0) -> str | None:
    """The first thing in a value that is no plain data, in words."""
    if depth > _MAX_DEPTH:
        return f"something nested deeper than {_MAX_DEPTH} containers"
    kind = type(value)
    if kind is dict:
        items = [item for pair in value.items() for item in pair]
    elif kind in (list, tuple, set, frozenset):
        items = list(value)
    else:
        if _native.dumps_plain(value) is not None:
            return None
        return "a str with half of a surrogate pair" if kind is str else f"a {kind.__qualname__}"
    found = (what_is_not_plain(item, depth + 1) for item in items)
    return next((what for what in found if what is not None), None)
