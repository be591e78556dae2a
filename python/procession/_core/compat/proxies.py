"""Managers' proxies of Python 3.14, for older Pythons.

Each derives from the stdlib's class of its name, if there is one, and adds what that lacks. It is pickled
under the name of this package's public module, which the receiver finds whatever `multiprocessing` means
there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSequence, MutableSet, Set
from types import GenericAlias

from .. import TYPE_CHECKING
from .._typing import Any, TypeVar, plain
from ..stdlib import load

_std = load("managers")

__all__ = ["AcquirerProxy", "ConditionProxy", "DictProxy", "ListProxy", "SetProxy", "complete"]

_HOME = "procession.managers"

_T = TypeVar("_T")
_K = TypeVar("_K")
_V = TypeVar("_V")
_Other = TypeVar("_Other")

if TYPE_CHECKING:
    import multiprocessing.managers as typed
    from typing import Self

    class _Proxy(typed.BaseProxy):
        _exposed_: tuple[str, ...]

        def _callmethod(
            self, methodname: str, args: tuple[Any, ...] = ..., kwds: dict[Any, Any] = ...
        ) -> Any: ...

    class _StdAcquirerProxy(_Proxy):
        def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool: ...
        def release(self) -> None: ...
        def __enter__(self) -> bool: ...
        def __exit__(self, *exc_info: object) -> None: ...

    class _StdConditionProxy(_StdAcquirerProxy):
        def wait(self, timeout: float | None = None) -> bool: ...
        def wait_for(self, predicate: Callable[[], _T], timeout: float | None = None) -> _T: ...
        def notify(self, n: int = 1) -> None: ...
        def notify_all(self) -> None: ...

    class _StdListProxy(_Proxy, typed.ListProxy[_T]): ...

    class _StdDictProxy(_Proxy, typed.DictProxy[_K, _V]): ...

    class _SetMethods(_Proxy, MutableSet[_T]):
        def __len__(self) -> int: ...
        def __contains__(self, value: object, /) -> bool: ...
        def __iter__(self) -> Iterator[_T]: ...
        def __and__(self, other: Set[object], /) -> set[_T]: ...
        def __or__(self, other: Set[_Other], /) -> set[_T | _Other]: ...
        def __sub__(self, other: Set[object], /) -> set[_T]: ...
        def __xor__(self, other: Set[_Other], /) -> set[_T | _Other]: ...
        def __rand__(self, other: Set[object], /) -> set[_T]: ...
        def __ror__(self, other: Set[_Other], /) -> set[_T | _Other]: ...  # type: ignore[misc]
        def __rsub__(self, other: Set[_T], /) -> set[_T]: ...
        def __rxor__(self, other: Set[_Other], /) -> set[_T | _Other]: ...  # type: ignore[misc]
        def add(self, value: _T, /) -> None: ...
        def clear(self) -> None: ...
        def copy(self) -> set[_T]: ...
        def discard(self, value: _T, /) -> None: ...
        def pop(self) -> _T: ...
        def remove(self, value: _T, /) -> None: ...
        def isdisjoint(self, other: Iterable[object], /) -> bool: ...
        def issubset(self, other: Iterable[object], /) -> bool: ...
        def issuperset(self, other: Iterable[object], /) -> bool: ...
        def difference(self, *others: Iterable[object]) -> set[_T]: ...
        def intersection(self, *others: Iterable[object]) -> set[_T]: ...
        def symmetric_difference(self, other: Iterable[_Other], /) -> set[_T | _Other]: ...
        def union(self, *others: Iterable[_Other]) -> set[_T | _Other]: ...
        def difference_update(self, *others: Iterable[object]) -> None: ...
        def intersection_update(self, *others: Iterable[object]) -> None: ...
        def symmetric_difference_update(self, other: Iterable[_T], /) -> None: ...
        def update(self, *others: Iterable[_T]) -> None: ...

else:
    Self = object
    _StdAcquirerProxy, _StdConditionProxy = _std.AcquirerProxy, _std.ConditionProxy
    _StdListProxy, _StdDictProxy = plain(_std.ListProxy), plain(_std.DictProxy)
    _SetMethods = _std.MakeProxyType(
        "_SetMethods",
        [
            *("__contains__", "__iter__", "__len__", "__ge__", "__gt__", "__le__", "__lt__"),
            *("__and__", "__or__", "__sub__", "__xor__", "__rand__", "__ror__", "__rsub__", "__rxor__"),
            *("add", "clear", "copy", "discard", "pop", "remove", "isdisjoint", "issubset", "issuperset"),
            *("difference", "intersection", "symmetric_difference", "union"),
            *("difference_update", "intersection_update", "symmetric_difference_update", "update"),
        ],
    )
    _SetMethods = plain(_SetMethods)


class AcquirerProxy(_StdAcquirerProxy):
    """A lock or a semaphore in a manager."""

    _exposed_ = (*_std.AcquirerProxy._exposed_, "locked")

    def locked(self) -> bool:
        """Return whether it cannot be acquired now."""
        return self._callmethod("locked")  # type: ignore[no-any-return]


class ConditionProxy(AcquirerProxy, _StdConditionProxy):
    """A condition variable in a manager."""

    _exposed_ = (*_std.ConditionProxy._exposed_, "locked")


class ListProxy(_StdListProxy[_T]):
    """A list in a manager."""

    _exposed_ = (*_std.ListProxy._exposed_, "clear", "copy")

    def clear(self) -> None:
        """Remove all items."""
        self._callmethod("clear")

    def copy(self) -> list[_T]:
        """Return the items in a plain list."""
        return self._callmethod("copy")  # type: ignore[no-any-return]

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)


class DictProxy(_StdDictProxy[_K, _V]):
    """A dict in a manager."""

    _exposed_ = (*_std.DictProxy._exposed_, "__ior__", "__or__", "__reversed__", "__ror__", "fromkeys")

    def fromkeys(self, iterable: Iterable[_T], value: Any = None, /) -> dict[_T, Any]:
        """Return a plain dict with these keys and one value."""
        return self._callmethod("fromkeys", (iterable, value))  # type: ignore[no-any-return]

    def __reversed__(self) -> Iterator[_K]:
        return self._callmethod("__reversed__")  # type: ignore[no-any-return]

    def __or__(self, other: dict[_T, _Other]) -> dict[_K | _T, _V | _Other]:
        return self._callmethod("__or__", (other,))  # type: ignore[no-any-return]

    def __ror__(self, other: dict[_T, _Other]) -> dict[_K | _T, _V | _Other]:
        return self._callmethod("__ror__", (other,))  # type: ignore[no-any-return]

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]
        # Not the remote method of this name: its result, the whole dict, would be sent here for nothing.
        self._callmethod("update", (other,))
        return self

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)


class SetProxy(_SetMethods[_T]):
    """A set in a manager."""

    _exposed_ = (*_SetMethods[_T]._exposed_, "__iand__", "__ior__", "__isub__", "__ixor__")

    def __iand__(self, other: Set[object]) -> Self:  # type: ignore[override]
        return self._changed_by("intersection_update", other)

    def __ior__(self, other: Set[_T]) -> Self:  # type: ignore[override, misc]
        return self._changed_by("update", other)

    def __isub__(self, other: Set[object]) -> Self:  # type: ignore[override]
        return self._changed_by("difference_update", other)

    def __ixor__(self, other: Set[_T]) -> Self:  # type: ignore[override, misc]
        return self._changed_by("symmetric_difference_update", other)

    def _changed_by(self, method: str, other: object) -> Self:
        if not isinstance(other, Set):
            return NotImplemented  # type: ignore[no-any-return]
        self._callmethod(method, (other,))
        return self

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)


if not TYPE_CHECKING:
    MutableSequence.register(ListProxy)
    MutableMapping.register(DictProxy)
    MutableSet.register(SetProxy)


# Set afterwards, so that `inspect` of Python 3.13 does not look for their lines in that module's file.
for _kind in (AcquirerProxy, ConditionProxy, ListProxy, DictProxy, SetProxy):
    _kind.__module__ = _HOME


def complete(name: str) -> Any:
    """Return the stdlib's proxy type of this name if it is complete, else the one defined here."""
    ours, theirs = globals()[name], getattr(_std, name, None)
    return theirs if theirs is not None and set(ours._exposed_) <= set(theirs._exposed_) else ours
