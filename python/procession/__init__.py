"""Procession: `multiprocessing`, rebuilt on a Rust engine.

The names and their meaning are the stdlib's; `import procession as multiprocessing` is all a program needs.
"""

import os

from ._core.fallback.choice import choose as _choose

# Before anything is imported that needs the engine.
_choose()

from . import context
from ._core._typing import TYPE_CHECKING as _TYPE_CHECKING
from ._core._typing import Any as _Any
from ._core.errors import OwnerDied, WorkerDied
from .context import AuthenticationError, BufferTooShort, Process, ProcessError, TimeoutError
from .process import active_children, current_process, parent_process

__version__ = "0.1.0"

_default = context._default_context

Array = _default.Array
Barrier = _default.Barrier
BoundedSemaphore = _default.BoundedSemaphore
Condition = _default.Condition
Event = _default.Event
JoinableQueue = _default.JoinableQueue
Lock = _default.Lock
Manager = _default.Manager
Pipe = _default.Pipe
Pool = _default.Pool
Queue = _default.Queue
RLock = _default.RLock
RawArray = _default.RawArray
RawValue = _default.RawValue
Semaphore = _default.Semaphore
SimpleQueue = _default.SimpleQueue
Value = _default.Value
allow_connection_pickling = _default.allow_connection_pickling
cpu_count = _default.cpu_count
freeze_support = _default.freeze_support
get_all_start_methods = _default.get_all_start_methods
get_context = _default.get_context
get_logger = _default.get_logger
get_start_method = _default.get_start_method
log_to_stderr = _default.log_to_stderr
reducer = _default.reducer
set_executable = _default.set_executable
set_forkserver_preload = _default.set_forkserver_preload
set_start_method = _default.set_start_method


def _load(name: str) -> _Any:
    """Return a submodule."""
    from importlib import import_module

    return import_module(f"{__name__}.{name}")


def install(*, force: bool = False) -> None:
    """Make `multiprocessing` a name of this package, here and in every process started from now on.

    Call it first thing in a program. RuntimeError if modules hold parts of the standard library's
    `multiprocessing` already, since those would go on using it; with `force` they do.
    """
    from ._core.install import install

    install(force=force)


def debug_dump(file: _Any = None) -> None:
    """Write to `file` (stderr) what each process of this tree holds and waits for, and what will never end.

    The stacks of this process's threads follow. With `PROCESSION_DEBUG_SIGNAL=USR2` in the environment, or
    after `debug_on_signal`, `kill -USR2` has a process do it.
    """
    from ._core.debug.diagnosis import debug_dump

    debug_dump(file)


def debug_on_signal(number: int | None = None) -> None:
    """Have this process, and those started from now on, answer a signal (SIGUSR2) with `debug_dump`."""
    from ._core.debug.diagnosis import debug_on_signal

    debug_on_signal(_load, number)


def debug_watch(every: float = 10.0) -> None:
    """Look every so many seconds for locks in a circle and queues that nobody reads, and report them.

    Each is reported once, as `debug_dump` does, when it was there at two looks in a row. In one process of a
    tree this is enough; `PROCESSION_DEBUG_WATCH=10` in the environment begins it in the first.
    """
    from ._core.debug.hang_watch import debug_watch

    debug_watch(_load, every)


def memory_info() -> dict[str, int | None]:
    """How much shared memory this program and all its processes use, in bytes.

    `in_use`: behind the queues, values, waiting messages and received arrays that somebody has.
    `resident`: what the system has given, which is what is in use, what lies free for the next, and tables.
    `limit`: what `resident` may be at most (`PROCESSION_MEMORY`), None without a limit of that kind.

    It looks at every piece of memory: for a report now and then, not for every message. Where the engine does
    not run, there is none.
    """
    from ._core.debug.memory import memory_info

    return memory_info()


def trim() -> int:
    """Give all free shared memory back to the system now; how many bytes that were.

    Without it, memory goes back about a second after it was used last, but for a quarter of what is in use,
    or 16 MiB if that is more; and all of it with the program's last queue, pipe or pool.
    """
    from ._core.debug.memory import trim

    return trim()


# The submodules that the stdlib's package has once others were loaded, and this one loads when somebody asks:
# programs that make a `Pool` say `multiprocessing.connection.wait` and import nothing else. Until then there
# is no such name, so that whoever looks for names in every module loads nothing.
_LOADED_WITH = {
    "connection": ("pool", "queues", "managers", "popen_forkserver"),
    "heap": ("synchronize", "sharedctypes"),
    "queues": ("pool",),
    "reduction": ("context",),
    "resource_tracker": ("popen_forkserver", "popen_spawn_posix", "managers", "synchronize", "queues"),
    "spawn": ("popen_forkserver", "popen_spawn_posix", "managers", "synchronize", "queues"),
    "synchronize": ("pool", "queues", "sharedctypes"),
    "util": ("context",),
}

# Type checkers would take every name for one that is there.
if not _TYPE_CHECKING:

    def __getattr__(name: str) -> _Any:
        if not any(other in globals() for other in _LOADED_WITH.get(name, ())):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return _load(name)


if "PROCESSION_DEBUG_SIGNAL" in os.environ:
    from ._core.debug.diagnosis import debug_as_environment_says

    debug_as_environment_says(_load)
    del debug_as_environment_says

if "PROCESSION_DEBUG_WATCH" in os.environ:
    from ._core.debug.hang_watch import watch_as_environment_says

    watch_as_environment_says(_load)
    del watch_as_environment_says

SUBDEBUG = 5
SUBWARNING = 25

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "OwnerDied",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "WorkerDied",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "debug_dump",
    "debug_on_signal",
    "debug_watch",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "install",
    "log_to_stderr",
    "memory_info",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
    "trim",
]
