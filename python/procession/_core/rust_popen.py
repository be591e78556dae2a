"""A child that is a Rust program with the engine in it.

It is summoned as the engine summons all programs that are not forked: a variable of its environment names the
arena, the seat and the line, a queue in which the order lies. The crate answers there.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
from queue import Empty

from procession import _native, popen_fork

from . import common_values
from .errors import WorkerDied
from .hints import Any
from .refusals import anonymous_file
from .rust_errors import Panic, RustError
from .ties import is_tied

__all__ = ["Popen"]

# What every program with the engine in it has somewhere in its file.
_MARK = b"PROCESSION_CHILD"
_ELF = b"\x7fELF"

# A program that was built without the feature says so in the form that Rust's processes use.
_REFUSED_IN_RUST = b"\x03"

_HOW_TO = (
    "a program that Python starts depends on the crate procession with the feature 'python', and calls "
    "procession::init() first thing in main()"
)


class Popen(popen_fork.Popen):
    """One started program."""

    method = "rust"

    def __init__(self, process_obj: Any) -> None:
        self._line: _native.Queue[Any] = _native.Queue()
        self._answer: dict[str, Any] | None = None
        self._function: str = process_obj._function
        self._executable: str = located(process_obj._executable)
        super().__init__(process_obj)

    def _launch(self, process_obj: Any) -> None:
        # What cannot be an argument or a variable is refused before there is anything to give back.
        command = [os.fsdecode(part) for part in (self._executable, *process_obj._argv)]
        environment = [(os.fsdecode(key), os.fsdecode(value)) for key, value in process_obj._environment()]
        if process_obj._cwd is not None and not os.path.isdir(process_obj._cwd):
            raise NotADirectoryError(errno.ENOTDIR, "a process cannot start there", process_obj._cwd)
        self._complaints = _anonymous("procession-complaints")
        seat = self.seat = _native.reserve_entry()
        try:
            _native.hold_for(seat, self._line.handle)
            self._line.put_bytes(self._order(process_obj, seat))
            complaint = os.dup(self._complaints)
        except BaseException:
            _native.release_entry(seat)
            os.close(self._complaints)
            raise
        try:
            pid = _native.launch(
                command,
                environment,
                process_obj._cwd,
                proc_id=seat,
                error_pipe=complaint,
                die_with_parent=is_tied(process_obj),
                tag=self._line.handle.hex(),
            )
            self._watch(pid)
        except BaseException:
            os.close(self._complaints)
            raise

    def _own(self, sentinel: int, *others: int) -> None:
        super()._own(sentinel, self._complaints, *others)

    def _order(self, process_obj: Any, seat: int) -> bytes:
        args = tuple(process_obj._args)
        encoded = common_values.plain(args)
        if encoded is None:
            args = common_values.lent(args, seat)
            encoded = common_values.plain(args)
        if encoded is None:
            raise TypeError(
                f"{common_values.what_is_not_plain(args)} cannot be an argument of a Rust function; it can "
                f"take {common_values.PLAIN_DATA}, and a Queue, an Event, a Lock or an RLock"
            )
        order = {"name": process_obj.name, "function": self._function, "args": encoded}
        message = common_values.plain(order)
        if message is None:
            raise ValueError(f"{common_values.what_is_not_plain(order)} cannot be the name of a function")
        return message

    def result(self) -> Any:
        """What the function of a process that has ended returned; raises what it failed with."""
        if self._answer is None:
            self._answer = self._last_words()
        match self._answer:
            case {"returned": value}:
                return _native.loads(value)
            case {"panicked": panic}:
                raise Panic(**panic)
            case {"refused": reason}:
                raise RustError(reason)
        raise WorkerDied(
            f"process {self.pid} {_end_of(self.returncode)} before {self._function} returned",
            pid=self.pid,
            exitcode=self.returncode,
            task=self._function,
        )

    def _last_words(self) -> dict[str, Any]:
        took_its_order = True
        while True:
            try:
                message = self._line.get_bytes(False)
            except Empty:
                break
            if message.startswith(_REFUSED_IN_RUST):
                return {"refused": message[1:].decode(errors="replace")}
            said: dict[str, Any] = _native.loads(message)
            if "function" not in said:
                return said
            took_its_order = False
        if complaint := os.pread(self._complaints, 1 << 16, 0):
            return {"refused": f"{self._executable}: {complaint.decode(errors='replace')}"}
        if took_its_order or (self.returncode or 0) < 0:
            return {}
        return {
            "refused": f"{self._executable} exited with status {self.returncode} and did not look at what it "
            f"was started for; {_HOW_TO}"
        }


def _anonymous(name: str) -> int:
    with anonymous_file(name) as file:
        return os.dup(file.fileno())


def _end_of(code: int | None) -> str:
    return f"was killed by signal {-code}" if code is not None and code < 0 else f"exited with status {code}"


def located(executable: str) -> str:
    """The path of an executable, which is looked for as a shell does; an error if Python can't start it."""
    path = shutil.which(executable)
    if path is None:
        number = errno.EACCES if os.path.exists(executable) else errno.ENOENT
        raise OSError(number, os.strerror(number), executable)
    path = os.path.abspath(path)
    if not _may_be_ours(path):
        raise RustError(f"{path} has nothing of Procession in it; {_HOW_TO}")
    return path


def _may_be_ours(path: str) -> bool:
    """False for a program without the engine, which would do what it does for anybody, perhaps for ever."""
    if not os.access(path, os.R_OK):
        return True
    with open(path, "rb") as file:
        if file.read(len(_ELF)) != _ELF:
            # A script, say, that runs the program in the end.
            return True
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(_MARK) >= 0
