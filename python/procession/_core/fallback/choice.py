"""Whether the engine runs here, or the standard library does its work.

It does where there is no engine for the system, or none that can be loaded, or where the system refuses
shared memory without a name (an old container engine, a sandbox). That is found out when the package is
imported. A program may be put into a sandbox later, so the question is asked again before its first object:
what a context makes from there on is the standard library's.

A child runs what its parent runs. The refusals that lead here are inherited by all kinds of children; and a
child of the engine, which is in a sandbox that its parent was not in when it began, has its parent's memory
and needs no more.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType

__all__ = ["VARIABLE", "before_first_object", "choose", "needs_engine", "reason"]

# "error" in it makes the fallback an ImportError; whoever has anything else there knows of it already.
VARIABLE = "PROCESSION_FALLBACK"

_PACKAGE = "procession"
# Modules of this package that need the engine; under these names there are the standard library's, or those
# here.
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

# What a child of the engine is started with.
_OF_THE_ENGINE = ("procession.spawn import spawn_main", "procession.forkserver import main", "--multiprocessing.forkserver", "arena=")

# Why the engine does not run; None while it does.
reason: str | None = None
_deciding = threading.Lock()


def choose() -> None:
    """Decide, when the package is imported."""
    if (why := _refusal()) is None or _is_child_of_the_engine():
        return
    if os.environ.get(VARIABLE) == "error":
        raise ImportError(f"procession {why}, and {VARIABLE}=error forbids to do without", name=_PACKAGE)
    _fall_back(why)


def before_first_object() -> None:
    """Decide anew, before something is made that needs the engine."""
    if reason is not None or os.environ.get(VARIABLE) == "error":
        return
    with _deciding:
        if reason is None and (why := _refusal()) is not None:
            _fall_back(why)


def needs_engine(what: str) -> NotImplementedError:
    """The error for something that only the engine can do."""
    return NotImplementedError(f"{what} needs the engine, and procession {reason}")


def _refusal() -> str | None:
    try:
        engine = import_module(f"{_PACKAGE}._engine")
    except ModuleNotFoundError:
        return "has no engine for this system"
    except ImportError as error:
        return f"could not load its engine ({error})"
    refused: str | None = engine.refusal()
    return refused and f"cannot run its engine, since {refused.partition(';')[0]}"


def _is_child_of_the_engine() -> bool:
    if "PROCESSION_CHILD" in os.environ:
        return True
    return any(sign in argument for argument in sys.orig_argv for sign in _OF_THE_ENGINE)


def _fall_back(why: str) -> None:
    global reason
    # First, so that where warnings are errors the import fails each time it is tried.
    _give_notice(why)
    reason = why
    # Before all others, since a finder of files would load the modules with the engine.
    sys.meta_path.insert(0, _Finder())  # type: ignore[arg-type]
    for name in _OURS | _THEIRS:
        if sys.modules.pop(f"{_PACKAGE}.{name}", None) is not None:
            import_module(f"{_PACKAGE}.{name}")


def _give_notice(why: str) -> None:
    """Warn, at the line of the program that is the cause, unless this process or an ancestor did."""
    if VARIABLE in os.environ:
        return
    text = (
        f"procession {why} and is the standard library's multiprocessing here: no faster, no safer, "
        "OwnerDied and WorkerDied are never raised, task_timeout= and retries= are not there. "
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
    """The innermost frame that is the program's, or the outermost of all."""
    frame: FrameType = sys._getframe()
    while frame.f_back is not None and _is_in_between(frame):
        frame = frame.f_back
    return frame


def _is_in_between(frame: FrameType) -> bool:
    home = str(frame.f_globals.get("__name__")).partition(".")[0]
    return home in (_PACKAGE, "_procession_alias", "importlib") or "importlib" in frame.f_code.co_filename


class _Finder:
    """Answers imports of `procession.x` with the module that does without the engine."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Claim the names that need the engine."""
        package, _, name = fullname.partition(".")
        if package != _PACKAGE or name not in _OURS | _THEIRS:
            return None
        return ModuleSpec(fullname, self, origin=f"multiprocessing.{name}")  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Load the module and take it as it is."""
        name = spec.name.partition(".")[2]
        if name in _OURS:
            module = import_module(f"{__package__}.{name}")
        else:
            module = _genuine(name)
        # The import system is about to overwrite what the module knows about itself.
        spec.loader_state = (module.__spec__, module.__loader__)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The module ran under its own name already: only give back what it knew about itself."""
        assert module.__spec__ is not None
        module.__spec__, module.__loader__ = module.__spec__.loader_state


def _genuine(name: str) -> ModuleType:
    from ..stdlib import load

    module: ModuleType = load(name)
    return module
