"""The standard library's managers, with the types and methods that newer Pythons gave them."""

from __future__ import annotations

from .._typing import Any
from ..compat import proxies as compat_proxies
from ..managers import server_locks as server_locks
from ..stdlib import forward_other_names, load

_std: Any = load("managers")

__all__ = ["BaseManager", "BaseProxy", "SharedMemoryManager", "SyncManager", "Token"]

BaseManager = _std.BaseManager
BaseProxy = _std.BaseProxy
SharedMemoryManager = _std.SharedMemoryManager
Token = _std.Token

AcquirerProxy = compat_proxies.complete("AcquirerProxy")
ConditionProxy = compat_proxies.complete("ConditionProxy")
DictProxy = compat_proxies.complete("DictProxy")
ListProxy = compat_proxies.complete("ListProxy")
SetProxy = compat_proxies.complete("SetProxy")


class SyncManager(_std.SyncManager):  # type: ignore[misc]
    """A manager of the usual types: list, dict, set, Queue, Lock, Pool, Namespace and so on."""


def _pool(*args: Any, **kwds: Any) -> Any:
    from . import pool

    return pool.Pool(*args, **kwds)


SyncManager.register("Pool", _pool, _std.PoolProxy)
SyncManager.register("list", list, ListProxy)
SyncManager.register("dict", dict, DictProxy)
SyncManager.register("set", set, SetProxy)
for _name in ("Lock", "RLock", "Semaphore", "BoundedSemaphore"):
    SyncManager.register(_name, server_locks.with_locked(_name), AcquirerProxy)
SyncManager.register("Condition", server_locks.with_locked("Condition"), ConditionProxy)
del _name

forward_other_names(__name__, _std)
