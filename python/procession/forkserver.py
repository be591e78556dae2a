"""The fork server as its clients see it: started, asked for children, and replaced when it has died.

The server listens on one end of a socket pair and its clients hold the other: there is no address that
others could reach or that could be left behind, and the server ends with its last client. It is a process
of the engine's arena with a seat of its own; a child it forks moves to the seat that its parent reserved.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from typing import Any

from . import _engine, spawn
from ._core import serving
from ._core.stdlib import process, resource_tracker, util
from ._core.stdlib import spawn as _std_spawn

__all__ = ["connect_to_new_process", "ensure_running", "get_inherited_fds", "set_forkserver_preload"]

MAXFDS_TO_SEND = serving.MOST_FDS

# What a request needs besides the descriptors that travel for the child's arguments.
_OWN_FDS = 5

# A server that was killed is found out by asking it; one that dies at once, again and again, is given up.
_ATTEMPTS = 3

_PREPARED_IN_SERVER = ("init_main_from_name", "init_main_from_path", "sys_argv", "sys_path")


class ForkServer:
    """The fork server of this process: its own child, or one that an ancestor started."""

    def __init__(self) -> None:
        self._forkserver_pid: int | None = None
        self._seat: int | None = None
        self._control: int | None = None
        self._inherited_fds: list[int] | None = None
        self._preload_modules = ["__main__"]
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._after_fork)

    def set_forkserver_preload(self, modules_names: list[str]) -> None:
        """Name the modules that a server started from now on tries to import before it forks."""
        if not all(type(name) is str for name in modules_names):
            raise TypeError("module_names must be a list of strings")
        self._preload_modules = modules_names

    def get_inherited_fds(self) -> list[int] | None:
        """Return the descriptors this process was given by the server that forked it; None if none did."""
        return self._inherited_fds

    def ensure_running(self) -> None:
        """Start the server unless one lives, be it an ancestor's."""
        with self._lock:
            self._living_server()

    def connect_to_new_process(
        self, seat: int, payload: int, parent: int, tracker: int | None, fds: list[int]
    ) -> tuple[serving.Report, int]:
        """Ask for a child; return the first report on it, and the descriptor on which its end is reported."""
        if len(fds) + _OWN_FDS > MAXFDS_TO_SEND:
            raise ValueError("too many fds")
        for _ in range(_ATTEMPTS):
            reports, theirs = serving.pair()
            with reports:
                with theirs, self._lock:
                    control = self._living_server()
                    try:
                        serving.send_request(
                            serving.Request(seat, payload, parent, control, tracker, fds), theirs
                        )
                    except ConnectionError:
                        continue
                report = serving.receive_report(reports)
                if report is None:
                    _wait_until_abandoned(control)
                elif report.kind == serving.REFUSED:
                    raise OSError(report.value, f"the fork server: {os.strerror(report.value)}")
                else:
                    return report, reports.detach()
        raise EOFError("the fork server ended before it started the process; its error output may tell why")

    def _living_server(self) -> int:
        if self._control is not None:
            if not _is_abandoned(self._control):
                return self._control
            self._forget()
        ours, theirs = serving.pair()
        with ours, theirs:
            self._start(theirs.fileno())
            self._control = ours.detach()
        return self._control

    def _start(self, control: int) -> None:
        settings: dict[str, Any] = {}
        if self._preload_modules:
            data = _std_spawn.get_preparation_data("ignore")
            settings = {name: data[name] for name in _PREPARED_IN_SERVER if name in data}
        seat = _engine.reserve_seat()
        try:
            arena = _engine.arena_fd()
            arguments = f"{control}, {arena}, {seat}, {self._preload_modules!r}, **{settings!r}"
            program = spawn.package_import(f"from procession.forkserver import main; main({arguments})")
            executable = _std_spawn.get_executable()
            command = [executable, *util._args_from_interpreter_flags(), "-c", program]
            pid = util.spawnv_passfds(executable, command, [control, arena])
        except BaseException:
            _engine.release_seat(seat)
            raise
        _engine.note_pid(seat, pid)
        self._forkserver_pid, self._seat = pid, seat

    def _forget(self) -> None:
        """Let go of the server; if it is this process's child, wait for its end, which others may put off."""
        if self._control is not None:
            os.close(self._control)
            self._control = None
        if self._forkserver_pid is not None:
            try:
                os.waitpid(self._forkserver_pid, 0)
            except ChildProcessError:
                pass
            self._forkserver_pid = None
        if self._seat is not None:
            _engine.bury(self._seat)
            self._seat = None

    def _stop(self) -> None:
        with self._lock:
            if self._forkserver_pid is not None:
                self._forget()

    def _after_fork(self) -> None:
        """A forked child goes on with the server it inherits, but is not that server's parent."""
        self._lock = threading.Lock()
        self._forkserver_pid = self._seat = None

    def _adopt(self, request: serving.Request) -> None:
        """In a child of the server: what it was given, and the way to ask for children of its own."""
        self._control = request.control
        self._inherited_fds = request.others


def _is_abandoned(control: int, timeout_ms: int = 0) -> bool:
    """Whether nobody is at the other end any more."""
    poller = select.poll()
    poller.register(control, 0)
    return bool(poller.poll(timeout_ms))


def _wait_until_abandoned(control: int) -> None:
    """A dying server closes its descriptors one by one; do not mistake it for a living one."""
    _is_abandoned(control, timeout_ms=1000)


def main(control: int, arena: int, seat: int, preload: list[str], **prepared: Any) -> None:
    """The whole life of the fork server."""
    for fd in (control, arena):
        os.set_inheritable(fd, False)
    _engine.enter(arena, seat)
    if "sys_path" in prepared:
        sys.path[:] = prepared["sys_path"]
    if "sys_argv" in prepared:
        sys.argv[:] = prepared["sys_argv"]
    if "__main__" in preload:
        _preload_main(prepared)
    for name in preload:
        try:
            __import__(name)
        except ImportError:
            pass
    util._close_stdin()
    util._flush_std_streams()
    serving.Server(control, _run_child).run()


def _preload_main(prepared: dict[str, Any]) -> None:
    """Import the main program once for all children; one that fails here fails in the child, visibly."""
    current: Any = process.current_process()
    current._inheriting = True
    try:
        if "init_main_from_name" in prepared:
            _std_spawn._fixup_main_from_name(prepared["init_main_from_name"])
        elif "init_main_from_path" in prepared:
            _std_spawn._fixup_main_from_path(prepared["init_main_from_path"])
    except (Exception, SystemExit):
        pass
    finally:
        del current._inheriting


def _run_child(request: serving.Request) -> int:
    _forkserver._adopt(request)
    resource_tracker._resource_tracker._fd = request.tracker
    return spawn._main(request.payload, request.parent)


_forkserver = ForkServer()
connect_to_new_process = _forkserver.connect_to_new_process
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
set_forkserver_preload = _forkserver.set_forkserver_preload
