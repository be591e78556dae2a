"""The fork server as a warm template: the main program, imported once for all children.

A template is good for as long as the main program's file is what it was, and only if importing it left
nothing behind that does not survive a fork: threads, sockets, accelerators; and asked for nothing that each
process should have for itself. If it did, the server starts over without it, and every child imports the main
program for itself ("cold"), as with spawn.
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

# Of the preparation data for a child, what the import of the main program depends on.
_PREPARED = (*main_program.KEYS, "sys_argv", "sys_path", "dir", "orig_dir")
_LOGGED = ("log_to_stderr", "log_level")

_ACCELERATORS = ("/dev/nvidia", "/dev/kfd", "/dev/dri/", "/dev/accel", "/dev/neuron")
# Its threads are stopped before a fork and started after it, by the library itself.
_FORK_SAFE_POOL = "openblas"


class Key(NamedTuple):
    """What a template was made of: another key needs another template."""

    mode: str
    file: str | None
    mtime_ns: int
    size: int

    @classmethod
    def of_now(cls, mode: str) -> Key:
        """The key of a template that were made now."""
        file = _main_file() if mode == "warm" else None
        try:
            status = os.stat(file) if file is not None else None
        except OSError:
            status = None
        if status is None:
            return cls(mode, file, 0, 0)
        return cls(mode, file, status.st_mtime_ns, status.st_size)

    def is_outdated_by(self, now: Key) -> bool:
        """Whether another template is needed; not because the file is gone, or out of sight for this user."""
        if now[:2] == self[:2] and now[2:] == (0, 0):
            return False
        return now != self


def _main_file() -> str | None:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    return getattr(main, "__file__", None) if spec is None else spec.origin


def settings_of_main() -> dict[str, Any]:
    """What a fork server must know to import this process's main program, and to log as it does."""
    data = main_program.preparation_data("ignore")
    return {name: data[name] for name in (*_PREPARED, *_LOGGED) if name in data}


def import_main(settings: dict[str, Any]) -> None:
    """Import the main program once for all children; one that fails here fails in the child, visibly."""
    current: Any = process.current_process()
    current._inheriting = True
    try:
        main_program.prepare_main(settings)
    except (Exception, SystemExit):
        pass
    finally:
        del current._inheriting


class ForkUnsafeState(NamedTuple):
    """What this process has that a forked child would not have, or would share with its siblings."""

    threads: frozenset[str]
    # None where there is no /proc to look at.
    native_threads: int | None
    open_files: frozenset[str]

    @classmethod
    def of_now(cls) -> ForkUnsafeState:
        """Take stock."""
        named = frozenset(thread.name for thread in threading.enumerate())
        try:
            return cls(named, len(os.listdir("/proc/self/task")) - len(named), frozenset(_open_files()))
        except OSError:
            return cls(named, None, frozenset())

    def acquired_since(self, before: ForkUnsafeState) -> str | None:
        """Say what is there now that keeps a template from being forked; None if nothing does."""
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
    """In a child: begin other random numbers than its siblings do. `random` reseeds itself."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()
