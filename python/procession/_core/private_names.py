"""Pickling private methods, whose attribute names differ from the names of their functions.

`self.__work` in a class `Job` is the attribute `_Job__work`. Its function is still named `__work`, and pickle
looks for it under that name.
"""

from __future__ import annotations

from types import FunctionType, MethodType

from ._typing import Any
from .stdlib import reduction

__all__ = ["picklable", "register_private_methods"]


def picklable(function: Any) -> Any:
    """Return the function, or a picklable substitute for a private static method."""
    if type(function) is FunctionType and ".__" in function.__qualname__:
        return _private_static(function)
    return function


def _private_static(function: FunctionType) -> Any:
    *path, name = function.__qualname__.split(".")
    owner: Any = function.__globals__.get(path[0])
    for step in path[1:]:
        owner = getattr(owner, step, None)
    if not isinstance(owner, type) or not _is_private(name):
        return function
    found = _attribute(owner, name, function)
    return _StaticMethod(owner, found, function) if found != name else function


class _StaticMethod:
    """A private static method that can be pickled."""

    def __init__(self, owner: type[Any], name: str, function: FunctionType) -> None:
        self._owner = owner
        self._name = name
        self.__qualname__ = function.__qualname__
        self.__wrapped__ = function

    def __call__(self, *args: Any, **kwds: Any) -> Any:
        return self.__wrapped__(*args, **kwds)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._owner, self._name)


def _is_private(name: str) -> bool:
    return name.startswith("__") and not name.endswith("__")


def _attribute(owner: type[Any], name: str, function: Any) -> str:
    """Return the attribute name under which a class, or a base, has a private function; else `name`."""
    for cls in owner.__mro__:
        mangled = f"_{cls.__name__.lstrip('_')}{name}"
        member = vars(cls).get(mangled)
        if getattr(member, "__func__", member) is function:
            return mangled
    return name


def _reduce_method(method: Any) -> tuple[Any, ...]:
    name, this = method.__func__.__name__, method.__self__
    if _is_private(name):
        name = _attribute(this if isinstance(this, type) else type(this), name, method.__func__)
    return getattr, (this, name)


def register_private_methods() -> None:
    """Make `ForkingPickler` pickle methods by their attribute names."""
    reduction.ForkingPickler.register(MethodType, _reduce_method)
