"""Pools whose insides a subclass replaces.

joblib and torch subclass `Pool` and make its queues themselves, in the stdlib's shape (`_setup_queues`,
`_inqueue`, `_quick_get` ...). A pool that ignored that would be broken, so such a subclass gets the stdlib's
methods for all it does not define itself, and runs the classic way on this package's contexts and processes.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from .stdlib import pool as _std

__all__ = ["is_classic", "make_classic"]

# Who defines one of these counts on the stdlib's insides.
INSIDES = (
    "_get_tasks",
    "_handle_results",
    "_handle_tasks",
    "_handle_workers",
    "_repopulate_pool",
    "_repopulate_pool_static",
    "_setup_queues",
    "_terminate_pool",
)


def is_classic(cls: type[Any]) -> bool:
    """Whether a subclass of `Pool` relies on the stdlib's insides."""
    return any(name in vars(cls) for name in INSIDES)


def make_classic(cls: type[Any], base: type[Any]) -> None:
    """Give a subclass the stdlib's methods where it has none of its own below `base`."""
    below = cls.__mro__[: cls.__mro__.index(base)]
    if not any("_help_stuff_finish" in vars(ancestor) for ancestor in below):
        cls._help_stuff_finish = staticmethod(_help_stuff_finish)
    for name, member in vars(_std.Pool).items():
        defined = any(name in vars(ancestor) for ancestor in below)
        if not defined and isinstance(member, (FunctionType, staticmethod, classmethod, property)):
            setattr(cls, name, member)
    # Not the property, which would look for a crew.
    cls._cache = None
    cls._is_classic = True


def _help_stuff_finish(inqueue: Any, task_handler: Any, size: int) -> None:
    """Keep the thread that fills `inqueue` from waiting for room; this package's queues always have some."""
    if hasattr(inqueue, "_rlock"):
        _std.Pool._help_stuff_finish(inqueue, task_handler, size)
