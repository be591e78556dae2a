"""What Python and Rust have in common: plain data, and a few objects.

Plain data goes in the engine's wire format, which both write and read. An object goes as its handle: to Rust,
which knows by the types of its functions where one is to come, as `bytes`; from Rust as a `bytearray` of the
handle and the kind, since nothing else in Rust becomes one.
"""

from __future__ import annotations

import os

from procession import _engine

from .._typing import Any

__all__ = ["PLAIN_DATA", "share", "open_shared", "plain", "register", "what_is_not_plain"]

PLAIN_DATA = "None, bool, int, float, str, bytes, and lists, tuples, sets and dicts of these"

# The classes of objects that Rust knows, by their names there.
_SHARED: dict[str, Any] = {}


def register(**classes: Any) -> None:
    """Say which classes stand for objects that Python and Rust share."""
    _SHARED.update(classes)


_HANDLE = 32
# As the wire format has it.
_MAX_DEPTH = 100


def plain(value: Any) -> bytes | None:
    """The bytes of plain data, None if it is not."""
    return _engine.dumps_plain(value)


def share(value: Any, proc_id: int, depth: int = 0) -> Any:
    """The same data with handles for the objects in it, which the occupant of the proc_id holds from now on."""
    if isinstance(value, tuple(_SHARED.values())) and not getattr(value, "_uses_stdlib_methods", False):
        handle: bytes = value.handle  # type: ignore[attr-defined]
        _engine.hold_for(proc_id, handle)
        return handle
    if depth == _MAX_DEPTH:
        return value
    if type(value) is list or type(value) is tuple:
        return type(value)(share(item, proc_id, depth + 1) for item in value)
    if type(value) is dict:
        return {key: share(item, proc_id, depth + 1) for key, item in value.items()}
    return value


def open_shared(value: Any) -> Any:
    """The data that came from Rust, with the objects that its handles stand for."""
    if type(value) is bytearray:
        return _open_one(bytes(value[:_HANDLE]), value[_HANDLE:].decode())
    if type(value) is list or type(value) is tuple:
        return type(value)(open_shared(item) for item in value)
    if type(value) is dict:
        return {key: open_shared(item) for key, item in value.items()}
    return value


def _open_one(handle: bytes, kind: str) -> Any:
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
        if _engine.dumps_plain(value) is not None:
            return None
        return "a str with half of a surrogate pair" if kind is str else f"a {kind.__qualname__}"
    found = (what_is_not_plain(item, depth + 1) for item in items)
    return next((what for what in found if what is not None), None)
