"""The command line of an interpreter that this package starts as a child or a server.

It carries the package's own path, because an interpreter started with -S or -I has no site-packages to find
the package in.
"""

from __future__ import annotations

import os

import _procession_alias

from ..stdlib import load, util
from . import main_program

__all__ = ["frozen_command", "interpreter_command", "package_import"]

# The folder that has the package.
_HOME = os.path.abspath(__file__)
for _ in range(4):
    _HOME = os.path.dirname(_HOME)


def package_import(statement: str) -> str:
    """Return a program text that runs an import from this package, with the alias if it is on.

    An interpreter started with -S or -I finds neither by itself. Empty entries of `sys.path`, which mean the
    working directory, are dropped: the directory may be gone, or have modules of the same names. The garbage
    collector is off until `procession.spawn.freeze_gc`: nothing is garbage before the program begins.
    """
    alias = (
        "import _procession_alias; _procession_alias.activate(); " if _procession_alias.is_active() else ""
    )
    return (
        f"import gc, sys; gc.disable(); sys.path = [*filter(None, sys.path), {_HOME!r}]; {alias}{statement}"
    )


def interpreter_command() -> list[str]:
    """Return the interpreter and its options for a program text, as this process has them."""
    options = util._args_from_interpreter_flags()
    if not main_program.has_directory() and "-P" not in options:
        # Python 3.13.0 looks into the working directory for each name that a module lacks.
        options = [*options, "-P"]
    return [load("spawn").get_executable(), *options, "-c"]


def frozen_command(*arguments: str) -> list[str]:
    """Return the command line by which a frozen program starts itself; `freeze_support` reads it."""
    return [load("spawn").get_executable(), *arguments]
