"""The server's side of a manager's dict and list: it owns the values, in its own memory or in a shared store.

The values start in a plain local object. When proxies have called often enough to make it worth while, and
all values are plain data, they move to a store in shared memory, which proxies use without the server. An
operation or value that the store does not support moves them back to the local object for good. From then on
they are served as in the stdlib.
"""

# What comes out of a store may be anything.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import threading
from collections.abc import Iterator

from ... import _native
from .._typing import Any
from .store_methods import UNABLE, DictMethods, ListMethods

__all__ = ["ServerDict", "ServerList"]

# The values move when there are at most so many for each call so far. To move this many takes a tenth of the
# time of a call, so that a program which never calls again has lost no more than a tenth of its time.
_VALUES_PER_CALL = 10
# A proxy asks again after this part of the calls that are missing. It asks in the call itself, at no cost.
_SHARE_OF_A_PROXY = 16


class _ServerStore:
    """The values of one dict or list."""

    _kind: Any
    # Methods that change nothing: they may run on a copy.
    _reading: frozenset[str]

    _store_kind: Any
    _no_store: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._local: Any = self._kind(*args, **kwargs)
        self._store = self._no_store
        self._may_move = True
        # Held only briefly: a local call may call other objects of the server, or this one again.
        self._moving = threading.Lock()
        self._local_calls = 0
        self._calls = 0

    def _share_or_call(self, calls: int, method: str, args: tuple[Any, ...]) -> tuple[bytes | int, Any]:
        """Return the handle of the store, or what a method of the local object returns.

        `calls` counts the proxy's calls since it asked last. With the method's value comes the number of
        calls after which to ask again; 0 means never.
        """
        answer = self._share(calls)
        if isinstance(answer, bytes):
            return answer, None
        return answer, getattr(self, method)(*args)

    def _share(self, calls: int = 1) -> bytes | int:
        """Return the handle of the store, or after how many calls to ask again; 0 means never."""
        with self._moving:
            if self._local is None:
                return self._store.handle
            self._calls += calls
            if self._local_calls:
                return 1
            if not self._may_move:
                return 0
            if (missing := len(self._local) // _VALUES_PER_CALL - self._calls) > 0:
                # Not all of it: other proxies call as well, and each says how often only when it asks.
                return max(1, missing // _SHARE_OF_A_PROXY)
            self._may_move = False
            try:
                store = self._store_kind()
                self._fill(store)
            except (*UNABLE, MemoryError, OSError, RuntimeError, ValueError):
                return 0
            self._store, self._local = store, None
            return store.handle

    def _fill(self, store: Any) -> None:
        fill = store.update if self._kind is dict else store.extend
        try:
            fill(self._local)
        except _native.StoreFull as full:
            store.grow(*full.args)
            fill(self._local)

    def _grow(self, entries: int, size: int) -> None:
        """Grow the store; if that fails, move the values back to the local object."""
        with self._moving:
            if self._local is not None:
                return
            try:
                self._store.grow(entries, size)
            except (MemoryError, ValueError, OSError):
                self._move_back()

    def _move_back(self) -> None:
        self._local = self._store.detach()
        self._store = self._no_store

    def _without_store(self, growth: Any, method: str, *args: Any) -> Any:
        if growth is not None:
            self._grow(*growth)
            return getattr(self, method)(*args)
        return self._locally(method, *args)

    def _locally(self, method: str, *args: Any, **kwargs: Any) -> Any:
        with self._moving:
            if self._local is None and method in self._reading:
                value = self._store.copy()
            else:
                if self._local is None:
                    self._move_back()
                value = self._local
            self._local_calls += 1
        try:
            return getattr(value, method)(*args, **kwargs)
        finally:
            with self._moving:
                self._local_calls -= 1

    def __repr__(self) -> str:
        return self._locally("__repr__")

    def __reduce__(self) -> Any:
        return self._kind, (self._locally("copy"),)


class ServerDict(_ServerStore, DictMethods):
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
        return self._locally("__iter__")


class ServerList(_ServerStore, ListMethods):
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


def _locally(method: str) -> Any:
    def call(self: _ServerStore, /, *args: Any, **kwargs: Any) -> Any:
        return self._locally(method, *args, **kwargs)

    call.__name__ = method
    return call


for _method in ("__ior__", "__or__", "__reversed__", "__ror__", "fromkeys"):
    setattr(ServerDict, _method, _locally(_method))
for _method in (
    *("__add__", "__delitem__", "__imul__", "__mul__", "__reversed__", "__rmul__"),
    *("insert", "remove", "reverse", "sort"),
):
    setattr(ServerList, _method, _locally(_method))
