"""The fork server's loop, and the messages that it exchanges with its clients.

A request is one message on the control socket. It has the child's process-table entry, and as descriptors the
socket to report on, then those that `Request` lists. Reports are messages too. The *child* reports that it
has started, and the server reports that it has ended. So if one of the two is killed, the client hears from
the other; it sees the end of the socket only when no child was started or nothing more can be known.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # its functions know no enumerations, and are faster
import array
import errno
import os
import select
import signal
import socket
import struct
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from procession import _native

from ..system.fd import REFUSALS
from ..system.sentinels import of_child
from .bootstrap import Role, reap_incomplete_child, release_forked_entry, run_forked_child

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MOST_FDS", "Report", "Request", "Server", "pair", "read_end", "receive_report", "send_request"]

STARTED, ENDED, REFUSED = range(3)

# The kernel passes at most this many descriptors with one message.
MOST_FDS = 253

_REQUEST = struct.Struct("=I??BB")
_REPORT = struct.Struct("=Bqq")
_LONGEST_MESSAGE = 64


class Report(NamedTuple):
    """The outcome of a request; `value` is the exit code of a child, or the errno of a refusal."""

    kind: int
    pid: int
    value: int
    pidfd: int | None = None


class Request(NamedTuple):
    """What a new child gets.

    With `control` it can ask for children of its own. With `lifeline` it dies with the process that asked for
    it. `changes` is a file of the attributes that have changed since the server was started, among them
    perhaps the `standard` descriptors.
    """

    proc_id: int
    payload: int
    parent: int
    control: int
    lifeline: int | None
    changes: int | None
    tracker: list[int]
    standard: list[int]
    others: list[int]


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets for messages; they block, whatever `socket.setdefaulttimeout` says."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(True)
    return ends


def send_request(request: Request, report_to: socket.socket) -> None:
    """Ask the server at the other end of `request.control` for a child."""
    optional = request.lifeline, request.changes
    fds = [report_to.fileno(), request.payload, request.parent, request.control]
    fds += [fd for fd in optional if fd is not None]
    with _borrowed(request.control) as control:
        there = (fd is not None for fd in optional)
        message = _REQUEST.pack(request.proc_id, *there, len(request.tracker), len(request.standard))
        _send(control, message, fds + request.tracker + request.standard + request.others)


def receive_report(reports: socket.socket) -> Report | None:
    """Wait for the first report on a request; None if there will be none."""
    try:
        message, fds, _ = _receive(reports, 1)
    except ConnectionError:
        return None
    if not message:
        return None
    kind, pid, value = _REPORT.unpack(message)
    return Report(kind, pid, value, fds[0] if fds else None)


def read_end(reports: int) -> int | None:
    """Wait for a started child's exit code, then let the server reap it; None if the server has died."""
    with _borrowed(reports) as server:
        try:
            message = server.recv(_LONGEST_MESSAGE)
            server.shutdown(socket.SHUT_RDWR)
        except OSError:
            message = b""
    return Report(*_REPORT.unpack(message)).value if message else None


class Server:
    """Forks a child for every request, until no process holds the control socket any more."""

    def __init__(self, control: int, role_of: Callable[[Request], Role]) -> None:
        self._control = control
        self._role_of = role_of
        # Unlike epoll, poll has no descriptor that a child would have to close.
        self._poller = select.poll()
        self._poller.register(control, select.POLLIN)
        # Running child -> its pidfd, if there are pidfds, and the socket to report its end on.
        self._running: dict[int, tuple[int | None, socket.socket]] = {}
        # pidfd -> child
        self._pid_by_pidfd: dict[int, int] = {}
        # Where the system refuses pidfds: SIGCHLD makes the first readable by writing to the second.
        self._sigchld_pipe: tuple[socket.socket, socket.socket] | None = None
        # The descriptor of a socket on which an end was reported -> the socket, and the child. The child is
        # not reaped until the client has read the report, so its pid stays valid as that of a forked child
        # does.
        self._ended: dict[int, tuple[socket.socket, int | None]] = {}
        # Ctrl-C is for the programs that ask for children, not for the server. A program that ignores
        # SIGCHLD, or reaps in its handler, would lose the exit codes.
        self._handlers = {
            signal.SIGINT: _signal.signal(signal.SIGINT, _signal.SIG_IGN),
            signal.SIGCHLD: _signal.signal(signal.SIGCHLD, _signal.SIG_DFL),
        }

    def run(self) -> None:
        """Serve until no client is left."""
        has_clients = True
        # The last client may exit before the end of its child was reported.
        while has_clients or self._running:
            for fd, _ in self._poller.poll():
                if fd == self._control:
                    has_clients = self._answer()
                    if not has_clients:
                        self._poller.unregister(fd)
                elif fd in self._ended:
                    self._release_child(fd)
                elif fd in self._pid_by_pidfd:
                    self._report_end(self._pid_by_pidfd.pop(fd))
                else:
                    self._report_all_ends()

    def _answer(self) -> bool:
        with _borrowed(self._control) as control:
            message, fds, truncated = _receive(control, MOST_FDS)
        if not message:
            return False
        if fds:
            with socket.socket(fileno=fds.pop(0)) as report_to:
                try:
                    if truncated:
                        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                    self._fork(_unpack_request(message, fds), report_to)
                except OSError as error:
                    _send_report(report_to, Report(REFUSED, 0, error.errno or 0))
                finally:
                    for fd in fds:
                        os.close(fd)
        return True

    def _fork(self, request: Request, report_to: socket.socket) -> None:
        try:
            pid = os.fork()
        except OSError:
            release_forked_entry()
            raise
        if pid == 0:
            run_forked_child(None, 0, lambda: self._become_child(request, report_to))
        proc_id, child, error = _native.confirm_fork(pid)
        if error is not None:
            reap_incomplete_child(pid, proc_id)
            # Else there is no memory to make the child a holder of what this server holds.
            number = getattr(error, "errno", None) or errno.ENOMEM
            raise OSError(number, os.strerror(number))
        try:
            still_needed = report_to.dup()
            pidfd = of_child(pid) if child is None else child.detach()
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        _native.set_pid(request.proc_id, pid)
        self._running[pid] = pidfd, still_needed
        if pidfd is None:
            self._watch_sigchld()
            # The child may have ended before the handler was set.
            self._report_all_ends()
        else:
            self._pid_by_pidfd[pidfd] = pid
            self._poller.register(pidfd, select.POLLIN)

    def _watch_sigchld(self) -> None:
        if self._sigchld_pipe is not None:
            return
        here, there = self._sigchld_pipe = socket.socketpair()
        here.setblocking(False)
        there.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
        self._poller.register(here, select.POLLIN)

    def _report_all_ends(self) -> None:
        """Report every child that has ended: several signals may arrive as one."""
        assert self._sigchld_pipe is not None
        try:
            while self._sigchld_pipe[0].recv(_LONGEST_MESSAGE):
                pass
        except BlockingIOError:
            pass
        for pid in list(self._running):
            self._report_end(pid)

    def _become_child(self, request: Request, report_to: socket.socket) -> Role:
        os.close(self._control)
        for pidfd, client in self._running.values():
            if pidfd is not None:
                os.close(pidfd)
            client.close()
        if self._sigchld_pipe is not None:
            signal.set_wakeup_fd(-1)
            for end in self._sigchld_pipe:
                end.close()
        for client, _ in self._ended.values():
            client.close()
        for number, handler in self._handlers.items():
            if handler is not None:
                _signal.signal(number, handler)
        pidfd = of_child(os.getpid())
        _send_report(report_to, Report(STARTED, os.getpid(), 0, pidfd))
        if pidfd is not None:
            os.close(pidfd)
        os.close(report_to.detach())
        _native.claim_entry(request.proc_id)
        return self._role_of(request)

    def _report_end(self, pid: int) -> None:
        """Report that a child has ended, if it has."""
        ended = _end_of(pid)
        if ended is None:
            return
        code, is_reaped = ended
        pidfd, report_to = self._running.pop(pid)
        if pidfd is not None:
            self._poller.unregister(pidfd)
            os.close(pidfd)
        _send_report(report_to, Report(ENDED, pid, code))
        self._ended[report_to.fileno()] = report_to, None if is_reaped else pid
        self._poller.register(report_to, select.POLLIN)

    def _release_child(self, fd: int) -> None:
        """Reap a child whose report the client has read, or whose client is gone."""
        self._poller.unregister(fd)
        report_to, pid = self._ended.pop(fd)
        if pid is not None:
            os.waitpid(pid, 0)
        report_to.close()


def _end_of(pid: int) -> tuple[int, bool] | None:
    """Return the exit code of a child, and whether it is reaped already; None while it runs."""
    try:
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        gone, status = os.waitpid(pid, os.WNOHANG)
        return (os.waitstatus_to_exitcode(status), True) if gone else None
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status, False


def _unpack_request(message: bytes, fds: list[int]) -> Request:
    proc_id, *is_there, trackers, standards = _REQUEST.unpack(message)
    payload, parent, control, *others = fds
    lifeline, changes = (others.pop(0) if there else None for there in is_there)
    tracker, others = others[:trackers], others[trackers:]
    standard, others = others[:standards], others[standards:]
    return Request(proc_id, payload, parent, control, lifeline, changes, tracker, standard, others)


def _send_report(report_to: socket.socket, report: Report) -> None:
    """Report to a client, which may be gone."""
    fds = [] if report.pidfd is None else [report.pidfd]
    try:
        _send(report_to, _REPORT.pack(report.kind, report.pid, report.value), fds)
    except ConnectionError:
        pass


def _send(connection: socket.socket, message: bytes, fds: list[int]) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    connection.sendmsg([message], ancillary, socket.MSG_NOSIGNAL)


def _receive(connection: socket.socket, most_fds: int) -> tuple[bytes, list[int], bool]:
    """Receive one message, its descriptors (none inheritable), and whether some of them are missing."""
    room = socket.CMSG_SPACE(most_fds * array.array("i").itemsize)
    message, ancillary, flags, _ = connection.recvmsg(_LONGEST_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return message, fds.tolist(), bool(flags & socket.MSG_CTRUNC)


@contextmanager
def _borrowed(fd: int) -> Iterator[socket.socket]:
    """Make a socket object for a descriptor that stays open afterwards."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=fd)
    connection.setblocking(True)
    try:
        yield connection
    finally:
        connection.detach()
