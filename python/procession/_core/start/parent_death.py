"""Which processes end with their parent, however that ends, and what is passed to them for it.

Daemons do, pool workers among them: an orderly exit of the parent ends them anyway, so nobody can count on
their living on. So do servers of managers, for who would use them? Other processes outlive a parent that was
killed. The means is the engine's lifeline, by which the kernel kills a child that may be deaf to all else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from procession import _engine

from .._typing import Any

__all__ = ["DaemonicContext", "dies_with_parent", "passed_lifeline"]

_FLAG = "ends_with_parent"


def dies_with_parent(process_obj: Any) -> bool:
    """Whether this process is to end with its parent."""
    config = process_obj._config
    return bool(config.get("daemon") or config.get(_FLAG))


@contextmanager
def passed_lifeline(process_obj: Any) -> Iterator[int | None]:
    """A descriptor to pass to a new process that is to end with this one; None for others."""
    if not dies_with_parent(process_obj):
        yield None
        return
    fd = _engine.lifeline_fd()
    try:
        yield fd
    finally:
        os.close(fd)


class DaemonicContext:
    """A context whose processes end with their parent."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def Process(self, *args: Any, **kwds: Any) -> Any:
        """Make, but do not start, a process."""
        made = self._context.Process(*args, **kwds)
        made._config[_FLAG] = True
        return made
