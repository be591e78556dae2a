"""Rust functions as processes of a Python program.

The Rust program exports functions by name, with the crate `procession` and its feature `python`:

    fn square(n: i64) -> i64 {
        n * n
    }

    fn main() {
        procession::python::export!(square);
        procession::init();
    }

Python starts them:

    from procession.rust import Process

    process = Process("target/release/program", "square", args=(4,))
    process.start()
    assert process.result() == 16

Arguments and results are plain data: None, bool, int, float, str, bytes, lists, tuples, sets and dicts. A
sequence or a set that Rust returns arrives as a list. Arguments may also be, or contain, queues, events and
locks of this package; a queue between Python and Rust carries plain data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from ._core._typing import Any, NoReturn
from ._core.fallback import choice
from ._core.rust.errors import Panic, RustError
from ._core.start.startable_process import StartableProcess
from .context import TimeoutError

__all__ = ["Panic", "Process", "RustError"]


class Process(StartableProcess):
    """A process that runs a function of a Rust program."""

    _start_method = None

    def __init__(
        self,
        executable: str | os.PathLike[str],
        function: str,
        args: Iterable[Any] = (),
        *,
        name: str | None = None,
        daemon: bool | None = None,
        argv: Iterable[str] = (),
        env: Mapping[str, str | None] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> None:
        """Prepare a process that calls `function(*args)`, which the executable exports.

        `executable` is a path, or a name to find in PATH. `argv` are arguments of the program itself. `env`
        changes variables of its environment; None removes one. `cwd` is its working directory. Raises
        NotImplementedError where the engine does not run.
        """
        if choice.reason is not None:
            raise choice.needs_engine("procession.rust.Process")
        super().__init__(name=name, args=args, daemon=daemon)
        self._executable = os.fsdecode(executable)
        self._function = function
        self._argv = list(argv)
        self._env = dict(env or {})
        self._cwd = None if cwd is None else os.fsdecode(cwd)

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from ._core.rust.popen import Popen

        _register_classes()
        return Popen(process_obj)

    def _environment(self) -> Iterator[tuple[str, str]]:
        for name, value in {**os.environ, **self._env}.items():
            if value is not None:
                yield name, value

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the process to end, and return what its function returned.

        Raises Panic if the function panicked, RustError if it could not be called or not with these
        arguments, WorkerDied if the process ended before the function returned, and TimeoutError if it still
        runs after `timeout` seconds.
        """
        self.join(timeout)
        if self._popen.poll() is None:
            raise TimeoutError(f"{self.name} has not ended yet")
        return self._popen.result()

    def run(self) -> None:
        """Raise NotImplementedError: the Rust function runs in the process that `start` starts."""
        raise NotImplementedError("a Rust function runs in a process of its own: call start()")


def main(error_fd: int, handshake: str) -> NoReturn:
    """The main function of an interpreter that a Rust program started: call one function and report.

    `handshake` is the text by which it joins the program's process tree. Errors that cannot be sent as a
    response are written to the descriptor `error_fd`.
    """
    from ._core.rust.called import main

    _register_classes()
    main(error_fd, handshake)


def _register_classes() -> None:
    """Register the classes that Rust shares; their modules are loaded only when a process starts."""
    from . import queues, synchronize
    from ._core.rust import common_values

    common_values.register(
        Queue=queues.Queue, Event=synchronize.Event, Lock=synchronize.Lock, RLock=synchronize.RLock
    )
