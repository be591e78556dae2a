"""A started child: wait for it, signal it, reap it. The base of the `Popen` of every start method.

The sentinel is a pidfd. It becomes readable when the child ends and at no other time, whoever inherits which
descriptors; where the system refuses pidfds, see `system/sentinels.py`. The child's entry in the engine's
process table is reaped as soon as its exit status is known.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time

from procession import _native
from procession._native import KnownFd

from .._typing import Any
from ..stdlib import process, util
from ..system import sentinels
from .main_module import sync_main_modules

__all__ = ["UNKNOWN_STATUS", "ChildProcess"]

# How long a thread that waits for a child sleeps while another thread reaps it, in seconds.
_REAP_RETRY_INTERVAL = 0.0005

# Arguments that ask whether a child has ended, and leave it to be reaped.
_waitid, _BY_PID = os.waitid, os.P_PID
_AT_ONCE = os.WNOHANG
_PEEK = os.WEXITED | os.WNOWAIT | os.WNOHANG

# The exit code of a child whose exit status something else has taken.
UNKNOWN_STATUS = 255


_process: Any = process


class ChildProcess:
    """One started child; `proc_id` is its entry in the engine's process table."""

    method: str
    looks_for_ended_children = True

    pid: int
    sentinel: int

    def __init__(self, process_obj: Any) -> None:
        if not _native.are_all_alive(len(_process._children)):
            # It asks each child.
            _process._cleanup()
        util._flush_std_streams()
        sync_main_modules(own_callers=3)
        self.returncode: int | None = None
        self.proc_id: int | None = None
        # The threads that wait for the child's end; the kernel tells one of them. No condition variable: a
        # start pays for every object it makes.
        self._reapers: list[int] = []
        # A forked child keeps them.
        taken = _native.fill_standard_numbers()
        try:
            self._launch(process_obj)
        finally:
            for fd in taken:
                os.close(fd)

    def duplicate_for_child(self, fd: int) -> int:
        """Make a descriptor of this process exist in the child; a forked child inherits it."""
        return fd

    def poll(self, flag: int = _AT_ONCE) -> int | None:
        """Return the exit code, None while the child runs; wait for it if `flag` is 0."""
        if self.returncode is not None:
            return self.returncode
        try:
            # `active_children` and `is_alive` come here for children that live.
            if flag == _AT_ONCE and _waitid(_BY_PID, self.pid, _PEEK) is None:
                return None
        except OSError:
            pass  # Something else took its status, or a sandbox forbids to look.
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

        A signal handler may ask between the two steps, when the status is taken and not yet stored. For it
        the child still runs.
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
        # If another thread here has taken the status, it is about to store it.
        while self.returncode is None and self._reapers:
            if me in self._reapers:
                return
            time.sleep(_REAP_RETRY_INTERVAL)
        self._set_returncode(UNKNOWN_STATUS)

    def _set_returncode(self, code: int) -> None:
        if self.returncode is None:
            self.returncode = code
            _native.discard_sentinel(self.sentinel)
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
        """Close the sentinel."""
        for fd in self._owned:
            fd.close()

    def _launch(self, process_obj: Any) -> None:
        """Start the child and take charge of it, by `_watch` or `_own`."""
        raise NotImplementedError

    def _watch(self, pid: int, pipe: sentinels.LivenessPipe | None = None) -> None:
        """Take charge of a child that was just started; one that cannot be watched is not left running."""
        self.pid = pid
        try:
            sentinel = sentinels.of_child(pid) if pipe is None else pipe.started()
            assert sentinel is not None, "pidfds are refused, and there is no liveness pipe"
        except ProcessLookupError:
            # Where SIGCHLD is ignored the child may have ended already, and its status is lost.
            sentinel, write = os.pipe()
            os.close(write)
            self._own(KnownFd(sentinel))
            self._set_returncode(UNKNOWN_STATUS)
            return
        except OSError:
            os.kill(pid, signal.SIGKILL)
            self._collect_status()
            self._reap_entry()
            raise
        self._own(KnownFd(sentinel))

    def _own(self, sentinel: KnownFd, *others: KnownFd) -> None:
        self.sentinel = sentinel.number
        self._sentinel = sentinel
        self._owned = (sentinel, *others)
        _native.add_sentinel(self.sentinel)

    def _collect_status(self) -> int | None:
        """Wait for the child's end and reap it; None if something else did."""
        try:
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            return None
        return os.waitstatus_to_exitcode(status)

    def _reap_entry(self) -> None:
        if self.proc_id is not None:
            _native.reap(self.proc_id)

    def _kill(self, sig: int) -> None:
        """Signal the child by its pid, which is its own until its status is taken."""
        try:
            _waitid(_BY_PID, self.pid, _PEEK)
        except ChildProcessError:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
        except OSError:
            pass  # A sandbox that forbids to look.
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
