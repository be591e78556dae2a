"""The values that Python and Rust exchange: plain data, and a few shared objects.

Plain data travels in the engine's wire format, which both sides write and read. A shared object travels as
its handle. To Rust, whose functions declare the types of their arguments, the handle is `bytes`. From Rust it
is a `bytearray` of the handle and the kind of object, because no other Rust value becomes one.
"""

from __future__ import annotations

import os

from procession import _native

from .._typing import Any

__all__ = ["PLAIN_DATA", "share", "open_shared", "plain", "register", "what_is_not_plain"]

PLAIN_DATA = "None, bool, int, float, str, bytes, and lists, tuples, sets and dicts of these"

# The classes of objects that Rust knows, by their names there.
_SHARED: dict[str, Any] = {}


def register(**classes: Any) -> None:
    """Say which classes stand for objects that Python and Rust share."""
    _SHARED.update(classes)


_HANDLE = 32
# The limit of the wire format.
_MAX_DEPTH = 100


def plain(value: Any) -> bytes | None:
    """Encode plain data; None if the value is anything else."""
    return _native.dumps_plain(value)


def share(value: Any, proc_id: int, depth: int = 0) -> Any:
    """Return the data with handles for shared objects, of which the process `proc_id` becomes a holder."""
    if isinstance(value, tuple(_SHARED.values())) and not getattr(value, "_uses_stdlib_methods", False):
        handle: bytes = value.handle  # type: ignore[attr-defined]
        _native.hold_for(proc_id, handle)
        return handle
    if depth == _MAX_DEPTH:
        return value
    if type(value) is list or type(value) is tuple:
        return type(value)(share(item, proc_id, depth + 1) for item in value)
    if type(value) is dict:
        return {key: share(item, proc_id, depth + 1) for key, item in value.items()}
    return value


def open_shared(value: Any) -> Any:
    """Return data received from Rust, with objects in place of their handles."""
    if type(value) is bytearray:
        return _open_one(bytes(value[:_HANDLE]), value[_HANDLE:].decode())
    if type(value) is list or type(value) is tuple:
        return type(value)(open_shared(item) for item in value)
    if type(value) is dict:
        return {key: open_shared(item) for key, item in value.items()}
    return value


def _open_one(handle: bytes, kind: str) -> Any:
    # The same steps as in unpickling.
    made = _SHARED[kind].__new__(_SHARED[kind])
    made.__setstate__((False, handle, os.getpid(), None) if kind == "Queue" else (handle,))
    return made


def what_is_not_plain(value: Any, depth: int = 0) -> str | None:
    """Describe the first part of a value that is not plain data; None if all of it is."""
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
