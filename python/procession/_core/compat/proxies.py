"""Managers' proxies of Python 3.14, for older Pythons.

Each derives from the stdlib's class of its name, if there is one, and adds what that lacks. It is pickled
under the name of this package's public module, which the receiver finds whatever `multiprocessing` means
there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping, MutableSequence, MutableSet, Set
from types import GenericAlias

from .._typing import Any
from ..stdlib import load

_std = load("managers")

__all__ = ["AcquirerProxy", "ConditionProxy", "DictProxy", "ListProxy", "SetProxy", "complete"]

_HOME = "procession.managers"


class AcquirerProxy(_std.AcquirerProxy):  # type: ignore[name-defined]
    """A lock or a semaphore in a manager."""

    _exposed_ = (*_std.AcquirerProxy._exposed_, "locked")

    def locked(self) -> bool:
        """Return whether it cannot be acquired now."""
        return self._callmethod("locked")


class ConditionProxy(AcquirerProxy, _std.ConditionProxy):  # type: ignore[name-defined]
    """A condition variable in a manager."""

    _exposed_ = (*_std.ConditionProxy._exposed_, "locked")


class ListProxy(_std.ListProxy):  # type: ignore[name-defined]
    """A list in a manager."""

    _exposed_ = (*_std.ListProxy._exposed_, "clear", "copy")

    def clear(self) -> None:
        """Remove all items."""
        self._callmethod("clear")

    def copy(self) -> list[Any]:
        """Return the items in a plain list."""
        return self._callmethod("copy")

    __class_getitem__: Any = classmethod(GenericAlias)


class DictProxy(_std.DictProxy):  # type: ignore[name-defined]
    """A dict in a manager."""

    _exposed_ = (*_std.DictProxy._exposed_, "__ior__", "__or__", "__reversed__", "__ror__", "fromkeys")

    def fromkeys(self, iterable: Iterable[Any], value: Any = None, /) -> dict[Any, Any]:
        """Return a plain dict with these keys and one value."""
        return self._callmethod("fromkeys", (iterable, value))

    def __reversed__(self) -> Iterator[Any]:
        return self._callmethod("__reversed__")

    def __or__(self, other: Any) -> dict[Any, Any]:
        return self._callmethod("__or__", (other,))

    def __ror__(self, other: Any) -> dict[Any, Any]:
        return self._callmethod("__ror__", (other,))

    def __ior__(self, other: Any) -> Any:
        # Not the remote method of this name: its result, the whole dict, would be sent here for nothing.
        self._callmethod("update", (other,))
        return self

    __class_getitem__: Any = classmethod(GenericAlias)


_SetMethods: Any = _std.MakeProxyType(
    "_SetMethods",
    [
        *("__contains__", "__iter__", "__len__", "__ge__", "__gt__", "__le__", "__lt__"),
        *("__and__", "__or__", "__sub__", "__xor__", "__rand__", "__ror__", "__rsub__", "__rxor__"),
        *("add", "clear", "copy", "discard", "pop", "remove", "isdisjoint", "issubset", "issuperset"),
        *("difference", "intersection", "symmetric_difference", "union"),
        *("difference_update", "intersection_update", "symmetric_difference_update", "update"),
    ],
)


class SetProxy(_SetMethods):
    """A set in a manager."""

    _exposed_ = (*_SetMethods._exposed_, "__iand__", "__ior__", "__isub__", "__ixor__")

    def __iand__(self, other: object) -> SetProxy:
        return self._changed_by("intersection_update", other)

    def __ior__(self, other: object) -> SetProxy:
        return self._changed_by("update", other)

    def __isub__(self, other: object) -> SetProxy:
        return self._changed_by("difference_update", other)

    def __ixor__(self, other: object) -> SetProxy:
        return self._changed_by("symmetric_difference_update", other)

    def _changed_by(self, method: str, other: object) -> Any:
        if not isinstance(other, Set):
            return NotImplemented
        self._callmethod(method, (other,))
        return self

    __class_getitem__: Any = classmethod(GenericAlias)


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
