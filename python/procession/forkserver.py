"""The fork server as its clients see it: started, asked for children, and replaced when it has died.

It is a warm template: the main program is imported there once (`_core/template.py`), unless
`forkserver_main="cold"` was chosen. A server whose main program was changed since is replaced, too.

The server listens on one end of a socket pair and its clients hold the other: there is no address that
others could reach or that could be left behind, and the server ends with its last client. It is a process
of the engine's arena with a seat of its own; a child it forks moves to the seat that its parent reserved.
"""

from __future__ import annotations

import os
import pickle
import select
import sys
import threading
import warnings
from typing import IO, NamedTuple

from . import _engine, spawn
from ._core import serving, template
from ._core.hints import Any, NoReturn
from ._core.payload import unpack
from ._core.refusals import anonymous_file
from ._core.stdlib import load, util

resource_tracker = load("resource_tracker")

__all__ = ["connect_to_new_process", "ensure_running", "get_inherited_fds", "set_forkserver_preload"]

MAXFDS_TO_SEND = serving.MOST_FDS

# What a request needs besides the descriptors that travel for the child's arguments.
_OWN_FDS = 6

# A server that was killed is found out by asking it; one that dies at once, again and again, is given up.
_ATTEMPTS = 3

# What to do about a module that cannot be preloaded.
_ON_ERROR = ("ignore", "warn", "fail")

# The environment's choice between a warm and a cold start, for programs that make none.
MAIN_VARIABLE = "PROCESSION_FORKSERVER_MAIN"


class ForkServer:
    """The fork server of this process: its own child, or one that an ancestor started."""

    def __init__(self) -> None:
        self._forkserver_pid: int | None = None
        self._seat: int | None = None
        self._control: int | None = None
        self._inherited_fds: list[int] | None = None
        self._preload_modules = ["__main__"]
        self._on_error = "ignore"
        self._main_mode: str | None = None
        # What the server of this process's own was made of, and those that were replaced.
        self._key: template.Key | None = None
        self._replaced: list[tuple[int, int]] = []
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._after_fork)

    def set_forkserver_preload(self, modules_names: list[str], *, on_error: str = "ignore") -> None:
        """Name the modules that a server started from now on tries to import before it forks.

        If one cannot be imported, `on_error` says whether the server ignores that, issues an
        `ImportWarning`, or fails, so that no process can be started.
        """
        if not all(type(name) is str for name in modules_names):
            raise TypeError("module_names must be a list of strings")
        if on_error not in _ON_ERROR:
            raise ValueError(f"on_error must be one of {', '.join(_ON_ERROR)}, not {on_error!r}")
        self._preload_modules = modules_names
        self._on_error = on_error

    def set_main(self, mode: str) -> None:
        """Choose whether the server imports the main program for all children, or each for itself."""
        if mode not in template.MODES:
            raise ValueError(f"forkserver_main must be 'warm' or 'cold', not {mode!r}")
        self._main_mode = mode

    def _mode(self) -> str:
        mode = self._main_mode or os.environ.get(MAIN_VARIABLE) or template.MODES[0]
        if mode not in template.MODES:
            raise ValueError(f"{MAIN_VARIABLE} must be 'warm' or 'cold', not {mode!r}")
        return mode

    def get_inherited_fds(self) -> list[int] | None:
        """Return the descriptors this process was given by the server that forked it; None if none did."""
        return self._inherited_fds

    def ensure_running(self) -> None:
        """Start the server unless one lives, be it an ancestor's."""
        with self._lock:
            self._living_server()

    def connect_to_new_process(
        self,
        seat: int,
        payload: int,
        parent: int,
        lifeline: int | None,
        tracker: int | None,
        fds: list[int],
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
                            serving.Request(seat, payload, parent, control, lifeline, tracker, fds), theirs
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
        key = template.Key.of_now(self._mode())
        if self._control is not None:
            if _is_abandoned(self._control):
                self._forget()
            elif self._forkserver_pid is None or self._key == key:
                return self._control
            else:
                self._replace()
        ours, theirs = serving.pair()
        with ours, theirs:
            self._start(theirs.fileno(), key.mode)
            self._control = ours.detach()
        self._key = key
        return self._control

    def _start(self, control: int, mode: str) -> None:
        preload = [name for name in self._preload_modules if mode == "warm" or name != "__main__"]
        settings = template.settings_of_main() if preload else {}
        seat = _engine.reserve_seat()
        try:
            arena = _engine.arena_fd()
            with _written(Orders(preload, self._on_error, settings)) as orders:
                command = _command(control, arena, seat, orders.fileno())
                pid = util.spawnv_passfds(command[0], command, [control, arena, orders.fileno()])
        except BaseException:
            _engine.release_seat(seat)
            raise
        _engine.note_pid(seat, pid)
        self._forkserver_pid, self._seat = pid, seat
        self._reap_replaced()

    def _replace(self) -> None:
        """Let go of a server that lives on while children of it do."""
        assert self._control is not None and self._forkserver_pid is not None and self._seat is not None
        os.close(self._control)
        self._replaced.append((self._forkserver_pid, self._seat))
        self._control = self._forkserver_pid = self._seat = None

    def _reap_replaced(self) -> None:
        for pid, seat in list(self._replaced):
            try:
                ended, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended = pid
            if ended:
                self._replaced.remove((pid, seat))
                _engine.bury(seat)

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
            self._reap_replaced()

    def _after_fork(self) -> None:
        """A forked child goes on with the server it inherits, but is not that server's parent."""
        self._lock = threading.Lock()
        self._forkserver_pid = self._seat = None
        self._replaced = []

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


class Orders(NamedTuple):
    """What a server is told in a file: `sys.argv` and `sys.path` may be longer than a command line."""

    preload: list[str]
    on_error: str
    settings: dict[str, Any]


def _written(orders: Orders) -> IO[bytes]:
    file: IO[bytes] = anonymous_file("procession-server")
    pickle.dump(tuple(orders), file)
    file.seek(0)
    return file


def _command(*arguments: int) -> list[str]:
    """The command line of a server that is passed these descriptors, and its seat.

    It names the stdlib's module, by which programs tell fork servers from other children.
    """
    call = f"main({', '.join(map(str, arguments))})  # multiprocessing.forkserver"
    program = spawn.package_import(f"from procession.forkserver import main; {call}")
    return [*spawn.interpreter_command(), program]


def main(control: int, arena: int, seat: int, orders: int) -> None:
    """The whole life of the fork server."""
    for fd in (control, arena):
        os.set_inheritable(fd, False)
    with os.fdopen(orders, "rb") as file:
        preload, on_error, settings = Orders(*pickle.load(file))
    _engine.enter(arena, seat)
    _settle_in(settings)
    before = template.Belongings.of_now()
    if "__main__" in preload:
        template.import_main(settings)
        if acquired := template.Belongings.of_now().acquired_since(before):
            _log_as_the_program_does(settings)
            util.sub_warning(
                "importing the main program left %s, which a fork would break: processes start cold",
                acquired,
            )
            others = [name for name in preload if name != "__main__"]
            _start_over(control, others, on_error, settings)
    for name in preload:
        _preload(name, on_error)
    util._close_stdin()
    util._flush_std_streams()
    # The children's collectors are not to touch, and so to copy, what they all share.
    spawn.settle()
    serving.Server(control, _role_of).run()


def _settle_in(settings: dict[str, Any]) -> None:
    """Be what the main program expects around it."""
    if "sys_path" in settings:
        sys.path[:] = settings["sys_path"]
    if "sys_argv" in settings:
        sys.argv[:] = settings["sys_argv"]
    if "dir" in settings:
        os.chdir(settings["dir"])


def _log_as_the_program_does(settings: dict[str, Any]) -> None:
    # Not before there is something to log: children would inherit a handler and add another.
    if settings.get("log_to_stderr"):
        util.log_to_stderr()
    if "log_level" in settings:
        util.get_logger().setLevel(settings["log_level"])


def _preload(name: str, on_error: str) -> None:
    try:
        __import__(name)
    except ImportError as error:
        if on_error == "fail":
            raise
        if on_error == "warn":
            warnings.warn(f"the fork server could not preload {name!r}: {error}", ImportWarning, stacklevel=1)


def _start_over(control: int, preload: list[str], on_error: str, settings: dict[str, Any]) -> NoReturn:
    """Become a fresh interpreter, with the same clients; the engine takes that for a death."""
    arena, seat = _engine.arena_fd(), _engine.reserve_seat()
    _engine.note_pid(seat, os.getpid())
    orders = _written(Orders(preload, on_error, settings))
    for fd in (control, arena, orders.fileno()):
        os.set_inheritable(fd, True)
    command = _command(control, arena, seat, orders.fileno())
    os.execv(command[0], command)


def _role_of(request: serving.Request) -> tuple[Any, int]:
    """In a child: what it is to be."""
    _forkserver._adopt(request)
    if request.lifeline is not None:
        _engine.hang_on(request.lifeline)
        os.close(request.lifeline)
    resource_tracker._resource_tracker._fd = request.tracker
    template.reseed()
    return unpack(request.payload), request.parent


_forkserver = ForkServer()
connect_to_new_process = _forkserver.connect_to_new_process
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
set_forkserver_preload = _forkserver.set_forkserver_preload
