"""Handing an engine object to another process: by inheritance, or in a message.

The other process opens the object by its handle later, and a handle keeps nothing alive. So the object gets a
new holder while it is pickled. In a message, the holder is the message itself. For a process that is being
started, it is the child's entry in the engine's process table: if the child dies before it opens anything,
reaping its entry drops the hold. Pickled for anything else, a handle would dangle, so that raises an error.

The stdlib's `Popen` classes, and those of other libraries, reserve no entry. Pickling for their children
reserves one, and sends the arena along (`ForeignEntry`).
"""

from __future__ import annotations

import os
import weakref

from procession import _native

from .._typing import Any
from ..stdlib import context

__all__ = ["assert_handing", "hand_over"]


def hand_over(handle: bytes, owner: object = None) -> Any:
    """Make the receiver of the current pickle a holder of the object; return what is pickled as the handle.

    Raises RuntimeError if nothing is being pickled for another process; `owner` is named in the text.
    """
    popen = context.get_spawning_popen()
    if popen is None:
        if not _native.attach_to_message(handle):
            _refuse(owner)
        return handle
    if hasattr(popen, "proc_id"):
        if popen.proc_id is not None:
            _native.hold_for(popen.proc_id, handle)
        return handle
    entry = ForeignEntry.of(popen)
    _native.hold_for(entry.proc_id, handle)
    return ForeignHandle(handle, entry)


def assert_handing(owner: object) -> None:
    """Raise RuntimeError unless something is being pickled for another process."""
    if context.get_spawning_popen() is None and not _native.is_pickling_message():
        _refuse(owner)


def _refuse(owner: object) -> None:
    raise RuntimeError(
        f"{type(owner).__name__} objects should only be shared between processes through inheritance, or "
        "by sending them through a Queue, a Pipe or a Pool of this package: pickled otherwise they could "
        "be gone before they are used"
    )


class ForeignEntry:
    """The arena and an entry in its process table, for a child that another library starts.

    One serves all objects that the child is given.
    """

    def __init__(self, popen: Any) -> None:
        self.proc_id = _native.reserve_entry()
        # The entry waits for the child as long as this process lives.
        _native.set_pid(self.proc_id, os.getpid())
        # This does nothing once the child has taken the entry; its process object lives as long as the child.
        weakref.finalize(popen, _release, self.proc_id, os.getpid()).atexit = False
        self._arena = popen.DupFd(popen.duplicate_for_child(_native.arena_fd()))

    @classmethod
    def of(cls, popen: Any) -> ForeignEntry:
        entry = getattr(popen, "_procession_entry", None)
        if entry is None:
            entry = popen._procession_entry = cls(popen)
        return entry

    def enter(self) -> None:
        """In the child: take the entry, once."""
        if self.proc_id not in _entered:
            arena = self._arena.detach()
            os.set_inheritable(arena, False)
            _native.enter(arena, self.proc_id)
            _entered.add(self.proc_id)


def _release(proc_id: int, owner: int) -> None:
    if os.getpid() == owner:
        _native.release_entry(proc_id)


_entered: set[int] = set()


class ForeignHandle:
    """A handle that is unpickled as plain bytes, after the arena was entered."""

    def __init__(self, handle: bytes, entry: ForeignEntry) -> None:
        self._handle = handle
        self._entry = entry

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_handle, (self._handle, self._entry)


def _rebuild_handle(handle: bytes, entry: ForeignEntry) -> bytes:
    entry.enter()
    return handle
