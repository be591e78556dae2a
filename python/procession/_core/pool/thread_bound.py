"""Iterables that work only in the thread that made them.

A database cursor of `sqlite3` refuses every other thread, and so does a generator that reads one. What a
generator will do is unknown, but what it refers to can be searched: cursors and connections in its variables,
or in parts of these, and in the globals that it names.
"""

from __future__ import annotations

import gc
import sys
import types

from .._typing import Any

__all__ = ["is_thread_bound"]

# How many references deep the search goes, and how many objects it visits.
MAX_DEPTH = 4
MAX_OBJECTS = 2000

# Objects whose references do not belong to the iterator.
NOT_SEARCHED = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType)


def is_thread_bound(items: Any) -> bool:
    """Return whether an iterator reads from a database connection of the current thread."""
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
