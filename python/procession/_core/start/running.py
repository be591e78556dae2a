"""Running a process object by its own `_bootstrap`, and reporting the exception that ends it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

from .._typing import Any
from .exit_mark import exit_function

__all__ = ["exit_code", "report_error", "run_bootstrap"]

# Since 3.13 the stdlib's `_bootstrap` leaves it to the exit handlers to call `util._exit_function`.
_BOOTSTRAP_CALLS_EXIT_FUNCTION = sys.version_info < (3, 13)


def run_bootstrap(process_obj: Any, parent: int) -> int:
    """Run the process by its own `_bootstrap`, the stdlib's or another; return the exit code."""
    process_obj.run = functools.partial(_run_within_bootstrap, process_obj, process_obj.run)
    code: int = process_obj._bootstrap(parent)
    return code


def _run_within_bootstrap(this: Any, run: Callable[[], object]) -> None:
    """Call `run`, and do what `_bootstrap` leaves out."""
    try:
        run()
    except SystemExit:
        raise
    except BaseException:
        if sys.excepthook is sys.__excepthook__:
            raise
        sys.exit(report_error(this))
    finally:
        if _BOOTSTRAP_CALLS_EXIT_FUNCTION:
            exit_function()


def exit_code(end: SystemExit) -> int:
    """Return the exit code that `sys.exit` asked for; a text is printed."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code
    sys.stderr.write(str(end.code) + "\n")
    return 1


def report_error(this: Any) -> int:
    """Report the exception that ends the process; return the exit code."""
    sys.stderr.write(f"Process {this.name}:\n")
    if sys.excepthook is not sys.__excepthook__:
        try:
            sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType]
            return 1
        except SystemExit as end:
            return exit_code(end)
        except BaseException:
            # The error of the hook, whose context is the exception that ended the process.
            _print_traceback()
            return 1
    _print_traceback()
    return 1


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()
