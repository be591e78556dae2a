"""The server's side of a manager's dict and list: who keeps the values, wherever they are.

They begin at home, in a plain object. When the first proxy asks, and all of them are plain, they move to
shared memory, where the proxies use them without the server. What shared memory cannot hold or do takes them
home for good: from then on they are served as the stdlib serves them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from .. import _native
from .hints import Any
from .stored import UNABLE, DictMethods, ListMethods

__all__ = ["KeptDict", "KeptList"]


class _Kept:
    """The values of one dict or list."""

    _kind: Any
    # Methods that change nothing: a copy serves them as well.
    _reading: frozenset[str]

    _store_kind: Any
    _nowhere: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._home: Any = self._kind(*args, **kwargs)
        self._store = self._nowhere
        self._may_move = True
        # Held for a moment only: what is called at home may call other objects of the server, or this one.
        self._moving = threading.Lock()
        self._used_at_home = 0

    def _share(self) -> bytes | bool | None:
        """Return the handle of the store; None if there will never be one, False for not now."""
        with self._moving:
            if self._home is None:
                return self._store.handle
            if self._used_at_home:
                return False
            if not self._may_move:
                return None
            self._may_move = False
            try:
                store = self._store_kind()
                self._fill(store)
            except (*UNABLE, MemoryError, OSError, RuntimeError, ValueError):
                return None
            self._store, self._home = store, None
            return store.handle

    def _fill(self, store: Any) -> None:
        fill = store.update if self._kind is dict else store.extend
        try:
            fill(self._home)
        except _native.StoreFull as full:
            store.grow(*full.args)
            fill(self._home)

    def _grow(self, entries: int, size: int) -> None:
        """Make room in the store, or take the values home if there is none to be had."""
        with self._moving:
            if self._home is not None:
                return
            try:
                self._store.grow(entries, size)
            except (MemoryError, ValueError, OSError):
                self._take_home()

    def _take_home(self) -> None:
        self._home = self._store.detach()
        self._store = self._nowhere

    def _otherwise(self, room: Any, method: str, *args: Any) -> Any:
        if room is not None:
            self._grow(*room)
            return getattr(self, method)(*args)
        return self._at_home(method, *args)

    def _at_home(self, method: str, *args: Any, **kwargs: Any) -> Any:
        with self._moving:
            if self._home is None and method in self._reading:
                value = self._store.copy()
            else:
                if self._home is None:
                    self._take_home()
                value = self._home
            self._used_at_home += 1
        try:
            return getattr(value, method)(*args, **kwargs)
        finally:
            with self._moving:
                self._used_at_home -= 1

    def __repr__(self) -> str:
        return self._at_home("__repr__")

    def __reduce__(self) -> Any:
        return self._kind, (self._at_home("copy"),)


class KeptDict(_Kept, DictMethods):
    """A manager's dict."""

    _kind = dict
    _reading = frozenset(
        (
            "__contains__",
            "__getitem__",
            "__iter__",
            "__len__",
            "__or__",
            "__repr__",
            "__reversed__",
            "__ror__",
        )
        + ("copy", "fromkeys", "get", "items", "keys", "values")
    )

    def __iter__(self) -> Iterator[Any]:
        return self._at_home("__iter__")


class KeptList(_Kept, ListMethods):
    """A manager's list."""

    _kind = list
    _reading = frozenset(
        (
            "__add__",
            "__contains__",
            "__getitem__",
            "__len__",
            "__mul__",
            "__repr__",
            "__reversed__",
            "__rmul__",
        )
        + ("copy", "count", "index")
    )


def _at_home(method: str) -> Any:
    def call(self: _Kept, /, *args: Any, **kwargs: Any) -> Any:
        return self._at_home(method, *args, **kwargs)

    call.__name__ = method
    return call


for _method in ("__ior__", "__or__", "__reversed__", "__ror__", "fromkeys"):
    setattr(KeptDict, _method, _at_home(_method))
for _method in (
    *("__add__", "__delitem__", "__imul__", "__mul__", "__reversed__", "__rmul__"),
    *("insert", "remove", "reverse", "sort"),
):
    setattr(KeptList, _method, _at_home(_method))
