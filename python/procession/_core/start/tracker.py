"""The stdlib's resource tracker: one for a tree, or a child's end would unlink what is still in use.

It is started when somebody needs it. Processes that were started before share what it will read, a pipe, and
a token: whoever needs the tracker first takes the token, and starts it for all.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading

from .._typing import Any
from ..stdlib import load, loaded, util
from ..system.fd import identity_of

__all__ = ["adopt_tracker", "fork", "passed_tracker"]


def fork() -> int:
    """Fork a child that goes on with this process's tracker.

    Newer Pythons take the tracker away from forked children, unless they are told before; such a child would
    start its own, which unlinks at the child's end every segment that the child has opened.
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
    """A tracker that nobody has needed yet."""

    # What the stdlib's object calls before it does anything with a tracker.
    _HOOKS = ("ensure_running", "_send")

    def __init__(self, fds: list[int], *, is_first: bool) -> None:
        self.fds = fds
        self._identities = [identity_of(fd) for fd in fds]
        # Only where it was made is it waited for at the end: there all others have ended.
        self._is_first = is_first
        self._lock = threading.Lock()
        self._tracker: Any = load("resource_tracker")._resource_tracker
        for name in self._HOOKS:
            setattr(self._tracker, name, self._after_start(getattr(self._tracker, name)))
        self._tracker._stop = self._stopping(self._tracker._stop)
        os.register_at_fork(after_in_child=self._after_fork)

    def is_whole(self) -> bool:
        """Whether the descriptors are still these: a program may have closed what it does not know."""
        return self._identities == [identity_of(fd) for fd in self.fds]

    def drop(self) -> None:
        """Take the tracker as the stdlib makes it."""
        global _pending
        _pending = None
        for name in (*self._HOOKS, "_stop"):
            vars(self._tracker).pop(name, None)

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
                # Nothing was ever tracked, so nothing is left: what a tracker would have ended with.
                self._tracker._exitcode = 0
            return method(*args, **kwds)

        return stop

    def _is_needed(self) -> bool:
        """Whether another process that has the token has started the tracker, or is about to."""
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
        pass  # There may be none, or one that is no file.
    # The tracker inherits the mask: no signal ends it before it ignores them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        command = [executable, *util._args_from_interpreter_flags(), "-c", program]
        return util.spawnv_passfds(executable, command, passed)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def passed_tracker() -> list[int]:
    """What a child is given: the tracker's descriptor, or the three of one that is still to be started."""
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
    """In a child: go on with what the parent passed."""
    global _pending
    if _pending is not None:
        _pending.drop()
    is_running = len(fds) == 1
    load("resource_tracker")._resource_tracker._fd = fds[0] if is_running else None
    if fds and not is_running:
        _pending = _Pending(fds, is_first=False)
