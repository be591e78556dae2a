"""Contexts: one for each start method, with the factories that make this package's objects.

State that must exist once per process stays in the stdlib's module: the chosen start method, the `Popen` that
is pickling, the contexts that libraries register, and the exception classes. The contexts here are subclasses
of the stdlib's, so that `isinstance` and `mp_context=` work everywhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module

from ._core import TYPE_CHECKING
from ._core._typing import Any, TypeVar
from ._core.fallback import choice
from ._core.start.main_module import sync_main_modules
from ._core.start.startable_process import StartableProcess
from ._core.stdlib import context as _std
from ._core.stdlib import forward_other_names, process

__all__ = [
    "AuthenticationError",
    "BaseContext",
    "BufferTooShort",
    "DefaultContext",
    "ForkContext",
    "ForkProcess",
    "ForkServerContext",
    "ForkServerProcess",
    "Process",
    "ProcessError",
    "SpawnContext",
    "SpawnProcess",
    "TimeoutError",
    "assert_spawning",
    "get_spawning_popen",
    "set_spawning_popen",
]

if TYPE_CHECKING:
    from multiprocessing.context import (
        AuthenticationError,
        BufferTooShort,
        ProcessError,
        TimeoutError,
        assert_spawning,
        get_spawning_popen,
        set_spawning_popen,
    )
    from multiprocessing.context import BaseContext as _StdContext
    from multiprocessing.process import BaseProcess
else:
    _StdContext = _std.BaseContext
    AuthenticationError = _std.AuthenticationError
    BufferTooShort = _std.BufferTooShort
    ProcessError = _std.ProcessError
    TimeoutError = _std.TimeoutError
    BaseProcess = process.BaseProcess
    assert_spawning = _std.assert_spawning
    get_spawning_popen = _std.get_spawning_popen
    set_spawning_popen = _std.set_spawning_popen


def _part(name: str) -> Any:
    """Return one of the package's modules; load it when it is first needed."""
    part = _parts.get(name)
    if part is None:
        choice.before_first_object()
        # Not from sys.modules: another thread may not have finished loading it.
        part = _parts[name] = import_module(f"{__package__}.{name}")
    return part


_parts: dict[str, Any] = {}


class _Part:
    """Stands for a module that is loaded late, so that evaluated annotations find its classes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(_part(self._name), name)


if TYPE_CHECKING:
    import ctypes
    from _ctypes import _CData, _SimpleCData
    from typing import Literal, TypeAlias, overload

    from . import connection, managers, pool, queues, sharedctypes, synchronize
    from .sharedctypes import Synchronized, SynchronizedArray, SynchronizedBase, SynchronizedString
    from .synchronize import LockLike

    _T = TypeVar("_T")
    _Data = TypeVar("_Data", bound=_CData)
    ForkServerMain: TypeAlias = Literal["warm", "cold"] | None
else:
    connection, managers, pool = _Part("connection"), _Part("managers"), _Part("pool")
    queues, sharedctypes, synchronize = _Part("queues"), _Part("sharedctypes"), _Part("synchronize")
    LockLike = object
    ForkServerMain = str | None


def _starter(popen_module: str) -> Any:
    """Make the `_Popen` of a process class: static, because the stdlib calls it on classes and objects."""

    def start(process_obj: BaseProcess) -> Any:
        return (_parts.get(popen_module) or _part(popen_module)).Popen(process_obj)

    return staticmethod(start)


def _choose_forkserver_main(mode: str | None) -> None:
    if mode is None:
        return
    server = _part("forkserver")._forkserver
    if hasattr(server, "set_main"):
        server.set_main(mode)
    elif mode not in ("warm", "cold"):
        # The standard library has only one way, which is neither of the two.
        raise ValueError(f"forkserver_main must be 'warm' or 'cold', not {mode!r}")


def _current_kind() -> Any:
    """Return the process class of the current start method."""
    # Each start comes here, and pays for each object that it touches: after a fork its memory is copied.
    chosen = _counterparts.get(_std._default_context._actual_context)
    return (chosen or _counterpart(_std._default_context.get_context())).Process


class Process(StartableProcess):
    """A process that starts by the start method that is current when `start` is called.

    The child calls `target(*args, **kwargs)`. `daemon` says whether the process dies with its parent; None
    means as the current process. Raises TypeError if `target` is not callable, or `args` not iterable::

        process = Process(target=print, args=("hello",))
        process.start()
        process.join()
    """

    _start_method = None

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        return _current_kind()._Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        _current_kind()._after_fork()


class ForkProcess(StartableProcess):
    """A process that begins as a copy of its parent."""

    _start_method = "fork"
    _Popen = _starter("popen_fork")


class SpawnProcess(StartableProcess):
    """A process that begins as a fresh interpreter."""

    _start_method = "spawn"
    _Popen = _starter("popen_spawn_posix" if os.name == "posix" else "popen_spawn_win32")

    @staticmethod
    def _after_fork() -> None:
        """Repair nothing: a fresh interpreter has inherited no state. Store its name if reports are on."""
        if (origins := sys.modules.get("procession._core.debug.origins")) is not None:
            origins.name_this_process()


class ForkServerProcess(StartableProcess):
    """A process that begins as a copy of a small server process."""

    _start_method = "forkserver"
    _Popen = _starter("popen_forkserver")


class BaseContext(_StdContext):
    """The stdlib's context, whose factories make this package's objects."""

    # What the factories return is not of the stdlib's classes: type checkers complain at each of them.

    # The class of the processes that it starts.
    Process: type[StartableProcess]

    def Manager(self) -> managers.SyncManager:
        """Start a manager's server process and return the manager: a `SyncManager`.

        The server dies with this process, even if that is killed.
        """
        manager = managers.SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def Pipe(  # type: ignore[override]
        self, duplex: bool = True
    ) -> tuple[connection.Connection[Any, Any], connection.Connection[Any, Any]]:
        """Return the two connected ends of a pipe; without `duplex`, one to receive and one to send."""
        return connection.Pipe(duplex)

    def Lock(self) -> synchronize.Lock:  # type: ignore[override]
        """Return a lock that is not recursive.

        If its owner dies, the next `acquire` raises `OwnerDied`.
        """
        return synchronize.Lock(ctx=self.get_context())

    def RLock(self) -> synchronize.RLock:  # type: ignore[override]
        """Return a lock that its owner may acquire again.

        If its owner dies, the next `acquire` raises `OwnerDied`.
        """
        return synchronize.RLock(ctx=self.get_context())

    def Condition(self, lock: LockLike | None = None) -> synchronize.Condition:  # type: ignore[override]
        """Return a condition variable, around `lock` or a new RLock."""
        return synchronize.Condition(lock, ctx=self.get_context())

    def Semaphore(self, value: int = 1) -> synchronize.Semaphore:  # type: ignore[override]
        """Return a semaphore that starts at `value`."""
        return synchronize.Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(self, value: int = 1) -> synchronize.BoundedSemaphore:  # type: ignore[override]
        """Return a semaphore that starts at `value` and raises ValueError rather than exceed it."""
        return synchronize.BoundedSemaphore(value, ctx=self.get_context())

    def Event(self) -> synchronize.Event:  # type: ignore[override]
        """Return an event, which is not set."""
        return synchronize.Event(ctx=self.get_context())

    def Barrier(  # type: ignore[override]
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None
    ) -> synchronize.Barrier:
        """Return a barrier for `parties` processes or threads.

        One of them calls `action` each time before all go on. `timeout` is the default of `wait`, in seconds.
        """
        return synchronize.Barrier(parties, action, timeout, ctx=self.get_context())

    def Queue(self, maxsize: int = 0) -> queues.Queue[Any]:  # type: ignore[override]
        """Return a queue for many producers and consumers.

        It holds at most `maxsize` messages; 0 or less means as many as memory allows.
        """
        return queues.Queue(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize: int = 0) -> queues.JoinableQueue[Any]:  # type: ignore[override]
        """Return a queue with `task_done` and `join`, otherwise like `Queue`."""
        return queues.JoinableQueue(maxsize, ctx=self.get_context())

    def SimpleQueue(self) -> queues.SimpleQueue[Any]:  # type: ignore[override]
        """Return a queue that has only `get`, `put`, `empty` and `close`."""
        return queues.SimpleQueue(ctx=self.get_context())

    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> pool.Pool:
        """Return a pool of worker processes.

        `processes` is their number, by default one per usable processor. Each worker calls
        `initializer(*initargs)` first, and is replaced after `maxtasksperchild` tasks, if that is given.
        """
        return pool.Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context())

    if TYPE_CHECKING:

        @overload
        def RawValue(self, typecode_or_type: type[_Data], *args: Any) -> _Data: ...
        @overload
        def RawValue(self, typecode_or_type: str, *args: Any) -> Any: ...

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:
        """Return a ctypes object in shared memory, without a lock.

        The type is a ctypes type or a type code of `array`; the arguments initialize it. Raises TypeError for
        an unknown type code.
        """
        return sharedctypes.RawValue(typecode_or_type, *args)

    if TYPE_CHECKING:

        @overload
        def RawArray(
            self, typecode_or_type: type[_Data], size_or_initializer: int | Sequence[Any]
        ) -> ctypes.Array[_Data]: ...
        @overload
        def RawArray(self, typecode_or_type: str, size_or_initializer: int | Sequence[Any]) -> Any: ...

    def RawArray(self, typecode_or_type: Any, size_or_initializer: int | Sequence[Any]) -> Any:
        """Return a ctypes array in shared memory, without a lock: zeroed, or filled from a sequence."""
        return sharedctypes.RawArray(typecode_or_type, size_or_initializer)

    if TYPE_CHECKING:

        @overload  # type: ignore[override]
        def Value(self, typecode_or_type: type[_Data], *args: Any, lock: Literal[False]) -> _Data: ...
        @overload
        def Value(
            self, typecode_or_type: type[_SimpleCData[_T]], *args: Any, lock: Literal[True] | LockLike = True
        ) -> Synchronized[_T]: ...
        @overload
        def Value(
            self, typecode_or_type: type[_Data], *args: Any, lock: Literal[True] | LockLike = True
        ) -> SynchronizedBase[_Data]: ...
        @overload
        def Value(
            self, typecode_or_type: str, *args: Any, lock: Literal[True] | LockLike = True
        ) -> Synchronized[Any]: ...
        @overload
        def Value(
            self, typecode_or_type: str | type[_CData], *args: Any, lock: bool | LockLike = True
        ) -> Any: ...

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a ctypes object in shared memory, with a lock.

        `lock` is True for a new RLock, a lock to use, or False for none.
        """
        return sharedctypes.Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    if TYPE_CHECKING:

        @overload  # type: ignore[override]
        def Array(
            self,
            typecode_or_type: type[_Data],
            size_or_initializer: int | Sequence[Any],
            *,
            lock: Literal[False],
        ) -> ctypes.Array[_Data]: ...
        @overload
        def Array(
            self,
            typecode_or_type: type[ctypes.c_char],
            size_or_initializer: int | Sequence[Any],
            *,
            lock: Literal[True] | LockLike = True,
        ) -> SynchronizedString: ...
        @overload
        def Array(
            self,
            typecode_or_type: type[_SimpleCData[_T]],
            size_or_initializer: int | Sequence[Any],
            *,
            lock: Literal[True] | LockLike = True,
        ) -> SynchronizedArray[_T]: ...
        @overload
        def Array(
            self,
            typecode_or_type: str,
            size_or_initializer: int | Sequence[Any],
            *,
            lock: Literal[True] | LockLike = True,
        ) -> SynchronizedArray[Any]: ...
        @overload
        def Array(
            self,
            typecode_or_type: str | type[_CData],
            size_or_initializer: int | Sequence[Any],
            *,
            lock: bool | LockLike = True,
        ) -> Any: ...

    def Array(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, typecode_or_type: Any, size_or_initializer: int | Sequence[Any], *, lock: Any = True
    ) -> Any:
        """Return a ctypes array in shared memory, with a lock: zeroed, or filled from a sequence.

        `lock` is True for a new RLock, a lock to use, or False for none.
        """
        return sharedctypes.Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def freeze_support(self) -> None:
        """Run the child and exit, in a frozen executable that was started as a child; else do nothing."""
        if getattr(sys, "frozen", False):
            _part("spawn").freeze_support()

    def allow_connection_pickling(self) -> None:
        """Make connections picklable; here they always are."""
        _part("connection")

    def set_executable(self, executable: str | bytes | os.PathLike[str] | None) -> None:
        """Set the path of the interpreter for spawned children and fork servers."""
        _part("spawn").set_executable(executable)

    def set_forkserver_preload(self, module_names: list[str], *, on_error: str = "ignore") -> None:
        """Set the modules that the fork server tries to import before it forks.

        `on_error` says what to do about a module that cannot be imported: "ignore", "warn" or "fail".
        """
        preload = _part("forkserver").set_forkserver_preload
        if choice.reason is None or "on_error" in preload.__code__.co_varnames:
            preload(module_names, on_error=on_error)
        elif on_error == "ignore":
            preload(module_names)
        else:
            raise choice.needs_engine(f"on_error={on_error!r}")

    if TYPE_CHECKING:

        @overload  # type: ignore[override]
        def get_context(
            self, method: None = None, *, forkserver_main: ForkServerMain = None
        ) -> DefaultContext: ...
        @overload
        def get_context(
            self, method: Literal["spawn"], *, forkserver_main: ForkServerMain = None
        ) -> SpawnContext: ...
        @overload
        def get_context(
            self, method: Literal["fork"], *, forkserver_main: ForkServerMain = None
        ) -> ForkContext: ...
        @overload
        def get_context(
            self, method: Literal["forkserver"], *, forkserver_main: ForkServerMain = None
        ) -> ForkServerContext: ...
        @overload
        def get_context(
            self, method: str | None, *, forkserver_main: ForkServerMain = None
        ) -> BaseContext: ...

    def get_context(self, method: str | None = None, *, forkserver_main: str | None = None) -> BaseContext:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the context of a start method; without `method`, this one.

        `forkserver_main` chooses, for this whole process, how the fork server's children get the main
        program. "warm": the server imports it once. "cold": each child imports it. Raises ValueError for
        other values, and for a start method that is unknown or not available.
        """
        _choose_forkserver_main(forkserver_main)
        if method is None:
            return self
        if method not in _concrete_contexts:
            raise ValueError(f"cannot find context for {method!r}")
        context: BaseContext = _concrete_contexts[method]
        context._check_available()
        return context


class DefaultContext(BaseContext):
    """The context behind the package's own functions; its start method can be set once.

    It has no state of its own: the choice is stored in the stdlib's context, where `_bootstrap` sets it in
    every child.
    """

    Process = Process

    @property
    def _actual_context(self) -> Any:
        chosen = _std._default_context._actual_context
        return None if chosen is None else _counterpart(chosen)

    @_actual_context.setter
    def _actual_context(self, context: Any) -> None:
        _std._default_context._actual_context = context

    @property
    def _default_context(self) -> Any:
        return _counterpart(_std._default_context._default_context)

    # For type checkers, the base class's, which has one signature for each start method.
    if not TYPE_CHECKING:

        def get_context(
            self, method: str | None = None, *, forkserver_main: str | None = None
        ) -> BaseContext:
            """Return the context of a start method, by default the current one, which is then fixed."""
            if method is None:
                _choose_forkserver_main(forkserver_main)
                return _counterpart(_std._default_context.get_context())
            return super().get_context(method, forkserver_main=forkserver_main)

    def set_start_method(
        self, method: str | None, force: bool = False, *, forkserver_main: ForkServerMain = None
    ) -> None:
        """Set the start method: "fork", "spawn" or "forkserver".

        Raises RuntimeError if it is set already, unless `force` is true; then None removes the choice.
        `forkserver_main` is that of `get_context`.
        """
        _std._default_context.set_start_method(method, force)
        _choose_forkserver_main(forkserver_main)

    if TYPE_CHECKING:

        @overload
        def get_start_method(self, allow_none: Literal[False] = False) -> str: ...
        @overload
        def get_start_method(self, allow_none: bool) -> str | None: ...

    def get_start_method(self, allow_none: bool = False) -> str | None:
        """Return the name of the start method; None if it is not set yet and `allow_none` is true."""
        name: str | None = _std._default_context.get_start_method(allow_none)
        return name

    def get_all_start_methods(self) -> list[str]:
        """Return the names of the available start methods, the default first."""
        names: list[str] = _std._default_context.get_all_start_methods()
        return names


class ForkContext(BaseContext):
    """Children begin as copies of the process that starts them."""

    _name = "fork"
    Process: type[ForkProcess] = ForkProcess  # pyright: ignore[reportIncompatibleVariableOverride]


class SpawnContext(BaseContext):
    """Children begin as fresh interpreters."""

    _name = "spawn"
    Process: type[SpawnProcess] = SpawnProcess  # pyright: ignore[reportIncompatibleVariableOverride]


class ForkServerContext(BaseContext):
    """Children begin as copies of a small server process."""

    _name = "forkserver"
    Process: type[ForkServerProcess] = ForkServerProcess  # pyright: ignore[reportIncompatibleVariableOverride]

    def _check_available(self) -> None:
        _std._concrete_contexts[self._name]._check_available()


class _Contexts(dict[str, Any]):
    """This package's contexts by name; other names are read from, and written to, the stdlib's table."""

    def __missing__(self, name: str) -> Any:
        return _std._concrete_contexts[name]

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in _std._concrete_contexts

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default

    def __setitem__(self, name: str, context: Any) -> None:
        if super().__contains__(name):
            super().__setitem__(name, context)
        else:
            _std._concrete_contexts[name] = context


def _counterpart(context: Any) -> Any:
    """Return this package's context for one of the stdlib's; others are returned unchanged."""
    if type(context).__module__ == _std.__name__:
        # dict.get sees this package's contexts only.
        return dict.get(_concrete_contexts, context._name, context)
    return context


def _force_start_method(method: str) -> None:
    _std._force_start_method(method)


_concrete_contexts = _Contexts(
    {
        kind._name: kind()
        for kind in (ForkContext, SpawnContext, ForkServerContext)
        if kind._name in _std._concrete_contexts
    }
)
_counterparts = {context: _counterpart(context) for context in dict.values(_std._concrete_contexts)}
_default_context = DefaultContext()
choice.default_context = _default_context

if choice.reason is None:
    from ._core.start.exit_mark import mark_at_interpreter_exit

    mark_at_interpreter_exit()
sync_main_modules()
forward_other_names(__name__, _std)
