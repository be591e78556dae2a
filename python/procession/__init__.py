"""Procession: `multiprocessing`, rebuilt on a Rust engine.

Names and meaning are the stdlib's: a program only needs `import procession as multiprocessing`. An unmodified
program runs on it with `python -m procession program.py`, or after `procession.install()`.
"""

import os

from ._core.fallback.choice import choose as _choose

# Before any import that needs the engine.
_choose()

from . import context
from ._core import TYPE_CHECKING
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
Lock = _default.Lock
Manager = _default.Manager
Pipe = _default.Pipe
Pool = _default.Pool
RLock = _default.RLock
RawArray = _default.RawArray
RawValue = _default.RawValue
Semaphore = _default.Semaphore
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

if TYPE_CHECKING:
    # Programs annotate with them, as with the stdlib's.
    from .queues import JoinableQueue, Queue, SimpleQueue
else:
    JoinableQueue = _default.JoinableQueue
    Queue = _default.Queue
    SimpleQueue = _default.SimpleQueue


def _load(name: str) -> _Any:
    """Return a submodule."""
    from importlib import import_module

    return import_module(f"{__name__}.{name}")


def install(*, force: bool = False) -> None:
    """Make `multiprocessing` an alias of this package, here and in every process started from now on.

    Call it before any other import of a program::

        import procession

        procession.install()

        import multiprocessing  # This is procession.

    Raises RuntimeError if modules hold parts of the standard library's `multiprocessing` already: they would
    go on using it. With `force`, they do.
    """
    from ._core.install import install

    install(force=force)


def debug_dump(file: _Any = None) -> None:
    """Write what each process of this tree holds and waits for, and which waits will never end.

    The stacks of this process's threads follow. `file` is a text file, by default stderr. With
    `PROCESSION_DEBUG_SIGNAL=USR2` in the environment, or after `debug_on_signal`, `kill -USR2` makes a
    process write it.
    """
    from ._core.debug.diagnosis import debug_dump

    debug_dump(file)


def debug_on_signal(number: int | None = None) -> None:
    """Make this process, and those started from now on, answer a signal with `debug_dump`.

    `number` is the signal's number; by default it is the one that `PROCESSION_DEBUG_SIGNAL` names, else
    SIGUSR2.
    """
    from ._core.debug.diagnosis import debug_on_signal

    debug_on_signal(_load, number)


def debug_watch(every: float = 10.0) -> None:
    """Look every `every` seconds for deadlocks and for queues that no process reads, and report them.

    Each is reported once, in the form of `debug_dump`, when two checks in a row have found it. One process
    per tree is enough; `PROCESSION_DEBUG_WATCH=10` in the environment starts the watch in the first. Raises
    ValueError unless `every` is positive.
    """
    from ._core.debug.hang_watch import debug_watch

    debug_watch(_load, every)


def memory_info() -> dict[str, int | None]:
    """Return how much shared memory this program and all its processes use, in bytes.

    * `in_use`: memory of queues, values, waiting messages and received arrays.
    * `resident`: memory that the system has provided: in use, free for reuse, and tables.
    * `limit`: the most that `resident` may be (`PROCESSION_MEMORY`); None without such a limit.

    The call visits every block of memory: use it for an occasional report, not for every message. Without the
    engine, the first two are 0.
    """
    from ._core.debug.memory import memory_info

    return memory_info()


def trim() -> int:
    """Give all free shared memory back to the system now; return its size in bytes.

    Without this call, memory goes back about a second after its last use, except for a quarter of what is in
    use, or 16 MiB if that is more. All of it goes back with the program's last queue, pipe or pool.
    """
    from ._core.debug.memory import trim

    return trim()


# Submodules that the stdlib loads together with others, and this package loads on demand: programs that make
# a `Pool` use `multiprocessing.connection.wait` and import nothing else. Before the others are loaded, there
# is no such name, so that tools which list the names of every module load nothing.
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

# Type checkers would accept every name.
if not TYPE_CHECKING:

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

del TYPE_CHECKING

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
