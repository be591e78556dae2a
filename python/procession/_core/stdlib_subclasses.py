"""Subclasses that override private methods of the stdlib's pool or queue.

joblib and torch subclass `Pool` and make its queues themselves (`_setup_queues`, `_inqueue` and so on). loky
subclasses `Queue` and feeds its pipe from a thread (`_start_thread`, `_buffer`, `_sem` and so on). This
package's classes never call these methods, so such a subclass would not work. It therefore gets the stdlib's
methods for all it does not define itself, and works as in the stdlib, on this package's contexts, processes
and locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType

from ._typing import Any

__all__ = [
    "POOL_INTERNALS",
    "QUEUE_INTERNALS",
    "QUEUE_PIPE_METHODS",
    "overrides_any",
    "use_stdlib_methods",
    "mentions",
]

# A subclass that defines one of these relies on the stdlib's internals.
POOL_INTERNALS = (
    "_get_tasks",
    "_handle_results",
    "_handle_tasks",
    "_handle_workers",
    "_repopulate_pool",
    "_repopulate_pool_static",
    "_setup_queues",
    "_terminate_pool",
)
QUEUE_INTERNALS = ("_after_fork", "_feed", "_finalize_close", "_finalize_join", "_reset", "_start_thread")
# A subclass whose own methods (`put`, `get`) use one of these works on the stdlib's pipe.
QUEUE_PIPE_METHODS = frozenset(("_recv_bytes", "_send_bytes", "_start_thread"))


def overrides_any(cls: type[Any], internals: Iterable[str]) -> bool:
    """Return whether a class itself defines one of the names."""
    return any(name in vars(cls) for name in internals)


def mentions(cls: type[Any], names: frozenset[str]) -> bool:
    """Return whether a method that a class itself defines mentions one of the names."""
    functions = (getattr(member, "__func__", member) for member in vars(cls).values())
    codes = (
        code for function in functions if isinstance(function, FunctionType) for code in _codes(function)
    )
    return any(not names.isdisjoint(code.co_names) for code in codes)


def _codes(function: FunctionType) -> Iterator[CodeType]:
    waiting = [function.__code__]
    while waiting:
        code = waiting.pop()
        yield code
        waiting.extend(constant for constant in code.co_consts if isinstance(constant, CodeType))


def use_stdlib_methods(cls: type[Any], base: type[Any], standard: type[Any]) -> None:
    """Give `cls`, a subclass of `base`, the methods of `standard` that no class below `base` defines."""
    below = cls.__mro__[: cls.__mro__.index(base)]
    for name, member in _methods(standard).items():
        if not any(name in vars(ancestor) for ancestor in below):
            setattr(cls, name, member)
    # Hide the properties of this package's class: the stdlib's methods set plain attributes.
    for name in _properties(base) - {name for ancestor in below for name in vars(ancestor)}:
        setattr(cls, name, None)
    cls._uses_stdlib_methods = True


def _methods(standard: type[Any]) -> dict[str, Any]:
    methods: dict[str, Any] = {}
    for ancestor in reversed(standard.__mro__[:-1]):
        for name, member in vars(ancestor).items():
            if isinstance(member, (FunctionType, staticmethod, classmethod, property)):
                methods[name] = member
    return methods


def _properties(base: type[Any]) -> set[str]:
    return {
        name
        for ancestor in base.__mro__
        for name, member in vars(ancestor).items()
        if hasattr(member, "__set__") and not name.startswith("__")
    }
