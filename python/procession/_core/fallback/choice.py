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

import errno
import os
import sys
import threading
from importlib import import_module

from .._typing import Any

__all__ = ["VARIABLE", "before_first_object", "choose", "needs_engine", "reason"]

# "error" in it makes the fallback an ImportError; whoever has anything else there knows of it already.
VARIABLE = "PROCESSION_FALLBACK"

_PACKAGE = "procession"

# What a child of the engine is started with.
_OF_THE_ENGINE = (
    "procession.spawn import spawn_main",
    "procession.forkserver import main",
    "--multiprocessing.forkserver",
    "arena=",
)

# Why the engine does not run; None while it does.
reason: str | None = None
_deciding = threading.Lock()

# The context behind the package's own functions, which pools use by default; `procession.context` sets it.
default_context: Any = None


def choose() -> None:
    """Decide, when the package is imported."""
    if (why := _refusal()) is None or _is_child_of_the_engine():
        return
    if _is_forbidden():
        raise ImportError(f"procession {why}, and {VARIABLE}=error forbids to do without", name=_PACKAGE)
    _fall_back(why)


def before_first_object() -> None:
    """Decide anew, before something is made that needs the engine."""
    if reason is not None or _is_forbidden():
        return
    with _deciding:
        if reason is None and (why := _refusal()) is not None:
            _fall_back(why)


def needs_engine(what: str) -> NotImplementedError:
    """The error for something that only the engine can do."""
    return NotImplementedError(f"{what} needs the engine, and procession {reason}")


def _is_forbidden() -> bool:
    from _procession_alias import variable

    return variable(VARIABLE) == "error"


def _refusal() -> str | None:
    loaded = f"{_PACKAGE}._engine" in sys.modules
    if not loaded and (number := _refusal_of_random_numbers()) is not None:
        return f"cannot run its engine, since this system refuses getrandom (errno {number})"
    try:
        engine = import_module(f"{_PACKAGE}._engine")
    except ModuleNotFoundError:
        return "has no engine for this system"
    except ImportError as error:
        return f"could not load its engine ({error})"
    refused: str | None = engine.refusal()
    return refused and f"cannot run its engine, since {refused.partition(';')[0]}"


def _refusal_of_random_numbers() -> int | None:
    """What a filter says that Rust's library, which asks as the engine is loaded, does not go on after."""
    try:
        if hasattr(os, "getrandom"):
            os.getrandom(1, os.GRND_NONBLOCK)
    except OSError as error:
        # It reads a file where the call is not there, or must not be made.
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EAGAIN):
            return error.errno
    return None


def _is_child_of_the_engine() -> bool:
    from _procession_alias import variable

    if variable("PROCESSION_CHILD") is not None:
        return True
    return any(sign in argument for argument in sys.orig_argv for sign in _OF_THE_ENGINE)


def _fall_back(why: str) -> None:
    global reason
    from . import substitutes

    # First, so that where warnings are errors the import fails each time it is tried.
    substitutes.warn_once(why)
    reason = why
    substitutes.put_in_place()
