"""The fork server as its clients see it: they start it, ask it for children, and replace it when it has died.

The server imports the main program once for all children (`_core/start/preload.py`), unless
`forkserver_main="cold"` was chosen. A client replaces it when the main program has changed, or when the
server cannot give its children the client's current attributes (`_core/start/process_attributes.py`).

The server reads from one end of a socket pair and its clients hold the other. So there is no address that
other programs could reach or that could be left behind, and the server ends with its last client. It has an
entry of its own in the engine's process table; a child that it forks moves to the entry that the client has
reserved.
"""

from __future__ import annotations

import importlib
import os
import pickle
import select
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

import _procession_alias

from . import _native, spawn
from ._core._typing import Any, NoReturn
from ._core.start import exit_mark as exit_mark
from ._core.start import forkserver_loop as forkserver_loop
from ._core.start import preload
from ._core.start.import_watch import ImportWatch
from ._core.start.interpreter import frozen_command, interpreter_command, package_import, start_interpreter
from ._core.start.launched import reserved_entry
from ._core.start.payload import unpack
from ._core.start.process_attributes import ProcessAttributes, apply_changes, become_user
from ._core.start.tracker import adopt_tracker
from ._core.stdlib import load, util
from ._core.system.fd import anonymous_file

__all__ = ["connect_to_new_process", "ensure_running", "get_inherited_fds", "set_forkserver_preload"]

MAXFDS_TO_SEND = forkserver_loop.MOST_FDS

# The most descriptors that a request needs besides those of the child's arguments.
_OWN_FDS = 12

# How often a request is tried: a killed server is noticed when it is asked, and replaced.
_ATTEMPTS = 3

# What to do about a module that cannot be preloaded.
_ON_ERROR = ("ignore", "warn", "fail")

# The environment variable that chooses between "warm" and "cold", for programs that do not.
MAIN_VARIABLE = "PROCESSION_FORKSERVER_MAIN"


class ForkServer:
    """The fork server of this process: its own child, or one that an ancestor has started."""

    def __init__(self) -> None:
        self._forkserver_pid: int | None = None
        self._proc_id: int | None = None
        self._control: int | None = None
        self._control_identity: tuple[int, ...] | None = None
        self._inherited_fds: list[int] | None = None
        self._preload_modules = ["__main__"]
        self._on_error = "ignore"
        self._main_mode: str | None = None
        # What this process's own server was started with; the servers that were replaced.
        self._key: preload.Key | None = None
        self._server_attributes: ProcessAttributes | None = None
        self._replaced: list[tuple[int, int]] = []
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._after_fork)

    def set_forkserver_preload(self, modules_names: list[str], *, on_error: str = "ignore") -> None:
        """Set the modules that servers started from now on try to import before they fork.

        `on_error` says what a server does about a module that cannot be imported: "ignore", "warn" (issue an
        `ImportWarning`) or "fail" (exit, so that no process can be started).
        """
        if not all(type(name) is str for name in modules_names):
            raise TypeError("module_names must be a list of strings")
        if on_error not in _ON_ERROR:
            raise ValueError(f"on_error must be one of {', '.join(_ON_ERROR)}, not {on_error!r}")
        self._preload_modules = modules_names
        self._on_error = on_error

    def set_main(self, mode: str) -> None:
        """Choose whether the server imports the main program ("warm") or each child does ("cold")."""
        if mode not in preload.MODES:
            raise ValueError(f"forkserver_main must be 'warm' or 'cold', not {mode!r}")
        self._main_mode = mode

    def _mode(self) -> str:
        mode = self._main_mode or _procession_alias.variable(MAIN_VARIABLE) or preload.MODES[0]
        if mode not in preload.MODES:
            raise ValueError(f"{MAIN_VARIABLE} must be 'warm' or 'cold', not {mode!r}")
        return mode

    def get_inherited_fds(self) -> list[int] | None:
        """Return the descriptors that this process got from the server that forked it; None if none did."""
        return self._inherited_fds

    def ensure_running(self) -> None:
        """Start a server, unless this process's or an ancestor's runs."""
        with self._lock:
            self._living_server(ProcessAttributes.of_now())

    def connect_to_new_process(
        self,
        proc_id: int,
        payload: int,
        parent: int,
        lifeline: int | None,
        tracker: list[int],
        fds: list[int],
    ) -> tuple[forkserver_loop.Report, int]:
        """Ask for a child; return the first report on it, and the descriptor on which its end is reported.

        Raises ValueError for too many descriptors, OSError if the server could not fork, and EOFError if it
        died.
        """
        if len(fds) + _OWN_FDS > MAXFDS_TO_SEND:
            raise ValueError("too many fds")
        now = ProcessAttributes.of_now()
        for _ in range(_ATTEMPTS):
            reports, theirs = forkserver_loop.pair()
            with reports:
                with theirs, self._lock, self._changes(now) as (control, changes, standard):
                    try:
                        forkserver_loop.send_request(
                            forkserver_loop.Request(
                                proc_id, payload, parent, control, lifeline, changes, tracker, standard, fds
                            ),
                            theirs,
                        )
                    except ConnectionError:
                        continue
                report = forkserver_loop.receive_report(reports)
                if report is None:
                    _wait_until_abandoned(control)
                elif report.kind == forkserver_loop.REFUSED:
                    raise OSError(report.value, f"the fork server: {os.strerror(report.value)}")
                else:
                    return report, reports.detach()
        raise EOFError("the fork server ended before it started the process; its error output may tell why")

    @contextmanager
    def _changes(self, now: ProcessAttributes) -> Iterator[tuple[int, int | None, list[int]]]:
        """Provide the control socket, a file of the attributes to change, and standard descriptors to send.

        The file is None, and the list empty, if nothing has changed since the server started.
        """
        control = self._living_server(now)
        assert self._server_attributes is not None
        if now == self._server_attributes:
            yield control, None, []
            return
        changes = now.changes_since(self._server_attributes)
        standard = [fd for fd, identity in enumerate(changes.get("standard", ())) if identity is not None]
        with _written(changes) as file:
            yield control, file.fileno(), standard

    def _living_server(self, now: ProcessAttributes) -> int:
        key = preload.Key.of_now(self._mode())
        if self._control is not None:
            assert self._server_attributes is not None
            if _native.identity_of(self._control) != self._control_identity:
                # The program has closed the descriptor: the number no longer refers to this server.
                self._detach_server()
            elif _is_abandoned(self._control):
                self._close_server()
            elif self._is_outdated(key) or now.needs_new_server(self._server_attributes):
                os.close(self._control)
                self._detach_server()
            else:
                return self._control
        ours, theirs = forkserver_loop.pair()
        with ours, theirs:
            self._start(theirs.fileno(), key.mode, now)
            self._hold(ours.detach())
        self._key = key
        assert self._control is not None
        return self._control

    def _is_outdated(self, key: preload.Key) -> bool:
        return self._forkserver_pid is not None and self._key is not None and self._key.is_outdated_by(key)

    def _hold(self, control: int) -> None:
        self._control = control
        self._control_identity = _native.identity_of(control)

    def _start(self, control: int, mode: str, now: ProcessAttributes) -> None:
        modules = [name for name in self._preload_modules if mode == "warm" or name != "__main__"]
        settings = preload.settings_of_main() if modules else {}
        with reserved_entry() as proc_id:
            self._server_attributes = now.snapshot()
            config = ServerConfig(modules, self._on_error, settings, self._server_attributes)
            handshake, descriptors = _native.offer_handshake(proc_id, False)
            try:
                with _written(tuple(config)) as file:
                    command = _command(control, file.fileno(), handshake)
                    pid = start_interpreter(command, [control, file.fileno(), *descriptors])
            finally:
                util.close_fds(*descriptors)
        _native.set_pid(proc_id, pid)
        self._forkserver_pid, self._proc_id = pid, proc_id
        self._reap_replaced()

    def _detach_server(self) -> None:
        """Use the server no more; it ends when its children have no use for it."""
        if self._forkserver_pid is not None and self._proc_id is not None:
            self._replaced.append((self._forkserver_pid, self._proc_id))
        self._control = self._forkserver_pid = self._proc_id = None

    def _reap_replaced(self) -> None:
        for pid, proc_id in list(self._replaced):
            try:
                ended, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended = pid
            if ended:
                self._replaced.remove((pid, proc_id))
                _native.reap(proc_id)

    def _close_server(self) -> None:
        """Close the connection to the server; if it is this process's child, wait until it ends.

        It ends when its other clients have closed their connections too.
        """
        if self._control is not None:
            os.close(self._control)
            self._control = None
        if self._forkserver_pid is not None:
            try:
                os.waitpid(self._forkserver_pid, 0)
            except ChildProcessError:
                pass
            self._forkserver_pid = None
        if self._proc_id is not None:
            _native.reap(self._proc_id)
            self._proc_id = None

    def _stop(self) -> None:
        with self._lock:
            if self._forkserver_pid is not None:
                self._close_server()
            self._reap_replaced()

    def _after_fork(self) -> None:
        """A forked child uses the server that it inherits, but is not that server's parent."""
        self._lock = threading.Lock()
        self._forkserver_pid = self._proc_id = None
        self._replaced = []

    def _adopt(self, request: forkserver_loop.Request) -> None:
        """In a child of the server: keep the descriptors it was given, and the control socket."""
        self._hold(request.control)
        self._inherited_fds = request.others


def _is_abandoned(control: int, timeout_ms: int = 0) -> bool:
    """Return whether the other end is closed in all processes."""
    poller = select.poll()
    poller.register(control, 0)
    return bool(poller.poll(timeout_ms))


def _wait_until_abandoned(control: int) -> None:
    """Wait until a dying server has closed its end: it closes its descriptors one by one."""
    _is_abandoned(control, timeout_ms=1000)


class ServerConfig(NamedTuple):
    """What a new server reads from a file: `sys.argv` and `sys.path` may be too long for a command line."""

    preload: list[str]
    on_error: str
    settings: dict[str, Any]
    attributes: ProcessAttributes


def _written(data: object) -> IO[bytes]:
    file: IO[bytes] = anonymous_file("procession-server")
    pickle.dump(data, file)
    file.seek(0)
    return file


def _command(control: int, config_fd: int, handshake: str) -> list[str]:
    """Return the command line of a server whose `main` gets these arguments.

    It contains the name of the stdlib's module, by which programs recognise fork servers.
    """
    if getattr(sys, "frozen", False):
        return frozen_command(spawn.SERVER_FLAG, str(control), str(config_fd), handshake)
    call = f"main({control}, {config_fd}, {handshake!r})  # multiprocessing.forkserver"
    program = package_import(f"from procession.forkserver import main; {call}")
    return [*interpreter_command(), program]


def main(control: int, config_fd: int, handshake: str) -> None:
    """The main function of the fork server."""
    os.set_inheritable(control, False)
    _native.fill_standard_numbers()
    with os.fdopen(config_fd, "rb") as file:
        config = ServerConfig(*pickle.load(file))
    spawn.join_tree(handshake)
    _forkserver._server_attributes = config.attributes
    _apply_settings(config.settings)
    # Exit functions that the program registers from here on are for the children and not for the server.
    # Importing the contexts has registered the package's own.
    importlib.import_module("procession.context")
    exit_mark.unregister()
    if "__main__" in config.preload:
        _import_main(control, config)
    for name in config.preload:
        _preload(name, config.on_error)
    # Each child adopts its parent's tracker, and finds the module loaded.
    load("resource_tracker")
    util._close_stdin()
    util._flush_std_streams()
    # Keep the children's garbage collectors from touching, and so copying, shared objects.
    spawn.freeze_gc()
    forkserver_loop.Server(control, _role_of).run()
    exit_mark.register_alone()


def _import_main(control: int, config: ServerConfig) -> None:
    before = preload.ForkUnsafeState.of_now()
    with ImportWatch() as watch:
        preload.import_main(config.settings)
    others = [name for name in config.preload if name != "__main__"]
    if acquired := preload.ForkUnsafeState.of_now().acquired_since(before):
        reason = f"importing the main program left {acquired}, which a fork would break"
    elif watch.noticed:
        reason = f"the main program asks for {watch.noticed} when it is imported"
        # Each child imports the main program; the libraries that this needs are preloaded.
        others += [name for name in watch.libraries() if name not in others]
    else:
        return
    _log_as_the_program_does(config.settings)
    util.sub_warning("%s: processes start cold", reason)
    _start_over(control, config._replace(preload=others))


def _apply_settings(settings: dict[str, Any]) -> None:
    """Set the path, the arguments and the directory that the main program expects."""
    if "sys_path" in settings:
        sys.path[:] = settings["sys_path"]
    if "sys_argv" in settings:
        sys.argv[:] = settings["sys_argv"]
    if "dir" in settings:
        os.chdir(settings["dir"])


def _log_as_the_program_does(settings: dict[str, Any]) -> None:
    # Only when there is something to log: children would inherit the handler and add another.
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


def _start_over(control: int, config: ServerConfig) -> NoReturn:
    """Become a fresh interpreter with the same clients, and a new process-table entry.

    The engine treats exec as the death of the old one.
    """
    proc_id = _native.reserve_entry()
    _native.set_pid(proc_id, os.getpid())
    handshake, descriptors = _native.offer_handshake(proc_id, False)
    config_fd = _written(tuple(config))
    for fd in (control, config_fd.fileno(), *descriptors):
        os.set_inheritable(fd, True)
    command = _command(control, config_fd.fileno(), handshake)
    os.execv(command[0], command)


def _role_of(request: forkserver_loop.Request) -> tuple[Any, int]:
    """In a child: apply the request; return the process object to run, and its parent's sentinel."""
    _forkserver._adopt(request)
    changes: dict[str, Any] = {}
    if request.changes is not None:
        with os.fdopen(request.changes, "rb") as file:
            changes = pickle.load(file)
        apply_changes(changes, request.standard)
    if request.lifeline is not None:
        _native.die_with_parent(request.lifeline)
        os.close(request.lifeline)
    adopt_tracker(request.tracker)
    preload.reseed()
    process_obj = unpack(request.payload)
    become_user(changes)
    return process_obj, request.parent


_forkserver = ForkServer()
connect_to_new_process = _forkserver.connect_to_new_process
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
set_forkserver_preload = _forkserver.set_forkserver_preload
