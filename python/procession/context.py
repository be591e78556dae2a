"""Contexts: one start method each, and the factories that make this package's objects for it.

What must exist once a process stays where the stdlib keeps it: the chosen start method, the `Popen` that is
pickling, the contexts that other libraries register, and the exception classes. The contexts here are
subclasses of the stdlib's, so that `isinstance` and `mp_context=` work anywhere.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module

from ._core._typing import TYPE_CHECKING, Any
from ._core.fallback import choice
from ._core.start.main_module import sync_main_modules
from ._core.stdlib import context as _std
from ._core.stdlib import forward_other_names, process

if TYPE_CHECKING:
    from . import connection, managers, pool, queues, synchronize

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
    from multiprocessing.context import AuthenticationError, BufferTooShort, ProcessError, TimeoutError
    from multiprocessing.process import BaseProcess
else:
    AuthenticationError = _std.AuthenticationError
    BufferTooShort = _std.BufferTooShort
    ProcessError = _std.ProcessError
    TimeoutError = _std.TimeoutError
    BaseProcess = process.BaseProcess

_process: Any = process

assert_spawning = _std.assert_spawning
get_spawning_popen = _std.get_spawning_popen
set_spawning_popen = _std.set_spawning_popen


def _part(name: str) -> Any:
    """One of the package's modules, loaded when it is first needed."""
    part = _parts.get(name)
    if part is None:
        choice.before_first_object()
        # Not from sys.modules: another thread may be in the middle of loading it.
        part = _parts[name] = import_module(f"{__package__}.{name}")
    return part


_parts: dict[str, Any] = {}


class _Part:
    """What annotations name of a module that is loaded late: whoever evaluates one gets it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(_part(self._name), name)


if not TYPE_CHECKING:
    connection, managers, pool = _Part("connection"), _Part("managers"), _Part("pool")
    queues, synchronize = _Part("queues"), _Part("synchronize")


def _starter(popen_module: str) -> Any:
    """The `_Popen` of a process class: a static method, since the stdlib calls it on classes and objects."""

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
        # The standard library's has one way only, which is between the two.
        raise ValueError(f"forkserver_main must be 'warm' or 'cold', not {mode!r}")


def _current_kind() -> Any:
    """The process class of the current start method."""
    return _counterpart(_std._default_context.get_context()).Process


class _StartableProcess(BaseProcess):
    """What every Python version's process can do here, the newest methods included."""

    _popen: Any
    _check_closed: Callable[[], None]

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        if target is not None and not callable(target):
            raise TypeError(f"target must be callable or None, not {target!r}")
        if type(args) is not tuple:
            from ._core.arguments import check_iterable

            check_iterable("args", args, " (the arguments of the target, as in `(1,)`)")
        if kwargs is not None and not hasattr(kwargs, "keys"):
            raise TypeError(f"kwargs must be a mapping of names to arguments or None, not {kwargs!r}")
        super().__init__(group, target, name, args, {} if kwargs is None else kwargs, daemon=daemon)

    def interrupt(self) -> None:
        """Ask the process to stop as Ctrl-C would: SIGINT."""
        self._check_closed()
        if hasattr(self._popen, "interrupt"):
            self._popen.interrupt()
        else:
            # The standard library's, before Python 3.14.
            self._popen._send_signal(signal.SIGINT)


def _start_from_a_daemon(self: Any) -> None:
    """Start the process, as the base class does it, which refuses daemons."""
    self._check_closed()
    assert self._popen is None, "cannot start a process twice"
    assert self._parent_pid == os.getpid(), "can only start a process object created by current process"
    _process._cleanup()
    self._popen = self._Popen(self)
    self._sentinel = self._popen.sentinel
    del self._target, self._args, self._kwargs
    _process._children.add(self)


def allow_daemons_children() -> None:
    """From here on this process may start others although it is a daemon.

    The stdlib forbids it since they would be left behind when the daemon is killed; here they are not.
    """
    _StartableProcess.start = _start_from_a_daemon  # type: ignore[method-assign]


class Process(_StartableProcess):
    """A process started by whatever start method is current when `start` is called."""

    _start_method = None

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        return _current_kind()._Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        _current_kind()._after_fork()


class ForkProcess(_StartableProcess):
    """A process that begins as a copy of its parent."""

    _start_method = "fork"
    _Popen = _starter("popen_fork")


class SpawnProcess(_StartableProcess):
    """A process that begins as a fresh interpreter."""

    _start_method = "spawn"
    _Popen = _starter("popen_spawn_posix" if os.name == "posix" else "popen_spawn_win32")

    @staticmethod
    def _after_fork() -> None:
        """A fresh interpreter has inherited nothing that needs repair; it may have a name to say."""
        if (origins := sys.modules.get("procession._core.debug.origins")) is not None:
            origins.name_this_process()


class ForkServerProcess(_StartableProcess):
    """A process that begins as a copy of a small server process."""

    _start_method = "forkserver"
    _Popen = _starter("popen_forkserver")


class BaseContext(_std.BaseContext):
    """The stdlib's context with every factory making this package's objects."""

    def Manager(self) -> managers.SyncManager:
        """Start a manager process and return the manager."""
        manager = _part("managers").SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def Pipe(self, duplex: bool = True) -> tuple[connection.Connection, connection.Connection]:
        """Return the two connected ends of a pipe."""
        return _part("connection").Pipe(duplex)

    def Lock(self) -> synchronize.Lock:
        """Return a lock that is not recursive."""
        return _part("synchronize").Lock(ctx=self.get_context())

    def RLock(self) -> synchronize.RLock:
        """Return a recursive lock."""
        return _part("synchronize").RLock(ctx=self.get_context())

    def Condition(self, lock: Any = None) -> synchronize.Condition:
        """Return a condition variable."""
        return _part("synchronize").Condition(lock, ctx=self.get_context())

    def Semaphore(self, value: int = 1) -> synchronize.Semaphore:
        """Return a semaphore."""
        return _part("synchronize").Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(self, value: int = 1) -> synchronize.BoundedSemaphore:
        """Return a semaphore that refuses to rise above its first value."""
        return _part("synchronize").BoundedSemaphore(value, ctx=self.get_context())

    def Event(self) -> synchronize.Event:
        """Return an event."""
        return _part("synchronize").Event(ctx=self.get_context())

    def Barrier(
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None
    ) -> synchronize.Barrier:
        """Return a barrier for `parties` processes or threads."""
        return _part("synchronize").Barrier(parties, action, timeout, ctx=self.get_context())

    def Queue(self, maxsize: int = 0) -> queues.Queue[Any]:
        """Return a queue for many producers and consumers."""
        return _part("queues").Queue(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize: int = 0) -> queues.JoinableQueue[Any]:
        """Return a queue that counts what is still unfinished."""
        return _part("queues").JoinableQueue(maxsize, ctx=self.get_context())

    def SimpleQueue(self) -> queues.SimpleQueue[Any]:
        """Return a queue with nothing but `get`, `put` and `empty`."""
        return _part("queues").SimpleQueue(ctx=self.get_context())

    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> pool.Pool:
        """Return a pool of worker processes."""
        return _part("pool").Pool(
            processes, initializer, initargs, maxtasksperchild, context=self.get_context()
        )

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:
        """Return a shared ctypes object without a lock."""
        return _part("sharedctypes").RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type: Any, size_or_initializer: int | Sequence[Any]) -> Any:
        """Return a shared ctypes array without a lock."""
        return _part("sharedctypes").RawArray(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
        """Return a shared ctypes object, with a lock unless `lock` is false."""
        return _part("sharedctypes").Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(
        self, typecode_or_type: Any, size_or_initializer: int | Sequence[Any], *, lock: Any = True
    ) -> Any:
        """Return a shared ctypes array, with a lock unless `lock` is false."""
        return _part("sharedctypes").Array(
            typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context()
        )

    def freeze_support(self) -> None:
        """In a frozen executable that was started as a child: run the child and exit."""
        if getattr(sys, "frozen", False):
            _part("spawn").freeze_support()

    def allow_connection_pickling(self) -> None:
        """Make connections picklable while a process is being started; they always are."""
        _part("connection")

    def set_executable(self, executable: str | bytes | os.PathLike[str] | None) -> None:
        """Set the interpreter that spawned children and fork servers run."""
        _part("spawn").set_executable(executable)

    def set_forkserver_preload(self, module_names: list[str], *, on_error: str = "ignore") -> None:
        """Name the modules that the fork server should import before it forks; a hint.

        `on_error` is "ignore", "warn" or "fail": what to do about a module that cannot be imported.
        """
        preload = _part("forkserver").set_forkserver_preload
        if choice.reason is None or "on_error" in preload.__code__.co_varnames:
            preload(module_names, on_error=on_error)
        elif on_error == "ignore":
            preload(module_names)
        else:
            raise choice.needs_engine(f"on_error={on_error!r}")

    def get_context(self, method: str | None = None, *, forkserver_main: str | None = None) -> Any:
        """Return the context of a start method, or this one.

        `forkserver_main` chooses, for this whole process, how the fork server's children get the main
        program: "warm" has it imported once, in the server; "cold" has each child import it.
        """
        _choose_forkserver_main(forkserver_main)
        if method is None:
            return self
        if method not in _concrete_contexts:
            raise ValueError(f"cannot find context for {method!r}")
        context = _concrete_contexts[method]
        context._check_available()
        return context


class DefaultContext(BaseContext):
    """The context behind the package's own functions: its start method may be chosen once.

    It has no state of its own: the choice is the stdlib's, whose `_bootstrap` makes it in every child.
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

    def get_context(self, method: str | None = None, *, forkserver_main: str | None = None) -> Any:
        """Return the context of a start method, or the current one, which is settled by asking."""
        if method is None:
            _choose_forkserver_main(forkserver_main)
            return _counterpart(_std._default_context.get_context())
        return super().get_context(method, forkserver_main=forkserver_main)

    def set_start_method(
        self, method: str | None, force: bool = False, *, forkserver_main: str | None = None
    ) -> None:
        """Choose the start method; a second time only by force, and None by force takes the choice back.

        `forkserver_main` is that of `get_context`.
        """
        _std._default_context.set_start_method(method, force)
        _choose_forkserver_main(forkserver_main)

    def get_start_method(self, allow_none: bool = False) -> str | None:
        """Return the start method's name; None if it is still open and `allow_none` is true."""
        return _std._default_context.get_start_method(allow_none)

    def get_all_start_methods(self) -> list[str]:
        """Return the names of the start methods there are, the default first."""
        return _std._default_context.get_all_start_methods()


class ForkContext(BaseContext):
    """Children begin as copies of the process that starts them."""

    _name = "fork"
    Process = ForkProcess


class SpawnContext(BaseContext):
    """Children begin as fresh interpreters."""

    _name = "spawn"
    Process = SpawnProcess


class ForkServerContext(BaseContext):
    """Children begin as copies of a small server process."""

    _name = "forkserver"
    Process = ForkServerProcess

    def _check_available(self) -> None:
        _std._concrete_contexts[self._name]._check_available()


class _Contexts(dict[str, Any]):
    """This package's contexts by name; other names are looked up, and registered, in the stdlib's table."""

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
    """This package's context for one of the stdlib's; somebody else's stays as it is."""
    if type(context).__module__ == _std.__name__:
        # As a plain table, which has this package's contexts alone: each start of a process passes here.
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
choice.default_context = _default_context = DefaultContext()

if choice.reason is None:
    from ._core.start.exit_mark import mark_at_interpreter_exit

    mark_at_interpreter_exit()
sync_main_modules()
forward_other_names(__name__, _std)
