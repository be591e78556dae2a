"""Handing an engine object to another process: by inheritance, or in a message.

The other process opens the object by its handle, later, and a handle keeps nothing alive. So the object
gets a new holder while it is pickled. In a message, that is the message itself. For a process that is being
started it is the process's seat: should the child die before it opens anything, burying its seat drops the
hold. Pickled for anything else, an object would be a dangling name, so that is refused.

The stdlib's `Popen` classes, and those of other libraries, know nothing of seats. What is pickled for their
children reserves one, and brings along the arena and the way into it.
"""

from __future__ import annotations

import os
import weakref

from procession import _native

from .hints import Any
from .stdlib import context

__all__ = ["assert_handing", "hand_over"]


def hand_over(handle: bytes, owner: object = None) -> Any:
    """Make the receiver of what is being pickled a holder of the object; return what stands for the handle.

    RuntimeError if nothing is being pickled for another process.
    """
    popen = context.get_spawning_popen()
    if popen is None:
        if not _native.attach_to_message(handle):
            _refuse(owner)
        return handle
    if hasattr(popen, "seat"):
        if popen.seat is not None:
            _native.hold_for(popen.seat, handle)
        return handle
    way_in = _WayIn.of(popen)
    _native.hold_for(way_in.seat, handle)
    return _Escorted(handle, way_in)


def assert_handing(owner: object) -> None:
    """RuntimeError unless something is pickled for another process."""
    if context.get_spawning_popen() is None and not _native.is_pickling_message():
        _refuse(owner)


def _refuse(owner: object) -> None:
    raise RuntimeError(
        f"{type(owner).__name__} objects should only be shared between processes through inheritance, or "
        "by sending them through a Queue, a Pipe or a Pool of this package: pickled otherwise they could "
        "be gone before they are used"
    )


class _WayIn:
    """The arena and a seat in it, for a child that somebody else starts; one for all objects it is given."""

    def __init__(self, popen: Any) -> None:
        self.seat = _native.reserve_entry()
        # However long the child takes to come: the seat waits as long as this process lives.
        _native.set_pid(self.seat, os.getpid())
        # Does nothing once the child sits there; its process object is kept as long as it lives.
        weakref.finalize(popen, _give_back, self.seat, os.getpid()).atexit = False
        self._arena = popen.DupFd(popen.duplicate_for_child(_native.arena_fd()))

    @classmethod
    def of(cls, popen: Any) -> _WayIn:
        way_in = getattr(popen, "_procession_way_in", None)
        if way_in is None:
            way_in = popen._procession_way_in = cls(popen)
        return way_in

    def enter(self) -> None:
        """In the child: sit down, once."""
        if self.seat not in _entered:
            arena = self._arena.detach()
            os.set_inheritable(arena, False)
            _native.enter(arena, self.seat)
            _entered.add(self.seat)


def _give_back(seat: int, owner: int) -> None:
    if os.getpid() == owner:
        _native.release_entry(seat)


_entered: set[int] = set()


class _Escorted:
    """A handle that is unpickled as one, where the arena was entered."""

    def __init__(self, handle: bytes, way_in: _WayIn) -> None:
        self._handle = handle
        self._way_in = way_in

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self._handle, self._way_in)


def _arrive(handle: bytes, way_in: _WayIn) -> bytes:
    way_in.enter()
    return handle
