"""Managers: the stdlib's, with their server processes started through this package's contexts.

The server, the protocol and most proxies are the stdlib's own objects, because a manager may run on another
machine with another implementation. Names that are not defined here are forwarded to the stdlib's module.
Proxies have the methods of Python 3.14 on every Python.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from . import connection as connection  # teaches how connections are pickled: the server's start needs it
from . import context, pool
from . import shared_memory as shared_memory
from ._core._typing import Any
from ._core.compat import proxies as compat_proxies
from ._core.compat import shared_memory as compat_memory
from ._core.managers import proxy_types
from ._core.managers import server_locks as server_locks
from ._core.managers import server_store as server_store
from ._core.managers import store_proxies as store_proxies
from ._core.start import parent_death as parent_death
from ._core.stdlib import forward_other_names, load

_std = load("managers")

__all__ = ["BaseManager", "BaseProxy", "SharedMemoryManager", "SyncManager", "Token"]


BaseProxy = _std.BaseProxy
Token = _std.Token

AcquirerProxy = compat_proxies.complete("AcquirerProxy")
ConditionProxy = compat_proxies.complete("ConditionProxy")
DictProxy = store_proxies.DictProxy
ListProxy = store_proxies.ListProxy
SetProxy = compat_proxies.complete("SetProxy")


class BaseManager(_std.BaseManager):  # type: ignore[name-defined]
    """A manager whose server is a process of this package."""

    _ctx: Any

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

    def start(self, initializer: Any = None, initargs: Iterable[Any] = ()) -> None:
        """Start the server process, which dies with this process, even if that is killed."""
        context_of_server = self._ctx
        self._ctx = parent_death.DaemonicContext(context_of_server)
        try:
            super().start(initializer, initargs)
        finally:
            self._ctx = context_of_server
        proxy_types.note_manager(self)

    def connect(self) -> None:
        """Connect to a server that runs already."""
        super().connect()
        proxy_types.note_manager(self)


class SyncManager(BaseManager, _std.SyncManager):  # type: ignore[name-defined]
    """A manager of the usual types: list, dict, set, Queue, Lock, Pool, Namespace and so on."""


class SharedMemoryManager(BaseManager, _std.SharedMemoryManager):  # type: ignore[name-defined]
    """A manager of named shared memory, which it removes when it is shut down."""

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        **options: Any,
    ) -> None:
        # The stdlib's class calls its own BaseManager by name, and so bypasses the one above.
        context_of_server = ctx or context._default_context.get_context()
        _std.SharedMemoryManager.__init__(self, address, authkey, serializer, context_of_server, **options)

    if sys.version_info < (3, 13):

        def SharedMemory(self, size: int) -> Any:
            """Return new memory of `size` bytes."""
            return compat_memory.as_compat(super().SharedMemory(size))

        def ShareableList(self, sequence: Any) -> Any:
            """Return a new list in shared memory, with the items of `sequence`."""
            return compat_memory.as_compat(super().ShareableList(sequence))


SyncManager.register("Pool", pool.Pool, _std.PoolProxy)
SyncManager.register("list", server_store.ServerList, ListProxy)
SyncManager.register("dict", server_store.ServerDict, DictProxy)
SyncManager.register("set", set, SetProxy)
SyncManager.register("Lock", server_locks.with_locked("Lock"), AcquirerProxy)
SyncManager.register("RLock", server_locks.with_locked("RLock"), AcquirerProxy)
SyncManager.register("Semaphore", server_locks.with_locked("Semaphore"), AcquirerProxy)
SyncManager.register("BoundedSemaphore", server_locks.with_locked("BoundedSemaphore"), AcquirerProxy)
SyncManager.register("Condition", server_locks.with_locked("Condition"), ConditionProxy)

proxy_types.patch_proxies()
forward_other_names(__name__, _std)
