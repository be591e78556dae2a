"""Which processes die with their parent, even if it is killed, and the descriptor they get for that.

Daemons do, pool workers among them: an orderly exit of the parent ends them anyway, so no program can rely on
their living on. Servers of managers do too, since no process would use them. Other processes outlive a parent
that was killed. The mechanism is the engine's lifeline: the kernel kills the child, whatever the child does.
"""

from __future__ import annotations

from .._typing import Any

__all__ = ["DaemonicContext", "dies_with_parent"]

_FLAG = "ends_with_parent"


def dies_with_parent(process_obj: Any) -> bool:
    """Return whether a process dies with its parent."""
    config = process_obj._config
    return bool(config.get("daemon") or config.get(_FLAG))


class DaemonicContext:
    """A context whose processes die with their parent."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def Process(self, *args: Any, **kwds: Any) -> Any:
        """Make, but do not start, a process."""
        made = self._context.Process(*args, **kwds)
        made._config[_FLAG] = True
        return made
