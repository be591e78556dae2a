"""Why a program hangs: what the processes of a tree hold and wait for, as a text for a person.

A process that gets the signal shows the stacks of its threads at once, even in the middle of C code. The rest
follows when its main thread next runs Python code, which a thread that sleeps in this package does at once.
"""

from __future__ import annotations

import faulthandler
import io
import os
import signal
import sys
from collections.abc import Callable

from _procession_alias import variable

from .._typing import Any
from ..arguments import whole_number
from ..fallback import choice
from ..system.fd import anonymous_file
from .origins import name_this_process, watch_constructors

__all__ = [
    "VARIABLE",
    "debug_as_environment_says",
    "debug_dump",
    "debug_on_signal",
    "record_origins",
    "show_crashes",
]

VARIABLE = "PROCESSION_DEBUG_SIGNAL"

# Returns a public module of the package by its name: the constructors to watch are there.
Load = Callable[[str], Any]


def debug_dump(file: Any = None) -> None:
    """See `procession.debug_dump`."""
    out = sys.stderr if file is None else file
    out.write(_describe_tree())
    out.flush()
    _write_stacks(out)


def _describe_tree() -> str:
    if choice.reason is not None:
        return (
            "Procession: it is not known what the processes of this tree hold and wait for, since procession "
            f"{choice.reason}\n\n"
        )
    from procession import _native

    _native.ensure_registered()
    name_this_process()
    members, findings = _native.report()
    lines = [f"Procession: {len(members)} process{'es'[: 2 * (len(members) > 1)]} in this tree"]
    for member in members:
        own = " (this one)" if member["pid"] == os.getpid() else ""
        name = f"{member['name']}, " if member["name"] else ""
        lines.append(f"process {member['pid']}{own}: {name}{_command_of(member['pid'])}")
        if member["holds"]:
            lines.append(f"    holds {', '.join(member['holds'])}")
        lines += [
            f"    has waited for {seconds:.1f} s to {purpose} {at}{holder and f', held by {holder}' or ''}"
            for purpose, at, seconds, holder in member["waits"]
        ]
    lines += [f"This does not end by itself: {finding}." for finding in findings]
    return "\n".join(lines) + "\n\n"


def _command_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()[:100]
    except OSError:
        return "?"


def _write_stacks(out: Any) -> None:
    try:
        faulthandler.dump_traceback(out, all_threads=True)
    except (AttributeError, ValueError, io.UnsupportedOperation):
        # `out` has no descriptor: write to a file first.
        with anonymous_file("stacks", "w+") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            out.write(file.read())


def debug_on_signal(load: Load, number: int | None = None) -> None:
    """See `procession.debug_on_signal`."""
    if number is None:
        number = _number_of(variable(VARIABLE) or "USR2")
    number = whole_number("number", number)
    os.environ[VARIABLE] = str(number)
    record_origins(load)
    try:
        signal.signal(number, _show_tree)
    except ValueError:
        # Only the main thread may set handlers. Without one, the signal shows just the stacks.
        faulthandler.register(number, file=2, all_threads=True)
    else:
        faulthandler.register(number, file=2, all_threads=True, chain=True)


def debug_as_environment_says(load: Load) -> None:
    """Call `debug_on_signal` if the environment says so, and may be trusted."""
    if variable(VARIABLE) is not None:
        debug_on_signal(load)


def record_origins(load: Load) -> None:
    """From here on, note where objects are made and what processes are called, for reports."""
    if choice.reason is None:
        watch_constructors(load)


def _show_tree(signum: int, frame: Any) -> None:
    # faulthandler has shown the stacks already.
    sys.stderr.write(_describe_tree())
    sys.stderr.flush()


def _number_of(name: str) -> int:
    if name.isdigit():
        return int(name)
    full = name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"
    try:
        return signal.Signals[full].value
    except KeyError:
        raise ValueError(f"{VARIABLE} must name a signal, such as USR2, not {name!r}") from None


def show_crashes() -> None:
    """Make a crash of this process show its Python stack, unless the program has enabled that already."""
    if not faulthandler.is_enabled():
        try:
            faulthandler.enable(2)
        except (OSError, ValueError, RuntimeError):
            # There is no standard error.
            pass
