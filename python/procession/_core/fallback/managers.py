"""The standard library's managers, with the types and methods that newer Pythons gave them."""

from __future__ import annotations

from .. import late_proxies, served_locks
from ..forwarding import forward_other_names
from ..hints import Any
from ..stdlib import load

_std: Any = load("managers")

__all__ = ["BaseManager", "BaseProxy", "SharedMemoryManager", "SyncManager", "Token"]

BaseManager = _std.BaseManager
BaseProxy = _std.BaseProxy
SharedMemoryManager = _std.SharedMemoryManager
Token = _std.Token

AcquirerProxy = late_proxies.complete("AcquirerProxy")
ConditionProxy = late_proxies.complete("ConditionProxy")
DictProxy = late_proxies.complete("DictProxy")
ListProxy = late_proxies.complete("ListProxy")
SetProxy = late_proxies.complete("SetProxy")


class SyncManager(_std.SyncManager):
    """A manager of the usual types: list, dict, set, Queue, Lock, Pool, Namespace and so on."""


def _pool(*args: Any, **kwds: Any) -> Any:
    from . import pool

    return pool.Pool(*args, **kwds)


SyncManager.register("Pool", _pool, _std.PoolProxy)
SyncManager.register("list", list, ListProxy)
SyncManager.register("dict", dict, DictProxy)
SyncManager.register("set", set, SetProxy)
for _name in ("Lock", "RLock", "Semaphore", "BoundedSemaphore"):
    SyncManager.register(_name, served_locks.able(_name), AcquirerProxy)
SyncManager.register("Condition", served_locks.able("Condition"), ConditionProxy)
del _name

forward_other_names(__name__, _std)
