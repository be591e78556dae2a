"""Checks of arguments, with errors that name the argument and say what it must be.

These are for functions in Python. The native module's functions name their arguments in a note of the error.
"""

from __future__ import annotations

from operator import index

from ._typing import Any

__all__ = [
    "check_call",
    "check_callable",
    "check_iterable",
    "check_task",
    "given_policy",
    "seconds",
    "whole_number",
]

_LARGEST_COUNT = 2**32 - 1


def given_policy(task_timeout: float | None, retries: int, fail_fast: bool) -> dict[str, Any]:
    """Return the arguments that the stdlib does not have, without those that have their default."""
    policy = {"task_timeout": task_timeout, "retries": retries, "fail_fast": fail_fast}
    return {} if task_timeout is None and retries == 0 and not fail_fast else policy


def whole_number(name: str, value: Any) -> int:
    """Return the value as an int. Raises TypeError if it is not a whole number."""
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {value!r}") from None


def seconds(name: str, value: Any) -> float | None:
    """Return the value as seconds; None means no limit. Raises TypeError for other types."""
    if value is None:
        return None
    # Not float(value): a str of digits is a mistake.
    if hasattr(type(value), "__float__") or hasattr(type(value), "__index__"):
        return float(value)
    raise TypeError(f"{name} must be a number of seconds or None, not {value!r}")


def check_callable(name: str, value: Any) -> None:
    """Raise TypeError unless the value is callable or None."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable or None, not {value!r}")


def check_iterable(name: str, value: Any, of: str = "") -> None:
    """Raise TypeError unless the value is iterable."""
    try:
        iter(value)
    except TypeError:
        raise TypeError(f"{name} must be iterable{of}, not {value!r}") from None


def check_task(task_timeout: Any, retries: Any) -> None:
    """Raise TypeError or ValueError for impossible limits of tasks."""
    limit = seconds("task_timeout", task_timeout)
    if limit is not None and not limit > 0:
        raise ValueError(f"task_timeout must be greater than 0, not {task_timeout!r}")
    if not 0 <= whole_number("retries", retries) <= _LARGEST_COUNT:
        raise ValueError(f"retries must be 0 or more, not {retries!r}")


def check_call(func: Any, args: Any, kwds: Any) -> None:
    """Raise TypeError for what cannot be a call: `apply(f, 1)` for `apply(f, (1,))` is a common mistake."""
    if not callable(func):
        raise TypeError(f"func must be callable, not {func!r}")
    check_iterable("args", args, " (the arguments of one call, as in `(1,)`)")
    if not hasattr(kwds, "keys"):
        raise TypeError(f"kwds must be a mapping of names to arguments, not {kwds!r}")
