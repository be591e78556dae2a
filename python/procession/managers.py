"""Managers: the stdlib's, with their server processes started through this package's contexts.

The server, the proxies and their protocol are the stdlib's own objects (a manager may be at another
machine, with another implementation); names that are not defined here are forwarded to its module.
"""

from __future__ import annotations

from typing import Any

from . import context, pool
from ._core.forwarding import forward_other_names
from ._core.stdlib import managers as _std

__all__ = ["BaseManager", "BaseProxy", "SharedMemoryManager", "SyncManager", "Token"]


BaseProxy = _std.BaseProxy
Token = _std.Token


class BaseManager(_std.BaseManager):
    """A manager whose server is a process of this package."""

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        **options: Any,
    ) -> None:
        context_of_server = ctx or context._default_context.get_context()
        super().__init__(address, authkey, serializer, context_of_server, **options)


class SyncManager(BaseManager, _std.SyncManager):
    """A manager of the usual types: list, dict, Queue, Lock, Pool, Namespace and so on."""


class SharedMemoryManager(BaseManager, _std.SharedMemoryManager):
    """A manager of named shared memory, which goes away with it."""

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        **options: Any,
    ) -> None:
        # The stdlib's class calls its own BaseManager by name, past the one above.
        context_of_server = ctx or context._default_context.get_context()
        _std.SharedMemoryManager.__init__(self, address, authkey, serializer, context_of_server, **options)


SyncManager.register("Pool", pool.Pool, _std.PoolProxy)

forward_other_names(__name__, _std)
