"""Replaces the modules that need the engine by those that do not, and warns about it."""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType

from _procession_alias import variable

from .choice import VARIABLE

__all__ = ["warn_once", "put_in_place"]

_PACKAGE = "procession"
# Modules of this package that need the engine. The first are replaced by modules of this folder, the second
# by the standard library's.
_OURS = frozenset({"managers", "pool", "queues", "sharedctypes", "synchronize"})
_THEIRS = frozenset(
    {
        "connection",
        "forkserver",
        "heap",
        "popen_fork",
        "popen_forkserver",
        "popen_spawn_posix",
        "popen_spawn_win32",
        "spawn",
    }
)


def put_in_place() -> None:
    """Replace the modules that need the engine, those that are loaded already included."""
    # First in the list: a finder of files would load the modules that need the engine.
    sys.meta_path.insert(0, _Finder())
    for name in _OURS | _THEIRS:
        if sys.modules.pop(f"{_PACKAGE}.{name}", None) is not None:
            import_module(f"{_PACKAGE}.{name}")


def warn_once(why: str) -> None:
    """Warn, at the program's line that imported the package, unless this process or an ancestor did."""
    if variable(VARIABLE) is not None:
        return
    text = (
        f"procession {why} and is the standard library's multiprocessing here: no faster, no safer, "
        "OwnerDied and WorkerDied are never raised, task_timeout= and retries= are not available. "
        f"{VARIABLE}=quiet in the environment silences this warning, {VARIABLE}=error makes it an error"
    )
    if sys.platform == "linux" and "no engine" in why:
        text += "; with Rust installed, pip install --no-binary procession procession builds the engine"
    frame = _caller()
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    module = frame.f_globals.get("__name__")
    warnings.warn_explicit(text, RuntimeWarning, frame.f_code.co_filename, frame.f_lineno, module, registry)
    os.environ[VARIABLE] = "quiet"


def _caller() -> FrameType:
    """Return the innermost frame of the program, or the outermost frame."""
    frame: FrameType = sys._getframe()
    while frame.f_back is not None and _is_in_between(frame):
        frame = frame.f_back
    return frame


def _is_in_between(frame: FrameType) -> bool:
    home = str(frame.f_globals.get("__name__")).partition(".")[0]
    return home in (_PACKAGE, "_procession_alias", "importlib") or "importlib" in frame.f_code.co_filename


class _Finder:
    """Answers imports of `procession.x` with the module that works without the engine."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Claim the names that need the engine."""
        package, _, name = fullname.partition(".")
        if package != _PACKAGE or name not in _OURS | _THEIRS:
            return None
        return ModuleSpec(fullname, self, origin=f"multiprocessing.{name}")  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Load the module and return it unchanged."""
        name = spec.name.partition(".")[2]
        if name in _OURS:
            module = import_module(f"{__package__}.{name}")
        else:
            module = _genuine(name)
        # The import system is about to overwrite what the module knows about itself.
        spec.loader_state = (module.__spec__, module.__loader__)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec and loader: it ran under its own name already."""
        assert module.__spec__ is not None
        module.__spec__, module.__loader__ = module.__spec__.loader_state


def _genuine(name: str) -> ModuleType:
    from ..stdlib import load

    module: ModuleType = load(name)
    return module
