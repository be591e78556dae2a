"""How much shared memory a program uses, and giving free memory back to the system."""

from __future__ import annotations

from ..fallback import choice

__all__ = ["memory_info", "trim"]


def memory_info() -> dict[str, int | None]:
    """See `procession.memory_info`."""
    if choice.reason is not None:
        return {"in_use": 0, "resident": 0, "limit": None}
    from procession import _native

    return _native.memory_usage()


def trim() -> int:
    """See `procession.trim`."""
    if choice.reason is not None:
        return 0
    from procession import _native

    return _native.trim()
