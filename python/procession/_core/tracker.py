"""The stdlib's resource tracker: one for a tree, or a child's end would unlink what is still in use."""

from __future__ import annotations

import os
import sys

from .hints import Any
from .stdlib import load, loaded

__all__ = ["fork", "tracker_fd"]


def fork() -> int:
    """Fork a child that goes on with this process's tracker.

    Newer Pythons take the tracker away from forked children, unless they are told before; such a child would
    start its own, which unlinks at the child's end every segment that the child has opened.
    """
    tracker: Any = loaded("resource_tracker")
    intent = getattr(tracker, "_fork_intent", None)
    if intent is None:
        return os.fork()
    intent.preserve_fd = True
    try:
        return os.fork()
    finally:
        intent.preserve_fd = False


def tracker_fd() -> int | None:
    """The resource tracker, where named things are in use: parent and child must have the same one."""
    tracker = load("resource_tracker")._resource_tracker
    if tracker._fd is None and "multiprocessing.shared_memory" not in sys.modules:
        return None
    fd: int = tracker.getfd()
    return fd
