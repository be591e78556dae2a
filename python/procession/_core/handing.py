"""Handing an engine object to a process that is being started.

A child that is not forked opens the object later, by its handle. Until then the object must not
be freed, so the child's seat is made a holder of it while the parent pickles: should the child die
before it opens anything, burying its seat drops the hold.
"""

from __future__ import annotations

from procession import _engine

from .stdlib import context

__all__ = ["hand_over"]


def hand_over(handle: bytes, owner: object = None) -> None:
    """Make the process being started a holder of the object; RuntimeError if none is being started."""
    context.assert_spawning(owner)
    seat = getattr(context.get_spawning_popen(), "seat", None)
    if seat is not None:
        _engine.hold_for(seat, handle)
