"""A child that is a Rust program with the engine in it.

A variable of its environment has its handshake, which names the queue in which the request waits. The crate
puts its response into that queue.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
from queue import Empty

from procession import _native
from procession._native import KnownFd

from .._typing import Any
from ..errors import WorkerDied
from ..start.launched import LaunchedChild
from ..start.parent_death import dies_with_parent
from ..system.fd import anonymous_file
from . import common_values
from .errors import Panic, RustError

__all__ = ["Popen"]

# Bytes that every program with the engine has somewhere in its file.
_MARK = b"PROCESSION_CHILD"
_ELF = b"\x7fELF"

# A program built without the feature `python` answers in the format of Rust's own processes.
_REFUSED_IN_RUST = b"\x03"

_HOW_TO = (
    "a program that Python starts depends on the crate procession with the feature 'python', and calls "
    "procession::init() first thing in main()"
)


class Popen(LaunchedChild):
    """One started program."""

    method = "rust"

    def __init__(self, process_obj: Any) -> None:
        self._queue: _native.Queue[Any] = _native.Queue()
        self._response: dict[str, Any] | None = None
        self._function: str = process_obj._function
        self._executable: str = find_program(process_obj._executable)
        super().__init__(process_obj)

    def _start(self, process_obj: Any, proc_id: int) -> int:
        command = [os.fsdecode(part) for part in (self._executable, *process_obj._argv)]
        environment = [(os.fsdecode(key), os.fsdecode(value)) for key, value in process_obj._environment()]
        if process_obj._cwd is not None and not os.path.isdir(process_obj._cwd):
            raise NotADirectoryError(errno.ENOTDIR, "a process cannot start there", process_obj._cwd)
        _native.hold_for(proc_id, self._queue.handle)
        self._queue.put_bytes(self._request(process_obj, proc_id))
        self._error_file = _anonymous("procession-errors")
        try:
            return _native.launch(
                command,
                environment,
                process_obj._cwd,
                proc_id=proc_id,
                error_pipe=os.dup(self._error_file),
                die_with_parent=dies_with_parent(process_obj),
                tag=self._queue.handle.hex(),
            )
        except BaseException:
            os.close(self._error_file)
            raise

    def _take_charge(self, started: int) -> None:
        try:
            self._watch(started)
        except BaseException:
            os.close(self._error_file)
            raise

    def _own(self, sentinel: KnownFd, *others: KnownFd) -> None:
        super()._own(sentinel, KnownFd(self._error_file), *others)

    def _request(self, process_obj: Any, proc_id: int) -> bytes:
        args = tuple(process_obj._args)
        encoded = common_values.plain(args)
        if encoded is None:
            args = common_values.share(args, proc_id)
            encoded = common_values.plain(args)
        if encoded is None:
            raise TypeError(
                f"{common_values.what_is_not_plain(args)} cannot be an argument of a Rust function; it can "
                f"take {common_values.PLAIN_DATA}, and a Queue, an Event, a Lock or an RLock"
            )
        request = {"name": process_obj.name, "function": self._function, "args": encoded}
        message = common_values.plain(request)
        if message is None:
            raise ValueError(f"{common_values.what_is_not_plain(request)} cannot be the name of a function")
        return message

    def result(self) -> Any:
        """Return what the function of an ended process returned, or raise the error it failed with."""
        if self._response is None:
            self._response = self._read_response()
        match self._response:
            case {"returned": value}:
                return _native.loads(value)
            case {"panicked": panic}:
                raise Panic(**panic)
            case {"refused": reason}:
                raise RustError(reason)
        raise WorkerDied(
            f"process {self.pid} {_describe_end(self.returncode)} before {self._function} returned",
            pid=self.pid,
            exitcode=self.returncode,
            task=self._function,
        )

    def _read_response(self) -> dict[str, Any]:
        took_request = True
        while True:
            try:
                message = self._queue.get_bytes(False)
            except Empty:
                break
            if message.startswith(_REFUSED_IN_RUST):
                return {"refused": message[1:].decode(errors="replace")}
            said: dict[str, Any] = _native.loads(message)
            if "function" not in said:
                return said
            took_request = False
        if error := os.pread(self._error_file, 1 << 16, 0):
            return {"refused": f"{self._executable}: {error.decode(errors='replace')}"}
        if took_request or (self.returncode or 0) < 0:
            return {}
        return {
            "refused": f"{self._executable} exited with status {self.returncode} and did not look at what it "
            f"was started for; {_HOW_TO}"
        }


def _anonymous(name: str) -> int:
    with anonymous_file(name) as file:
        return os.dup(file.fileno())


def _describe_end(code: int | None) -> str:
    return f"was killed by signal {-code}" if code is not None and code < 0 else f"exited with status {code}"


def find_program(executable: str) -> str:
    """Return the path of an executable, found as a shell finds it.

    Raises OSError if there is none, and RustError if it has nothing of the engine in it.
    """
    path = shutil.which(executable)
    if path is None:
        number = errno.EACCES if os.path.exists(executable) else errno.ENOENT
        raise OSError(number, os.strerror(number), executable)
    path = os.path.abspath(path)
    if not _may_have_engine(path):
        raise RustError(f"{path} has nothing of Procession in it; {_HOW_TO}")
    return path


def _may_have_engine(path: str) -> bool:
    """Return False for a program without the engine, which would ignore the request and perhaps never end."""
    if not os.access(path, os.R_OK):
        return True
    with open(path, "rb") as file:
        if file.read(len(_ELF)) != _ELF:
            # For example a script that runs the program in the end.
            return True
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(_MARK) >= 0
