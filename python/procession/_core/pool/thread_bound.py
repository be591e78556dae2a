"""Iterables that only the thread can draw from which made them.

A database cursor of `sqlite3` refuses every other thread, and so does a generator that reads one.
What a generator will do cannot be known; what it has can: the cursors and connections that are its variables
or parts of these, and those that are globals it names.
"""

from __future__ import annotations

import gc
import sys
import types

from .._typing import Any

__all__ = ["is_thread_bound"]

# How far to look, and at how many objects.
MAX_DEPTH = 4
MAX_OBJECTS = 2000

# What leads away from what an iterator reads.
NOT_SEARCHED = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType)


def is_thread_bound(items: Any) -> bool:
    """Whether an iterator reads from a database connection of the current thread."""
    sqlite3 = sys.modules.get("sqlite3")
    if sqlite3 is None:
        return False
    bound = (sqlite3.Cursor, sqlite3.Connection)
    seen: set[int] = set()
    level = [items]
    for _ in range(MAX_DEPTH):
        found: list[Any] = []
        for one in level:
            if isinstance(one, bound):
                return True
            if (
                len(seen) == MAX_OBJECTS
                or id(one) in seen
                or isinstance(one, NOT_SEARCHED)
                or not gc.is_tracked(one)
            ):
                continue
            seen.add(id(one))
            found += gc.get_referents(one)
            if isinstance(one, types.GeneratorType) and one.gi_frame is not None:
                known = one.gi_frame.f_globals
                found += [known[name] for name in one.gi_code.co_names if name in known]
        level = found
    return any(isinstance(one, bound) for one in level)
