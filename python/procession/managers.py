"""Managers: the stdlib's, with their server processes started through this package's contexts.

The server, the protocol and most proxies are the stdlib's own objects, because a manager may run on another
machine with another implementation. Names that are not defined here are forwarded to the stdlib's module.
Proxies have the methods of Python 3.14 on every Python.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from . import connection as connection  # teaches how connections are pickled: the server's start needs it
from . import context, pool
from . import shared_memory as shared_memory
from ._core import TYPE_CHECKING
from ._core._typing import Any, TypeVar
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


if TYPE_CHECKING:
    import builtins
    from multiprocessing.managers import BaseListProxy as BaseListProxy
    from multiprocessing.managers import BaseManager as _StdBaseManager
    from multiprocessing.managers import BaseProxy as BaseProxy
    from multiprocessing.managers import Namespace as Namespace
    from multiprocessing.managers import RemoteError as RemoteError
    from multiprocessing.managers import Server as Server
    from multiprocessing.managers import SharedMemoryManager as _StdSharedMemoryManager
    from multiprocessing.managers import SharedMemoryServer as SharedMemoryServer
    from multiprocessing.managers import SyncManager as _StdSyncManager
    from multiprocessing.managers import Token as Token
    from multiprocessing.managers import ValueProxy as ValueProxy
    from typing import Protocol, overload

    from ._core.compat.proxies import AcquirerProxy as AcquirerProxy
    from ._core.compat.proxies import ConditionProxy as ConditionProxy
    from ._core.compat.proxies import SetProxy as SetProxy

    _T = TypeVar("_T")
    _K = TypeVar("_K")
    _V = TypeVar("_V")
    _V_co = TypeVar("_V_co", covariant=True)
    _Item = TypeVar("_Item", int, float, bool, str, bytes, None)

    class _Mapping(Protocol[_K, _V_co]):
        """What `dict` takes for a mapping."""

        def keys(self) -> Iterable[_K]: ...
        def __getitem__(self, key: _K, /) -> _V_co: ...
else:
    _Item = object
    BaseProxy = _std.BaseProxy
    Token = _std.Token
    AcquirerProxy = compat_proxies.complete("AcquirerProxy")
    ConditionProxy = compat_proxies.complete("ConditionProxy")
    SetProxy = compat_proxies.complete("SetProxy")
    _StdBaseManager, _StdSyncManager = _std.BaseManager, _std.SyncManager
    _StdSharedMemoryManager = _std.SharedMemoryManager

DictProxy = store_proxies.DictProxy
ListProxy = store_proxies.ListProxy


class BaseManager(_StdBaseManager):
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

    def start(self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()) -> None:
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


class SyncManager(BaseManager, _StdSyncManager):
    """A manager of the usual types: list, dict, set, Queue, Lock, Pool, Namespace and so on."""

    if TYPE_CHECKING:

        @overload
        def dict(self, /) -> DictProxy[Any, Any]: ...
        @overload
        def dict(self, /, **entries: _V) -> DictProxy[str, _V]: ...
        @overload
        def dict(self, mapping: _Mapping[_K, _V], /) -> DictProxy[_K, _V]: ...
        @overload
        def dict(self, mapping: _Mapping[str, _V], /, **entries: _V) -> DictProxy[str, _V]: ...
        @overload
        def dict(self, pairs: Iterable[tuple[_K, _V]], /) -> DictProxy[_K, _V]: ...
        @overload
        def dict(self, pairs: Iterable[tuple[str, _V]], /, **entries: _V) -> DictProxy[str, _V]: ...
        @overload
        def dict(self, pairs: Iterable[builtins.list[str]], /) -> DictProxy[str, str]: ...
        @overload
        def dict(self, pairs: Iterable[builtins.list[bytes]], /) -> DictProxy[bytes, bytes]: ...
        def dict(self, /, *args: Any, **entries: Any) -> Any:
            """Return a dict in the manager."""

        @overload
        def list(self, items: Iterable[_T], /) -> ListProxy[_T]: ...
        @overload
        def list(self) -> ListProxy[Any]: ...
        def list(self, *args: Any) -> Any:
            """Return a list in the manager."""

        @overload
        def set(self, items: Iterable[_T], /) -> SetProxy[_T]: ...
        @overload
        def set(self) -> SetProxy[Any]: ...
        def set(self, *args: Any) -> Any:
            """Return a set in the manager."""


class SharedMemoryManager(BaseManager, _StdSharedMemoryManager):
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

        def SharedMemory(self, size: int) -> compat_memory.SharedMemory:
            """Return new memory of `size` bytes."""
            made: Any = super().SharedMemory(size)
            return compat_memory.as_compat(made)  # type: ignore[no-any-return]

        def ShareableList(self, sequence: Iterable[_Item] | None) -> compat_memory.ShareableList[_Item]:
            """Return a new list in shared memory, with the items of `sequence`."""
            made: compat_memory.ShareableList[_Item] = compat_memory.as_compat(
                super().ShareableList(sequence)
            )
            return made


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
