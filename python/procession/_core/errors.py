"""`OwnerDied` and `WorkerDied`, which the stdlib does not have, and `TimeoutError`.

`OwnerDied` and `WorkerDied` derive from `multiprocessing.ProcessError`, so code that catches that class
handles them. They keep all their attributes when pickled.
"""

from __future__ import annotations

import builtins
import signal as _signal

from . import TYPE_CHECKING
from ._typing import Any

if TYPE_CHECKING:
    import multiprocessing.context as context
else:
    from .stdlib import context

__all__ = ["OwnerDied", "TimeoutError", "WorkerDied"]


class TimeoutError(context.TimeoutError, builtins.TimeoutError):
    """A time limit has passed: both `multiprocessing.TimeoutError` and the built-in `TimeoutError`.

    The stdlib's class does not derive from the built-in one; this class derives from both.
    """


def _how_it_ended(exitcode: int | None) -> str:
    if exitcode is None:
        return "died"
    if exitcode < 0:
        try:
            name = _signal.Signals(-exitcode).name
        except ValueError:
            name = f"signal {-exitcode}"
        return f"was killed by {name}"
    return f"exited with status {exitcode}"


class _Died(context.ProcessError):
    """A process ended without an orderly exit; `signal` is derived from `exitcode` unless given."""

    def __init__(
        self,
        message: str | None = None,
        *,
        pid: int | None = None,
        exitcode: int | None = None,
        signal: int | None = None,
    ) -> None:
        if exitcode is None and signal is not None:
            exitcode = -signal
        elif signal is None and exitcode is not None and exitcode < 0:
            signal = -exitcode
        self.pid = pid
        self.exitcode = exitcode
        self.signal = signal
        super().__init__(self._describe() if message is None else message)

    def _who(self) -> str:
        return "a process" if self.pid is None else f"process {self.pid}"

    def _describe(self) -> str:
        return f"{self._who()} {_how_it_ended(self.exitcode)}"

    def _known(self) -> dict[str, Any]:
        return {"pid": self.pid, "exitcode": self.exitcode, "signal": self.signal}

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (type(self), self.args, self._known()), self.__dict__


class OwnerDied(_Died):
    """The process that held this lock died.

    The lock is free again, but what it guards may be half changed. `pid`, `exitcode` and `signal` describe
    the death, each None if unknown. `acquire(on_owner_died="hold")` acquires the lock all the same, for a
    repair.
    """

    def _describe(self) -> str:
        return (
            f"{self._who()} {_how_it_ended(self.exitcode)} while it held this lock; the lock is free again, "
            'but check what it guards (acquire(on_owner_died="hold") gives you the lock for the repair)'
        )


class WorkerDied(_Died):
    """A worker of a pool died while it ran a task.

    `task` names the function and the item; `pid`, `exitcode` and `signal` describe the death, each None if
    unknown.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        pid: int | None = None,
        exitcode: int | None = None,
        signal: int | None = None,
        task: Any = None,
    ) -> None:
        self.task = task
        super().__init__(message, pid=pid, exitcode=exitcode, signal=signal)

    def _who(self) -> str:
        return "a pool worker" if self.pid is None else f"pool worker {self.pid}"

    def _describe(self) -> str:
        doing = "" if self.task is None else f" while it ran {self.task}"
        return f"{super()._describe()}{doing}; the task was not finished"

    def _known(self) -> dict[str, Any]:
        return {**super()._known(), "task": self.task}


def _remake(kind: type[_Died], args: tuple[Any, ...], known: dict[str, Any]) -> _Died:
    return kind(*args, **known)


# The public name, which pickles and tracebacks use.
OwnerDied.__module__ = WorkerDied.__module__ = "procession"
