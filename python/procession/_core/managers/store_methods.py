"""The methods of a manager's dict and list on a store in shared memory.

Both sides use them: the proxies, and the objects in the server that own the values (`server_store.py`). Each
method tries the store first. What the store cannot do (a value that is not plain data, a full store, values
that were moved back to the server) goes to `_without_store`, which differs between the sides.
"""

# What comes out of a store may be anything.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import sys
from collections.abc import Iterator

from ... import _native
from .._typing import Any

__all__ = ["UNABLE", "DictMethods", "ListMethods", "growth_needed"]

UNABLE = (_native.StoreDetached, _native.StoreFull)

_MISSING: Any = object()


def growth_needed(why: Exception) -> Any:
    """Return how much a full store would have to grow, None if the store is not full.

    Callers do not keep the exception beyond its `except`: it refers to their frame, and so to the arguments
    of the method.
    """
    return why.args if isinstance(why, _native.StoreFull) else None


class _StoreMethods:
    """An object whose values may be in a store."""

    _store_kind: Any
    # A store object without memory: every call raises that the values are not there.
    _no_store: Any
    _store: Any

    def _without_store(self, growth: Any, method: str, *args: Any) -> Any:
        """Do what the store could not do; `growth` says how much a full store would have to grow."""
        raise NotImplementedError

    def __len__(self) -> int:
        try:
            return len(self._store)
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "__len__")

    def clear(self) -> None:
        """Remove everything."""
        try:
            return self._store.clear()
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "clear")

    def copy(self) -> Any:
        """Return everything as a plain object."""
        try:
            return self._store.copy()
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "copy")


class DictMethods(_StoreMethods):
    """The methods of a dict."""

    _store_kind = _native.DictStore
    _no_store = _store = _native.DictStore.__new__(_native.DictStore)

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._store[key]
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "__getitem__", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        try:
            self._store[key] = value
        except UNABLE as error:
            growth = growth_needed(error)
        else:
            return None
        return self._without_store(growth, "__setitem__", key, value)

    def __delitem__(self, key: Any) -> None:
        try:
            del self._store[key]
        except UNABLE as error:
            growth = growth_needed(error)
        else:
            return None
        return self._without_store(growth, "__delitem__", key)

    def __contains__(self, key: Any) -> bool:
        try:
            return key in self._store
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "__contains__", key)

    def __iter__(self) -> Iterator[Any]:
        try:
            return self._each(self._store.keys())
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "__iter__")

    def _each(self, keys: list[Any]) -> Iterator[Any]:
        for key in keys:
            if len(self) != len(keys):
                raise RuntimeError("dictionary changed size during iteration")
            yield key

    def get(self, key: Any, default: Any = None, /) -> Any:
        """Return the value of a key, or the default."""
        try:
            return self._store.get(key, default)
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "get", key, default)

    def pop(self, key: Any, default: Any = _MISSING, /) -> Any:
        """Remove a key and return its value, or the default."""
        fallback = () if default is _MISSING else (default,)
        try:
            return self._store.pop(key, fallback or None)
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "pop", key, *fallback)

    def popitem(self) -> tuple[Any, Any]:
        """Remove the key that was inserted last and return it with its value."""
        try:
            return self._store.popitem()
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "popitem")

    def setdefault(self, key: Any, default: Any = None, /) -> Any:
        """Return the value of a key; set it to the default first if the key is missing."""
        try:
            return self._store.setdefault(key, default)
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "setdefault", key, default)

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Set all the keys of a dict, or of pairs, and those given as keyword arguments."""
        everything = dict(other, **more)
        try:
            return self._store.update(everything)
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "update", everything)

    def keys(self) -> Any:
        """Return the keys in a list."""
        try:
            return self._store.keys()
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "keys")

    def values(self) -> Any:
        """Return the values in a list."""
        try:
            return self._store.values()
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "values")

    def items(self) -> Any:
        """Return the keys and values in a list of pairs."""
        try:
            return list(self._store.copy().items())
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "items")


class ListMethods(_StoreMethods):
    """The methods of a list."""

    _store_kind = _native.ListStore
    _no_store = _store = _native.ListStore.__new__(_native.ListStore)

    def __getitem__(self, index: Any) -> Any:
        try:
            return self._store.get_slice(index) if isinstance(index, slice) else self._store.get(index)
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "__getitem__", index)

    def __setitem__(self, index: Any, value: Any) -> None:
        try:
            return self._store.set(index, value)
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "__setitem__", index, value)

    def __contains__(self, value: Any) -> bool:
        try:
            return value in self._store
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "__contains__", value)

    def append(self, value: Any, /) -> None:
        """Add an item at the end."""
        try:
            return self._store.append(value)
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "append", value)

    def extend(self, values: Any, /) -> None:
        """Add items at the end."""
        values = list(values)
        try:
            return self._store.extend(values)
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "extend", values)

    def pop(self, *index: Any) -> Any:
        """Remove an item, the last one unless an index is given, and return it."""
        try:
            if index in ((), (-1,)):
                return self._store.pop()
            growth = None  # The store removes only the last item.
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "pop", *index)

    def count(self, value: Any, /) -> int:
        """Return how often a value occurs."""
        try:
            return self._store.count(value)
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "count", value)

    def index(self, value: Any, /, *between: Any) -> int:
        """Return the index of the first item equal to a value. Raises ValueError if there is none."""
        try:
            return self._index(value, *between)
        except UNABLE as error:
            growth = growth_needed(error)
        return self._without_store(growth, "index", value, *between)

    def _index(self, value: Any, start: Any = 0, stop: Any = sys.maxsize, /) -> int:
        # Other bounds are checked by a list, and an empty list raises the error for a missing value.
        if type(start) is type(stop) is int and abs(start) <= sys.maxsize >= abs(stop):
            place: int | None = self._store.find(value, start, stop)
            return [].index(value) if place is None else place
        return self._store.copy().index(value, start, stop)
