"""Preloading: the fork server imports the main program once for all children ("warm").

The import can be shared as long as the main program's file is unchanged. It must leave nothing behind that
does not survive a fork (threads, sockets, accelerators), and must not ask for values that each process should
have for itself. Otherwise the server starts over without it, and every child imports the main program for
itself ("cold"), as with spawn.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any, NamedTuple

from ..stdlib import process
from . import main_program

__all__ = ["MODES", "ForkUnsafeState", "Key", "import_main", "reseed", "settings_of_main"]

MODES = ("warm", "cold")

# The parts of the preparation data on which the import of the main program depends.
_PREPARED = (*main_program.KEYS, "sys_argv", "sys_path", "dir", "orig_dir")
_LOGGED = ("log_to_stderr", "log_level")

_ACCELERATORS = ("/dev/nvidia", "/dev/kfd", "/dev/dri/", "/dev/accel", "/dev/neuron")
# This library stops its threads before a fork and starts them afterwards.
_FORK_SAFE_POOL = "openblas"


class Key(NamedTuple):
    """The main program that a server has preloaded: another key needs another server."""

    mode: str
    file: str | None
    mtime_ns: int
    size: int

    @classmethod
    def of_now(cls, mode: str) -> Key:
        """Return the key of a server that would be started now."""
        file = _main_file() if mode == "warm" else None
        try:
            status = os.stat(file) if file is not None else None
        except OSError:
            status = None
        if status is None:
            return cls(mode, file, 0, 0)
        return cls(mode, file, status.st_mtime_ns, status.st_size)

    def is_outdated_by(self, now: Key) -> bool:
        """Return whether another server is needed; a file that is gone, or unreadable, is no reason."""
        if now[:2] == self[:2] and now[2:] == (0, 0):
            return False
        return now != self


def _main_file() -> str | None:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    return getattr(main, "__file__", None) if spec is None else spec.origin


def settings_of_main() -> dict[str, Any]:
    """Return what a fork server needs to import this process's main program, and to log as it does."""
    data = main_program.preparation_data("ignore")
    return {name: data[name] for name in (*_PREPARED, *_LOGGED) if name in data}


def import_main(settings: dict[str, Any]) -> None:
    """Import the main program for all children. Ignores an error: it occurs again, visibly, in the child."""
    current: Any = process.current_process()
    current._inheriting = True
    try:
        main_program.prepare_main(settings)
    except (Exception, SystemExit):
        pass
    finally:
        del current._inheriting


class ForkUnsafeState(NamedTuple):
    """What a forked child would lack (threads), or share with its siblings (open files)."""

    threads: frozenset[str]
    # None where there is no /proc to look at.
    native_threads: int | None
    open_files: frozenset[str]

    @classmethod
    def of_now(cls) -> ForkUnsafeState:
        """Return the state of this process."""
        named = frozenset(thread.name for thread in threading.enumerate())
        try:
            return cls(named, len(os.listdir("/proc/self/task")) - len(named), frozenset(_open_files()))
        except OSError:
            return cls(named, None, frozenset())

    def acquired_since(self, before: ForkUnsafeState) -> str | None:
        """Say what was acquired since `before` that a fork would break; None if nothing was."""
        if self.native_threads is None or before.native_threads is None:
            return "what cannot be seen without /proc"
        if threads := self.threads - before.threads:
            return f"threads ({', '.join(sorted(threads))})"
        if self.native_threads - before.native_threads > _threads_of_fork_safe_pools():
            return "threads of a native library"
        opened = self.open_files - before.open_files
        if sockets := [file for file in opened if file.startswith("socket:")]:
            return f"{len(sockets)} open socket{'s'[: len(sockets) > 1]}"
        if devices := [file for file in opened if file.startswith(_ACCELERATORS)]:
            return f"an open accelerator ({min(devices)})"
        return None


def _open_files() -> list[str]:
    files = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            files.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass  # The descriptor that the listing itself used.
    return files


def _threads_of_fork_safe_pools() -> int:
    with open("/proc/self/maps", errors="replace") as maps:
        libraries = {line.split()[-1] for line in maps if _FORK_SAFE_POOL in line}
    return len(libraries) * (os.cpu_count() or 1)


def reseed() -> None:
    """In a child: reseed numpy, so that siblings draw different numbers. `random` reseeds itself."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()
