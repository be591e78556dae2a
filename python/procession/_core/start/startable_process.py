"""The base class of this package's processes: checked arguments, and a start that asks no living child."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping

from .. import TYPE_CHECKING
from .._typing import Any
from ..stdlib import process, unpatched

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
else:
    BaseProcess = process.BaseProcess

__all__ = ["StartableProcess", "allow_daemons_children"]

_process: Any = process
_start = unpatched(process, "BaseProcess.start")


class StartableProcess(BaseProcess):
    """The methods of processes on every Python version, including the newest ones."""

    _popen: Any
    _Popen: Any
    _sentinel: int
    _parent_pid: int
    _target: Any
    _args: Any
    _kwargs: Any
    _check_closed: Callable[[], None]

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        if target is not None and not callable(target):
            raise TypeError(f"target must be callable or None, not {target!r}")
        if type(args) is not tuple:
            from ..arguments import check_iterable

            check_iterable("args", args, " (the arguments of the target, as in `(1,)`)")
        if kwargs is not None and not hasattr(kwargs, "keys"):
            raise TypeError(f"kwargs must be a mapping of names to arguments or None, not {kwargs!r}")
        super().__init__(group, target, name, args, {} if kwargs is None else kwargs, daemon=daemon)

    def start(self) -> None:
        """Start the child, which calls `run`; once for each object, by the process that made it."""
        # A tool may have replaced the base class's method, or another base class may have one.
        inherited = super().start
        if getattr(inherited, "__func__", None) is not _start and not _may_daemons_start:
            inherited()
            return
        # As the base class does, except that the package's `Popen` looks for children that have ended: only
        # it can do that without asking each one.
        self._check_closed()
        assert self._popen is None, "cannot start a process twice"
        assert self._parent_pid == os.getpid(), "can only start a process object created by current process"
        assert _may_daemons_start or not _process._current_process._config.get("daemon"), (
            "daemonic processes are not allowed to have children"
        )
        self._popen = self._Popen(self)
        self._sentinel = self._popen.sentinel
        if not getattr(self._popen, "looks_for_ended_children", False):
            _process._cleanup()
        # The target may refer to this object.
        del self._target, self._args, self._kwargs
        _process._children.add(self)

    def interrupt(self) -> None:
        """Send SIGINT to the process, as Ctrl-C does."""
        self._check_closed()
        if hasattr(self._popen, "interrupt"):
            self._popen.interrupt()
        else:
            # The standard library's, before Python 3.14.
            self._popen._send_signal(signal.SIGINT)


_may_daemons_start = False


def allow_daemons_children() -> None:
    """Let this process start others although it is a daemon.

    The stdlib forbids it because they would be left behind when the daemon is killed. Here they are not.
    """
    global _may_daemons_start
    _may_daemons_start = True
