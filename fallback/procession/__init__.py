"""Procession where its engine does not run: the standard library's `multiprocessing` under this name.

Names and submodules are the standard library's own objects. What only the engine can do is absent, and one
warning says so.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing import *  # noqa: F403
from typing import Any

from ._notice import give_notice
from ._submodules import name_submodules

__all__ = [*multiprocessing.__all__, "OwnerDied", "WorkerDied", "install"]


class _Died(multiprocessing.ProcessError):
    pid: int | None = None
    exitcode: int | None = None
    signal: int | None = None


class OwnerDied(_Died):
    """The process that held a lock died; the standard library does not notice and never raises this."""


class WorkerDied(_Died):
    """A pool's worker died with a task; the standard library does not notice and never raises this."""

    task: Any = None


def install(*, force: bool = False) -> None:
    """Do nothing: `multiprocessing` and this package are the same here."""


def __getattr__(name: str) -> Any:
    """What is not in `__all__`: the submodules that are loaded, SUBDEBUG and the like."""
    try:
        return getattr(multiprocessing, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


_Died.__module__ = OwnerDied.__module__ = WorkerDied.__module__ = "procession"
name_submodules()
give_notice()
