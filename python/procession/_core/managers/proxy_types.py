"""The types of proxies that methods of other proxies return, in processes that have no manager object.

The stdlib's `BaseProxy` asks its manager object for the type of such a proxy. A proxy that was sent to
another process has no manager object. But a manager's class holds its registry of types, so the manager
classes of this process are asked.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from .._typing import Any
from ..stdlib import load

_std = load("managers")

__all__ = ["note_manager", "patch_proxies"]

# The class of the manager at an address, if this process, or one it was forked from, had the manager object.
_classes: dict[Any, Any] = {}


def note_manager(manager: Any) -> None:
    """Remember the class of a manager that was started here, or connected to."""
    _classes[manager._address] = type(manager)


def patch_proxies() -> None:
    """Make the stdlib's proxies work without a manager object."""
    _std.BaseProxy._callmethod = _for_proxies_alone(_std.BaseProxy._callmethod)


def _for_proxies_alone(callmethod: Any) -> Any:
    @functools.wraps(callmethod)
    def _callmethod(self: Any, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006
        if self._manager is None:
            self._manager = _NoManager(self._token.address, self._authkey)
        return callmethod(self, methodname, args, kwds)

    return _callmethod


class _NoManager:
    """Answers for a proxy without a manager object."""

    # Proxies read a manager's state to learn whether to report their end to it.
    _state = None

    def __init__(self, address: Any, authkey: bytes) -> None:
        self._address = address
        self._authkey = authkey

    @property
    def _registry(self) -> _NoManager:
        return self

    def __getitem__(self, typeid: str) -> Any:
        entries = (kind._registry[typeid] for kind in self._kinds() if typeid in kind._registry)
        # For an unknown type, the server's reply lists its methods.
        return next(entries, (None, None, None, _std.AutoProxy))

    def _kinds(self) -> Iterator[Any]:
        known = _classes.get(self._address)
        if known is not None:
            yield known
        yield from _below(_std.BaseManager)


def _below(kind: Any) -> Iterator[Any]:
    """All subclasses, the most derived first: they may have replaced a type."""
    for subclass in kind.__subclasses__():
        yield from _below(subclass)
        yield subclass
