"""The stdlib's resource tracker: one for a whole tree, or a child's exit would unlink what is still in use.

It starts when a process first needs it. Until then, the processes of the tree share the pipe that it will
read, and a token in another pipe: the first process that needs the tracker takes the token and starts it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading

from procession import _native

from .._typing import Any
from ..stdlib import load, loaded, util

__all__ = ["adopt_tracker", "fork", "passed_tracker"]


def fork() -> int:
    """Fork a child that keeps this process's tracker.

    Newer Pythons take the tracker away from forked children, unless told otherwise before the fork. Such a
    child would start its own tracker, which unlinks at the child's exit every segment the child has opened.
    """
    tracker: Any = loaded("resource_tracker")
    intent = getattr(tracker, "_fork_intent", None)
    if intent is None:
        return os.fork()
    intent.preserve_fd = True
    try:
        return os.fork()
    finally:
        intent.preserve_fd = False


class _Pending:
    """A tracker that is not started yet."""

    # The methods that the stdlib calls before it uses a tracker.
    _HOOKS = ("ensure_running", "_send")

    def __init__(self, fds: list[int], *, is_first: bool) -> None:
        self.fds = fds
        self._identities = [_native.identity_of(fd) for fd in fds]
        # Only the first process waits for the tracker at its exit: by then all others have ended.
        self._is_first = is_first
        self._lock = threading.Lock()
        self._module: Any = load("resource_tracker")
        self._tracker: Any = self._module._resource_tracker
        for name in self._HOOKS:
            setattr(self._tracker, name, self._after_start(getattr(self._tracker, name)))
        # The module has its own name for the method.
        self._ensure_running = self._module.ensure_running
        self._module.ensure_running = self._after_start(self._ensure_running)
        self._tracker._stop = self._stopping(self._tracker._stop)
        os.register_at_fork(after_in_child=self._after_fork)

    def is_whole(self) -> bool:
        """Return whether the descriptors are unchanged: a program may have closed them."""
        return self._identities == [_native.identity_of(fd) for fd in self.fds]

    def drop(self) -> None:
        """Restore the stdlib's tracker object."""
        global _pending
        _pending = None
        for name in (*self._HOOKS, "_stop"):
            vars(self._tracker).pop(name, None)
        self._module.ensure_running = self._ensure_running

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._is_first = False

    def _after_start(self, method: Any) -> Any:
        def start_first(*args: Any) -> Any:
            self._start_or_adopt()
            return method(*args)

        return start_first

    def _stopping(self, method: Any) -> Any:
        def stop(*args: Any, **kwds: Any) -> Any:
            if _pending is self and self.is_whole() and not self._is_needed():
                # Nothing was ever tracked: the exit code is that of a tracker which found nothing.
                self._tracker._exitcode = 0
            return method(*args, **kwds)

        return stop

    def _is_needed(self) -> bool:
        """Return whether another process has taken the token, and started the tracker or is about to."""
        return not select.select([self.fds[2]], [], [], 0)[0]

    def _start_or_adopt(self) -> None:
        with self._lock:
            if _pending is not self:
                return
            self.drop()
            if not self.is_whole():
                return
            write, read, token = self.fds
            if self._tracker._fd is None:
                if os.read(token, 1):
                    pid = _start_tracker(read)
                    self._tracker._pid = pid if self._is_first else None
                self._tracker._fd = write
            else:
                os.close(write)
            os.close(read)
            os.close(token)


_pending: _Pending | None = None


def _start_tracker(read: int) -> int:
    executable = load("spawn").get_executable()
    program = f"from multiprocessing.resource_tracker import main;main({read})"
    passed = [read]
    try:
        passed.append(sys.stderr.fileno())
    except Exception:
        pass  # There may be no standard error, or one that is no file.
    # The tracker inherits the mask, so that no signal ends it before it ignores them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        command = [executable, *util._args_from_interpreter_flags(), "-c", program]
        pid: int = util.spawnv_passfds(executable, command, passed)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def passed_tracker() -> list[int]:
    """Return what a child gets: the tracker's descriptor, or the three of a tracker not started yet."""
    global _pending
    tracker = load("resource_tracker")._resource_tracker
    if tracker._fd is not None or "multiprocessing.shared_memory" in sys.modules:
        return [tracker.getfd()]
    if _pending is not None and not _pending.is_whole():
        _pending.drop()
    if _pending is None:
        read, write = os.pipe()
        token, put = os.pipe()
        os.write(put, b"T")
        os.close(put)
        _pending = _Pending([write, read, token], is_first=True)
    return _pending.fds


def adopt_tracker(fds: list[int]) -> None:
    """In a child: use the tracker that the parent passed."""
    global _pending
    if _pending is not None:
        _pending.drop()
    is_running = len(fds) == 1
    load("resource_tracker")._resource_tracker._fd = fds[0] if is_running else None
    if fds and not is_running:
        _pending = _Pending(fds, is_first=False)
