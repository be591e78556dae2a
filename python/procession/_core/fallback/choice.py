"""Decides whether the engine runs here, or the standard library replaces it.

The standard library is used where there is no engine for the system, or it cannot be loaded, or the system
refuses anonymous shared memory (an old container engine, a sandbox). The package decides when it is imported.
A program may enter a sandbox later, so the package decides again before the first object is made. From then
on, contexts make the standard library's objects.

A child uses what its parent uses: all kinds of children inherit the refusals that lead here. A child of a
process with the engine that starts in a sandbox keeps the engine, because it has its parent's memory.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from importlib import import_module

from .._typing import Any

__all__ = ["VARIABLE", "before_first_object", "choose", "needs_engine", "reason"]

# "error" makes the fallback an ImportError; any other value silences the warning.
VARIABLE = "PROCESSION_FALLBACK"

_PACKAGE = "procession"

# Parts of the command line of children that use the engine.
_OF_THE_ENGINE = (
    "procession.spawn import spawn_main",
    "procession.forkserver import main",
    "--multiprocessing.forkserver",
    "handshake=",
    "procession.rust import main",
)

# Why the engine does not run; None while it does.
reason: str | None = None
_deciding = threading.Lock()

# The context behind the package's own functions, which pools use by default; `procession.context` sets it.
default_context: Any = None


def choose() -> None:
    """Decide when the package is imported. Raises ImportError if the environment forbids the fallback."""
    if (why := _refusal()) is None or _is_child_of_the_engine():
        return
    if _is_forbidden():
        raise ImportError(f"procession {why}, and {VARIABLE}=error forbids the fallback", name=_PACKAGE)
    _fall_back(why)


def before_first_object() -> None:
    """Decide again, before the first object that needs the engine is made."""
    if reason is not None or _is_forbidden():
        return
    with _deciding:
        if reason is None and (why := _refusal()) is not None:
            _fall_back(why)


def needs_engine(what: str) -> NotImplementedError:
    """Return the error for a feature that needs the engine."""
    return NotImplementedError(f"{what} needs the engine, and procession {reason}")


def _is_forbidden() -> bool:
    from _procession_alias import variable

    return variable(VARIABLE) == "error"


def _refusal() -> str | None:
    loaded = f"{_PACKAGE}._native" in sys.modules
    if not loaded and (number := _refusal_of_random_numbers()) is not None:
        return f"cannot run its engine, since this system refuses getrandom (errno {number})"
    try:
        engine = import_module(f"{_PACKAGE}._native")
    except ModuleNotFoundError:
        return "has no engine for this system"
    except ImportError as error:
        return f"could not load its engine ({error})"
    refused: str | None = engine.unavailable_reason()
    return refused and f"cannot run its engine, since {refused.partition(';')[0]}"


def _refusal_of_random_numbers() -> int | None:
    """Return the errno of getrandom where it would make Rust's library panic while the engine is loaded."""
    try:
        if hasattr(os, "getrandom"):
            os.getrandom(1, os.GRND_NONBLOCK)
    except OSError as error:
        # Without the call, or without permission for it, Rust's library reads a file.
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EAGAIN):
            return error.errno
    return None


def _is_child_of_the_engine() -> bool:
    return any(sign in argument for argument in sys.orig_argv for sign in _OF_THE_ENGINE)


def _fall_back(why: str) -> None:
    global reason
    from . import substitutes

    # Warn first: where warnings are errors, each attempt to import fails.
    substitutes.warn_once(why)
    reason = why
    substitutes.put_in_place()
