"""Where objects are made, and what processes are called, for reports.

This costs nothing until a program asks for reports. From then on, the constructors of locks, queues and so on
note where they were called.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable

from .._typing import Any
from ..stdlib import process, util

__all__ = ["name_this_process", "watch_constructors"]

_CONSTRUCTED = {
    "synchronize": ("Lock", "RLock", "Semaphore", "Event", "Condition", "Barrier"),
    "queues": ("Queue",),
}
# For objects made of several engine objects: the attribute that threads wait for.
_WAITED_PART = {"Condition": "_waiters", "Barrier": "_gate"}

_OUR_PACKAGES = ("procession", "multiprocessing", "_procession_alias")


class _Anchor:
    """An object to register with the stdlib's after-fork hooks, which refer to it weakly."""


_anchor: _Anchor | None = None
_named: tuple[int, str] | None = None


def watch_constructors(load: Callable[[str], Any]) -> None:
    """From here on, this process and those it forks note where objects are made.

    `load` returns a public module of the package by its name.
    """
    global _anchor
    if _anchor is not None:
        return
    _anchor = _Anchor()
    # Runs at the start of every forked child, which has a new name.
    util.register_after_fork(_anchor, lambda _: name_this_process())
    for module_name, classes in _CONSTRUCTED.items():
        module = load(module_name)
        for name in classes:
            _watch_class(getattr(module, name), _WAITED_PART.get(name))
    _watch_class(load("synchronize").BoundedSemaphore, None)
    _watch_pipes(load("connection"), load("queues"))


def _watch_class(cls: Any, waited_part: str | None) -> None:
    make = cls.__init__

    @functools.wraps(make)
    def make_and_note(self: Any, *args: Any, **kwds: Any) -> None:
        make(self, *args, **kwds)
        _note(self if waited_part is None else getattr(self, waited_part))

    cls.__init__ = make_and_note


def _watch_pipes(connection: Any, queues: Any) -> None:
    make: Callable[..., Any] = connection.Pipe

    @functools.wraps(make)
    def make_and_note(*args: Any, **kwds: Any) -> Any:
        ends = make(*args, **kwds)
        _note(ends[0])
        return ends

    connection.Pipe = queues.Pipe = make_and_note


def _note(made: Any) -> None:
    from procession import _native

    # Subclasses with the stdlib's methods are not engine objects.
    if getattr(made, "_uses_stdlib_methods", False):
        return
    name_this_process()
    _native.set_origin(made.handle, _place())


def _place() -> str:
    """Return the program's line that made the object, as `file:line`."""
    frame = sys._getframe()
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__")):
        frame = frame.f_back
    return f"{os.path.relpath(frame.f_code.co_filename)}:{frame.f_lineno}"


def _is_ours(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _OUR_PACKAGES


def name_this_process() -> None:
    """Store this process's name for reports, if it is attached to shared memory."""
    global _named
    from procession import _native

    called = os.getpid(), process.current_process().name
    if _named != called and _native.has_arena():
        _native.set_process_name(called[1])
        _named = called
