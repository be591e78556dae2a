"""A child that begins as a copy of its parent, and what all kinds of children have in common.

The sentinel is a pidfd: it tells of the child's death and of nothing else, whoever inherits which descriptors
(where the system refuses pidfds, see `_core/sentinels.py`). The child's proc_id in the engine is buried as soon
as its exit status is known.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time

from . import _engine
from ._core._typing import Any
from ._core.start.bootstrap import check_forked_child, release_forked_entry, run_forked_child
from ._core.start.main_module import sync_main_modules
from ._core.start.parent_death import dies_with_parent
from ._core.start.tracker import fork
from ._core.stdlib import util
from ._core.system import sentinels
from ._core.system.fd import KnownFd
from ._core.system.standard_io import StandardNumbersTaken

__all__ = ["Popen"]

# How long one of several that wait for a child leaves the others alone.
_REAP_RETRY_INTERVAL = 0.0005

# To look whether a child has ended, and leave it as it is.
_waitid, _BY_PID = os.waitid, os.P_PID
_AT_ONCE = os.WNOHANG
_PEEK = os.WEXITED | os.WNOWAIT | os.WNOHANG

# What a process reports whose exit status somebody else has taken.
UNKNOWN_STATUS = 255


def _close(*fds: KnownFd) -> None:
    for fd in fds:
        fd.close()


class Popen:
    """One started child; the engine knows it by `proc_id`."""

    method = "fork"

    pid: int
    sentinel: int

    def __init__(self, process_obj: Any) -> None:
        util._flush_std_streams()
        sync_main_modules()
        self.returncode: int | None = None
        self.finalizer: util.Finalize | None = None
        self.proc_id: int | None = None
        # The threads that wait for the child's end, of which the kernel tells one. (No condition variable: a
        # start pays for every object it makes.)
        self._reapers: list[int] = []
        with StandardNumbersTaken():
            self._launch(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Make a descriptor of this process exist in the child; here it does by nature."""
        return fd

    def poll(self, flag: int = _AT_ONCE) -> int | None:
        """Return the exit code, None while the child runs; wait for it if `flag` is 0."""
        if self.returncode is not None:
            return self.returncode
        try:
            # Each start of a process asks all children that live.
            if flag == _AT_ONCE and _waitid(_BY_PID, self.pid, _PEEK) is None:
                return None
        except OSError:
            pass  # Somebody else took its status, or a sandbox refuses to look.
        return self.wait(0 if flag == _AT_ONCE else None)

    def wait(self, timeout: float | None = None) -> int | None:
        """Return the exit code, None if the child still runs after `timeout` seconds."""
        if self.returncode is None and (timeout is None or self._ends_within(timeout)):
            self._reap()
        return self.returncode

    def _ends_within(self, timeout: float) -> bool:
        return sentinels.has_ended(self._sentinel, self.pid, timeout)

    def _reap(self) -> None:
        """Wait for the child's end without looking first, so that no handler of SIGCHLD meets a zombie.

        A handler may ask in the midst of this, when the status was taken and nobody knows it yet: to it the
        child runs.
        """
        me = threading.get_ident()
        self._reapers.append(me)
        code = None
        try:
            code = self._collect_status()
            if code is not None:
                self._set_returncode(code)
        finally:
            self._reapers.remove(me)
        # Whoever has taken the status is about to say so, if it was one of us.
        while self.returncode is None and self._reapers:
            if me in self._reapers:
                return
            time.sleep(_REAP_RETRY_INTERVAL)
        self._set_returncode(UNKNOWN_STATUS)

    def _set_returncode(self, code: int) -> None:
        if self.returncode is None:
            self.returncode = code
            self._reap_entry()

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send_signal(signal.SIGKILL)

    def interrupt(self) -> None:
        """Send SIGINT."""
        self._send_signal(signal.SIGINT)

    def close(self) -> None:
        """Give the sentinel back."""
        if self.finalizer is not None:
            self.finalizer()

    def _launch(self, process_obj: Any) -> None:
        _engine.ensure()
        if dies_with_parent(process_obj):
            _engine.prepare_lifeline()
        parent = sentinels.of_this_process()
        pipe = None
        try:
            pipe = sentinels.pipe_if_needed()
            pid = fork()
            if pid == 0:
                run_forked_child(process_obj, parent)
            self.proc_id = check_forked_child(pid)
        except BaseException:
            release_forked_entry()
            if pipe is not None:
                pipe.failed()
            raise
        finally:
            os.close(parent)
        self._watch(pid, pipe)

    def _watch(self, pid: int, pipe: sentinels.LivenessPipe | None = None) -> None:
        """Take charge of a child that was just started; one that cannot be watched is not left running."""
        self.pid = pid
        try:
            sentinel = sentinels.of_child(pid) if pipe is None else pipe.started()
            assert sentinel is not None, "pidfds are refused, and there is no pipe"
        except ProcessLookupError:
            # Where SIGCHLD is ignored it may have ended already, and nobody knows how.
            sentinel, write = os.pipe()
            os.close(write)
            self._own(sentinel)
            self._set_returncode(UNKNOWN_STATUS)
            return
        except OSError:
            os.kill(pid, signal.SIGKILL)
            self._collect_status()
            self._reap_entry()
            raise
        self._own(sentinel)

    def _own(self, sentinel: int, *others: int) -> None:
        self.sentinel = sentinel
        # The program may have closed it when it is looked at, and have another process behind its number.
        self._sentinel = KnownFd(sentinel)
        fds = [self._sentinel, *map(KnownFd, others)]
        self.finalizer = util.Finalize(self, _close, fds)

    def _collect_status(self) -> int | None:
        """Wait for the child's end and reap it; None if somebody else did."""
        try:
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            return None
        return os.waitstatus_to_exitcode(status)

    def _reap_entry(self) -> None:
        if self.proc_id is not None:
            _engine.bury(self.proc_id)

    def _kill(self, sig: int) -> None:
        """Signal it by its number, which is its own as long as nobody has taken its status."""
        try:
            _waitid(_BY_PID, self.pid, _PEEK)
        except ChildProcessError:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
        except OSError:
            pass  # A sandbox that refuses to look.
        os.kill(self.pid, sig)

    def _send_signal(self, sig: int) -> None:
        if self.returncode is None:
            try:
                sentinels.send_signal(self._sentinel, sig, self._kill)
            except ProcessLookupError:
                pass
            except OSError:
                if self.wait(timeout=0.1) is None:
                    raise
