"""The front of all starts but the plain fork: children whose entry is reserved before they start.

The entry in the engine's process table comes first, so that the child already holds the objects that are
pickled for it. A start that fails releases the entry, and with it all these holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from procession import _native

from .._typing import Any
from ..stdlib import util
from ..system import sentinels
from .child import ChildProcess

__all__ = ["LaunchedChild", "reserved_entry"]


@contextmanager
def reserved_entry() -> Iterator[int]:
    """Reserve an entry for a child; release it if the child does not start."""
    proc_id = _native.reserve_entry()
    try:
        yield proc_id
    except BaseException:
        _native.release_entry(proc_id)
        raise


class LaunchedChild(ChildProcess):
    """A child that is not forked from this process. Subclasses start it by `_start`."""

    def __init__(self, process_obj: Any) -> None:
        # Descriptors that the child gets for the objects it is pickled with.
        self._fds: list[int] = []
        self._borrowed: list[int] = []
        super().__init__(process_obj)

    def _launch(self, process_obj: Any) -> None:
        try:
            with reserved_entry() as proc_id:
                self.proc_id = proc_id
                started = self._start(process_obj, proc_id)
        finally:
            util.close_fds(*self._borrowed)
        self._take_charge(started)

    def _start(self, process_obj: Any, proc_id: int) -> Any:
        """Start the child in this entry; return what `_take_charge` needs."""
        raise NotImplementedError

    def _take_charge(self, started: Any) -> None:
        """Take charge of the started child, by `_watch` or `_own`."""
        raise NotImplementedError

    def _borrow(self, *fds: int) -> None:
        """Keep descriptors of this process open until the child has its own, or has not started."""
        self._borrowed += fds

    def _borrow_sentinel(self) -> int:
        """Return a descriptor of this process's sentinel, for the child."""
        self._borrow(parent := sentinels.of_this_process())
        return parent
