"""Proxies of a manager's dict and list that use the values in shared memory.

A proxy asks the server for the store with its first call, and again after as many calls as the server says.
Where there is none (another machine, another process tree, a manager of the stdlib, values that are not plain
data) it works like the stdlib's proxies.
"""

from __future__ import annotations

from collections.abc import Iterable

from .. import TYPE_CHECKING
from .._typing import Any, TypeVar, plain
from ..compat import proxies as compat_proxies
from ..stdlib import load
from .store_methods import DictMethods, ListMethods

_std = load("managers")

__all__ = ["DictProxy", "ListProxy"]

_T = TypeVar("_T")
_K = TypeVar("_K")
_V = TypeVar("_V")

if TYPE_CHECKING:
    from typing import Self

    from ..compat.proxies import DictProxy as _BaseDict
    from ..compat.proxies import ListProxy as _BaseList

    # What they define has more exact types in the base classes.
    class _DictMethods: ...

    class _ListMethods: ...

else:
    Self = object
    _DictMethods, _ListMethods = DictMethods, ListMethods
    _BaseDict = plain(compat_proxies.complete("DictProxy"))
    _BaseList = plain(compat_proxies.complete("ListProxy"))


class _StoreProxy:
    _store: Any
    _store_kind: Any
    _no_store: Any
    # The calls since the server was asked, and the number of calls after which to ask again; 0 means never.
    _calls = 0
    _next_ask = 1
    _serializer: str
    _callmethod: Any

    def _without_store(self, growth: Any, method: str, *args: Any) -> Any:
        if growth is not None:
            self._callmethod("_grow", growth)
            return getattr(self, method)(*args)
        if not self._store.is_attached:
            self._store = self._no_store
        self._calls += 1
        if not 0 < self._next_ask <= self._calls:
            return self._callmethod(method, args)
        if method not in getattr(self, "_method_to_typeid_", ()):
            return self._ask(method, args)
        # The server is to make a proxy for what the method returns.
        self._ask("__len__", ())
        return getattr(self, method)(*args) if self._store.is_attached else self._callmethod(method, args)

    def _ask(self, method: str, args: tuple[Any, ...]) -> Any:
        calls, self._calls, self._next_ask = self._calls, 0, 0
        if self._serializer != "pickle":
            return self._callmethod(method, args)
        again = 1
        try:
            answer, value = self._callmethod("_share_or_call", (calls, method, args))
            again = answer if isinstance(answer, int) else 0
        except _std.RemoteError as error:
            if "_share_or_call" not in str(error):
                raise
            # The server is another implementation, without this method.
            again = 0
            return self._callmethod(method, args)
        finally:
            self._next_ask = again
        if isinstance(answer, int):
            return value
        store = self._store_kind.__new__(self._store_kind)
        try:
            store._adopt(answer)
        except (ValueError, MemoryError, OSError, RuntimeError):
            return self._callmethod(method, args)
        self._store = store
        return getattr(self, method)(*args)


class DictProxy(_StoreProxy, _DictMethods, _BaseDict[_K, _V]):
    """A dict in a manager."""

    _exposed_ = (*_BaseDict[_K, _V]._exposed_, "_grow", "_share_or_call")


class ListProxy(_StoreProxy, _ListMethods, _BaseList[_T]):
    """A list in a manager."""

    _exposed_ = (*_BaseList[_T]._exposed_, "_grow", "_share_or_call")

    def __iadd__(self, values: Iterable[_T], /) -> Self:  # type: ignore[override]
        self.extend(values)
        return self


# Set afterwards, so that `inspect` of Python 3.13 does not look for their lines in that module's file.
DictProxy.__module__ = ListProxy.__module__ = "procession.managers"
